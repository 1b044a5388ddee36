"""The report of an evaluation: accuracies with intervals, paired comparisons, and modes at equal compute.

Pure functions of answers. An answer that no verifier could judge, or that could not be had, counts as not solved, and
is counted by itself: nothing is left out in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from pipeline.config.evaluation import Mode
from pipeline.evaluation.comparison import COST, TOKENS, Comparison, Other, Unmatched, at_equal, of_modes, with_other
from pipeline.evaluation.plan import PlannedCell
from pipeline.evaluation.results import Cell, Scored, cell_name, cells, ks, mean_of
from pipeline.inference.usage import Spent
from pipeline.statistics import Estimate, estimate, holm
from pipeline.types import FAILED


class ReportRow(BaseModel):
    """One benchmark in one mode under one setting, which `label` tells from others of that mode.

    `avg` counts the `num_missing` answers that could not be had as wrong, `avg_answered` leaves them out (None where
    none is missing). `pass_at` and `maj_at` are by k, each of the problems that have k samples; `maj_at` is empty for
    programs, which cannot vote. Tokens and cost are of one answer, all of its turns and the search for its lessons, as
    an endpoint without a prefix cache would bill them."""

    benchmark: str
    mode: Mode
    label: str
    num_problems: int
    num_samples: int
    fewest_samples: int
    num_missing: int
    missing: dict[str, int]
    num_unasked: int
    avg: Estimate
    avg_answered: Estimate | None
    pass_at: dict[int, Estimate]
    maj_at: dict[int, Estimate]
    share_parsable: float
    share_cut: float
    share_with_lessons: float | None
    num_unjudged: int
    num_older_verdicts: int
    outcomes: dict[str, int]
    finish_reasons: dict[str, int]
    mean_prompt_tokens: float
    mean_completion_tokens: float
    mean_cost: float = 0.0
    num_judged: int = 0
    num_judge_agrees: int = 0

    @property
    def name(self) -> str:
        return cell_name(self.mode, self.label)

    @property
    def mean_tokens(self) -> float:
        return self.mean_prompt_tokens + self.mean_completion_tokens

    @property
    def shown_k(self) -> int:
        """The largest k of `pass_at` that half of the problems have samples for."""
        return max(k for k, found in self.pass_at.items() if 2 * found.num_problems >= self.num_problems)


class Change(BaseModel):
    """An answer whose verdict is another one now."""

    problem_id: str
    sample: int
    before: str
    now: str
    correct: bool
    was_correct: bool


class Regraded(BaseModel):
    """What came of judging the answers of a row anew. `num_kept` of them kept their verdict, for
    want of their problem or of a judge."""

    benchmark: str
    name: str
    """As its row is called."""
    versions: list[str]
    """Of the verifiers that gave the verdicts before."""
    version: str
    num_judged: int
    num_kept: int
    changes: list[Change]

    @property
    def num_right_now(self) -> int:
        return sum(change.correct and not change.was_correct for change in self.changes)

    @property
    def num_wrong_now(self) -> int:
        return sum(change.was_correct and not change.correct for change in self.changes)


class BenchmarkReport(BaseModel):
    """Of all that the folder holds. `comparisons` are at equal numbers of answers, `matched` at equal tokens and, with
    prices, at equal cost: a mode against as many zero-shot answers, by majority, as it would have paid for. `spent` is
    of all sessions, `cost` of this one."""

    name: str
    rows: list[ReportRow]
    comparisons: list[Comparison]
    matched: list[Comparison]
    unmatched: list[Unmatched]
    notes: list[str] = []
    regraded: list[Regraded] = []
    failures: dict[str, int] = {}
    num_asked: int = 0
    num_known: int = 0
    num_verdicts: int = 0
    spent: list[Spent] = []
    cost: float = 0.0
    asking_s: float = 0.0
    """From the first question to the last verdict."""
    seconds: float = 0.0
    """With all that comes before and after, servers started among it."""


def report(
    name: str,
    plan: list[PlannedCell],
    answers: Mapping[str, Scored],
    missing: Mapping[str, str] | None = None,
    *,
    versions: Mapping[str, str] | None = None,
    priced: bool = False,
    other: Other | None = None,
    further_notes: Sequence[str] = (),
    **of_session: Any,
) -> BenchmarkReport:
    """The report on `plan`, with `answers` by key, and the kinds of those `missing`.

    `versions` are the present ones of the verifiers' code, by scorer; `priced` compares at equal cost as well. Fields
    `of_session` are what the answers do not tell."""
    found = cells(plan, answers, missing or {})
    matched, unmatched = at_equal(TOKENS, found)
    if priced:
        matched += at_equal(COST, found)[0]
    comparisons, notes = of_modes(found), list[str]()
    if other is not None:
        with_theirs, notes = with_other(name, found, other)
        comparisons += with_theirs
    everything = [*comparisons, *matched]
    for comparison, p in zip(everything, holm([one.difference.p_value for one in everything]), strict=True):
        comparison.adjusted_p = p
    begun = {cell.planned.id for cell in found}
    notes += [f"{one.benchmark}, {one.mode}: not begun" for one in plan if one.id not in begun]
    return BenchmarkReport(
        name=name,
        rows=[_row(cell, versions or {}) for cell in found],
        comparisons=comparisons,
        matched=matched,
        unmatched=unmatched,
        notes=[*notes, *further_notes],
        **of_session,
    )


def _row(cell: Cell, versions: Mapping[str, str]) -> ReportRow:
    answers = list(cell.answered())
    judged = [answer for answer in answers if answer.judged is not None]
    version = versions.get(cell.planned.settings.get("scorer", ""))
    num_missing = cell.missing.total()
    of_answered = cell.correct_of_answered()
    return ReportRow(
        benchmark=cell.benchmark,
        mode=cell.mode,
        label=cell.label,
        num_problems=len(cell.problems_P),
        num_samples=cell.num_samples,
        fewest_samples=cell.fewest_samples,
        num_missing=num_missing,
        missing=dict(cell.missing),
        num_unasked=cell.num_unasked,
        avg=estimate(cell.correct()),
        avg_answered=estimate(of_answered) if num_missing and of_answered else None,
        pass_at={k: estimate(cell.pass_at(k)) for k in ks(cell.num_samples)},
        maj_at={k: estimate(cell.majority_at(k)) for k in ks(cell.num_samples)} if cell.votes else {},
        share_parsable=_share(answers, lambda answer: answer.answer is not None),
        share_cut=_share(answers, lambda answer: answer.finish_reason == "length"),
        share_with_lessons=_share(answers, lambda answer: answer.has_lessons) if cell.mode == "retrieval" else None,
        num_unjudged=sum(answer.kind in FAILED for answer in answers),
        num_older_verdicts=sum(answer.verifier != version for answer in answers) if version else 0,
        outcomes=dict(Counter(answer.kind for answer in answers)),
        finish_reasons=dict(Counter(answer.finish_reason for answer in answers)),
        mean_prompt_tokens=mean_of([answer.num_prompt_tokens for answer in answers]),
        mean_completion_tokens=mean_of([answer.num_completion_tokens for answer in answers]),
        mean_cost=cell.mean_cost,
        num_judged=len(judged),
        num_judge_agrees=sum(answer.judged == answer.correct for answer in judged),
    )


def _share(answers: Sequence[Scored], holds: Callable[[Scored], bool]) -> float:
    return mean_of([float(holds(answer)) for answer in answers])
