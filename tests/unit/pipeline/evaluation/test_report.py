"""What answers say, against numbers found by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.config.evaluation import Mode
from pipeline.evaluation.comparison import Other
from pipeline.evaluation.markdown import page
from pipeline.evaluation.plan import PlannedCell, SampleTarget
from pipeline.evaluation.plots import plot_accuracy, plot_compute
from pipeline.evaluation.report import BenchmarkReport, ReportRow, report
from pipeline.evaluation.results import Scored, cells, ks

GONE = "gone"
"""An answer that could not be had."""


def planned(mode: Mode, numbers: Sequence[int], *, votes: bool = True, **settings: Any) -> PlannedCell:
    wanted = {f"p{problem}": SampleTarget(f"h{problem}", number) for problem, number in enumerate(numbers)}
    return PlannedCell(
        benchmark="sums", mode=mode, settings={"scorer": "math", **settings}, of_mode={}, votes=votes, wanted=wanted
    )


def score(answer: str | None, **changes: Any) -> Scored:
    """An answer to a problem whose gold answer is 7, of 100 tokens."""
    found = Scored(
        correct=answer in ("7", "7.0", "$7$"), kind="scored", answer=answer, finish_reason="stop", has_lessons=False,
        num_prompt_tokens=90, num_completion_tokens=10, cost=0.0, judged=None, judge="", verifier="",
    )  # fmt: skip
    return found._replace(**changes)


class Folder:
    """Cells with their answers, as a folder holds them."""

    def __init__(self) -> None:
        self.plan: list[PlannedCell] = []
        self.known: dict[str, Scored] = {}
        self.failures: dict[str, str] = {}

    def add(
        self,
        answers: Sequence[Sequence[str | Scored | None]],
        mode: Mode = "zero-shot",
        *,
        num_tokens: int = 100,
        num_wanted: int = 0,
        cost: float = 0.0,
        **options: Any,
    ) -> Folder:
        """By problem and sample: an answer, or GONE. `num_wanted` of each problem, or as many as there are."""
        cell = planned(mode, [num_wanted or len(samples) for samples in answers], **options)
        self.plan.append(cell)
        for (_, wanted), samples in zip(cell.wanted.items(), answers, strict=True):
            for number, answer in enumerate(samples):
                key = cell.key(wanted, number)
                if answer == GONE:
                    self.failures[key] = "timeout"
                    continue
                found = answer if isinstance(answer, Scored) else score(answer)
                self.known[key] = found._replace(num_prompt_tokens=num_tokens - 10, cost=cost)
        return self

    def report(self, **options: Any) -> BenchmarkReport:
        return report("m", self.plan, self.known, self.failures, **options)

    def row(self) -> ReportRow:
        (row,) = self.report().rows
        return row


def test_a_row_by_hand() -> None:
    row = Folder().add([["7", "7", "8", "7"], ["8", "8", "7", None], ["1", "2", "3", "4"]]).row()
    assert (row.num_problems, row.num_samples, row.num_missing) == (3, 4, 0)
    assert row.avg.value == pytest.approx((3 / 4 + 1 / 4 + 0) / 3)
    assert row.pass_at[4].value == pytest.approx(2 / 3)
    assert row.pass_at[2].value == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert row.maj_at[4].value == pytest.approx(1 / 3)
    assert row.share_parsable == pytest.approx(11 / 12)
    assert (row.mean_prompt_tokens, row.mean_completion_tokens) == (90, 10)
    assert ks(6) == [1, 2, 4, 6]


def test_an_answer_that_could_not_be_had_is_wrong_and_told() -> None:
    folder = Folder().add([["7", "7"], ["7", GONE], [GONE, GONE]])
    found = folder.report()
    (row,) = found.rows
    assert (row.num_problems, row.num_samples, row.num_missing, row.missing) == (3, 2, 3, {"timeout": 3})
    assert row.avg.value == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert row.avg_answered is not None
    assert (row.avg_answered.value, row.avg_answered.num_problems) == (1.0, 2)
    assert row.pass_at[2].value == pytest.approx(2 / 3)
    # A missing answer does not vote.
    assert row.maj_at[2].value == pytest.approx(2 / 3)
    assert "3 answers could not be had (timeout 3) and count as wrong; without them avg is 100.0%" in page(found)
    header, _, result = page(found).splitlines()[2:5]
    assert dict(zip(header.split(" | "), result.split(" | "), strict=True))["without an answer"] == "3"


def test_what_was_not_asked_for_yet_is_no_wrong_answer() -> None:
    found = Folder().add([["7", "7"], ["8"], []], num_wanted=2).report()
    (row,) = found.rows
    assert (row.num_problems, row.num_missing, row.num_unasked, row.avg.value) == (2, 0, 3, 0.5)
    assert "unfinished: 3 answers" in page(found)


def test_a_cell_without_any_answer_is_named() -> None:
    folder = Folder().add([["7"]])
    folder.plan.append(planned("reflect", [1]))
    assert folder.report().notes == ["sums, reflect: not begun"]


def test_one_problem_with_few_samples_leaves_the_others_theirs() -> None:
    folder = Folder().add([["7"] + ["8"] * 15] * 29 + [["7"]])
    (row,) = folder.report().rows
    assert (row.num_samples, row.fewest_samples) == (16, 1)
    assert {k: found.num_problems for k, found in row.pass_at.items()} == {1: 30, 2: 29, 4: 29, 8: 29, 16: 29}
    assert row.pass_at[16].value == 1.0
    assert row.pass_at[1].value == pytest.approx((29 / 16 + 1) / 30)
    text = page(folder.report())
    assert "| sums | zero-shot | 30 | 1 to 16 |" in text
    assert "(k = 16, 29 problems)" in text


def test_the_k_that_is_shown_is_one_that_most_problems_have() -> None:
    row = Folder().add([["7"] * 4] * 20 + [["7"] * 16] * 2).row()
    assert (row.num_samples, row.shown_k) == (16, 4)


def test_what_no_verifier_could_judge_is_not_solved_and_shown() -> None:
    unjudged = [score(None, kind=kind, correct=False) for kind in ("error", "timeout", "timeout")]
    found = Folder().add([["7"], *([one] for one in unjudged)]).report()
    assert found.rows[0].avg.value == pytest.approx(1 / 4)
    assert found.rows[0].num_unjudged == 3
    assert found.rows[0].outcomes == {"scored": 1, "error": 1, "timeout": 2}
    assert "3 answers could not be judged (error 1, timeout 2 of the verifier)" in page(found)


def test_verdicts_of_another_verifier_are_told() -> None:
    found = Folder().add([[score("7", verifier="old")], [score("7", verifier="new")]]).report(versions={"math": "new"})
    assert found.rows[0].num_older_verdicts == 1
    assert "--rejudge" in page(found)


def test_modes_are_compared_problem_by_problem_and_at_equal_tokens() -> None:
    """A mode at three times the tokens meets a majority of three zero-shot answers."""
    folder = Folder().add([["7", "7", "8"]] * 10 + [["8", "8", "7"]] * 10)
    found = folder.add([["7"] * 3] * 15 + [["8"] * 3] * 5, "reflect", num_tokens=300).report()
    (comparison,) = found.comparisons
    assert comparison.difference.effect == pytest.approx(0.75 - 0.5)
    (matched,) = found.matched
    assert matched.b == "zero-shot, maj@3.00"
    assert matched.difference.effect == pytest.approx(0.75 - 0.5)
    assert matched.difference.p_value == pytest.approx(2 / 2**5)
    assert matched.adjusted_p >= matched.difference.p_value


def test_with_prices_modes_are_compared_at_equal_cost_too() -> None:
    """Twice the cost at three times the tokens: prompts are cheaper."""
    folder = Folder().add([["7", "7", "8"]] * 10 + [["8", "8", "7"]] * 10, cost=0.5)
    folder.add([["7"] * 3] * 15 + [["8"] * 3] * 5, "reflect", num_tokens=300, cost=1.0)
    found = folder.report(priced=True)
    assert [one.b for one in found.matched] == ["zero-shot, maj@3.00", "zero-shot, maj@2.00"]
    assert found.matched[1].measure == "cost 1 a problem"
    assert "| cost an answer |" in page(found)


def test_a_mode_that_costs_more_than_all_samples_is_not_compared() -> None:
    found = Folder().add([["7"]] * 4).add([["7"]] * 4, "reflect", num_tokens=250).report()
    assert found.matched == []
    assert found.unmatched[0].reason == "its tokens pay for 2.50 zero-shot answers, and there are 1; use --n 3"
    assert "not compared at equal tokens" in page(found)


def test_programs_do_not_vote() -> None:
    found = Folder().add([["7", "7"]] * 3, votes=False).add([["7", "8"]] * 3, "reflect", votes=False).report()
    assert all(row.maj_at == {} for row in found.rows)
    assert "programs cannot vote" in found.unmatched[0].reason


def test_settings_of_one_mode_have_rows_of_their_own_and_modes_meet_their_own_base() -> None:
    folder = Folder().add([["7"]] * 4, temperature=0.0).add([["8"]] * 4, temperature=1.0)
    found = folder.add([["7"]] * 4, "reflect", temperature=1.0).report()
    assert [row.name for row in found.rows] == ["zero-shot (temperature 0)", "zero-shot (temperature 1)", "reflect"]
    (comparison,) = found.comparisons
    assert (comparison.b, comparison.difference.effect) == ("zero-shot (temperature 1)", 1.0)


def other(answers: Sequence[Sequence[str | None]], **options: Any) -> Other:
    folder = Folder().add(answers, **options)
    return Other("old", cells(folder.plan, folder.known, folder.failures))


def test_two_evaluations_are_compared_on_the_problems_of_both() -> None:
    found = Folder().add([["7"]] * 6).report(other=other([["8"]] * 4))
    (comparison,) = found.comparisons
    assert (comparison.a, comparison.b) == ("m (zero-shot)", "old (zero-shot)")
    assert comparison.difference.num_problems == 4
    assert comparison.difference.effect == 1.0
    assert found.notes == []


def test_a_comparison_that_compares_nothing_says_so() -> None:
    found = Folder().add([["7"]], "reflect").report(other=other([["8"]]))
    assert found.comparisons == []
    assert found.notes == ["sums, reflect: old has no such answers, so nothing is compared"]
    folder = Folder().add([["7"]])
    folder.plan[0].wanted["p0"] = SampleTarget("another text", 1)
    folder.known = {folder.plan[0].key(folder.plan[0].wanted["p0"], 0): score("7")}
    assert folder.report(other=other([["8"]])).notes == [
        "sums, zero-shot: no problem of it is in old too, so nothing is compared"
    ]


def test_a_comparison_across_settings_says_so() -> None:
    found = Folder().add([["7"]], temperature=1.0).report(other=other([["8"]], temperature=0.0))
    assert found.notes == ["sums, zero-shot: old was asked with another setting: temperature 0.0, here 1.0"]


def test_equal_numbers_share_a_vote_whatever_their_form() -> None:
    row = Folder().add([["7", "7.0", "8"], ["$7$", "8", "8"]]).row()
    assert row.maj_at[3].value == pytest.approx((1 + 0) / 2)


def test_page_and_plots_are_made() -> None:
    folder = Folder().add([["7", "8"]] * 5).add([["7", "7"]] * 5, "retrieval", num_tokens=150)
    found = folder.report()
    text = page(found)
    assert "| sums | zero-shot | 5 | 2 | 50.0% [17.0%, 83.0%]" in text
    assert "| sums | retrieval | 5 | 2 | 100.0% [56.6%, 100.0%]" in text
    assert "| sums | retrieval | zero-shot | avg@2 | +50.0 |" in text
    found = folder.add([["7"]] * 5, temperature=0.0).report()
    assert "| sums | zero-shot (temperature 0) | 5 | 1 | 100.0%" in page(found)
    assert all(plot.startswith(b"<?xml") for plot in (plot_accuracy(found), plot_compute(found)))
    assert BenchmarkReport.model_validate_json(found.model_dump_json()) == found


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("reported", [(), ("retrieval",)])
def test_tokens_that_no_endpoint_reported_are_drawn_nowhere(reported: tuple[str, ...]) -> None:
    folder = Folder()
    for mode in ("zero-shot", "retrieval"):
        answers = [[score("7", num_completion_tokens=10 if mode in reported else 0)] * 2] * 3
        folder.add(answers, mode, num_tokens=100 if mode in reported else 10)
    plot = plot_compute(folder.report()).decode()
    assert ("does not tell" in plot) == (not reported)
