"""The audit's heuristics, report and page, without a run."""

from __future__ import annotations

import pytest

from pipeline.audit.effects import Effect, LessonsEffect
from pipeline.audit.entries import AuditedEntry, agreement, look, overlap
from pipeline.audit.html import page
from pipeline.audit.report import AuditReport
from pipeline.types import Experience
from prompts.schemas import Lesson
from tests.builders import experience

PROBLEM = "Before lunch, Wendy had 37 pears and gave 5 to Omar. How many are left?"
TRAJECTORY = "Wendy starts with 37 pears. She gives 5 away, so 37 - 5 = 32 are left. The answer is 32."


def entry(idea: str, principle: str = "Check the result.") -> Experience:
    lesson = Lesson(flow_of_thought=idea, principles=(principle,))
    return experience(1, text=PROBLEM).model_copy(update={"lesson": lesson})


@pytest.mark.parametrize(
    ("idea", "reason"),
    [
        ("Subtract what was given away from what there was.", None),
        ("Split a number into 2 parts of 10.", None),
        ("Take 37 and subtract.", "numbers of the problem: 37"),
        ("Ask how much Wendy has.", "names of the problem: Wendy"),
        ("Before all else, read.", None),
        ("She gives 5 away, so 37 - 5 is what are left", "copied"),
        ("It follows that the answer is 32.", "gives the answer away"),
    ],
)
def test_what_makes_a_lesson_specific(idea: str, reason: str | None) -> None:
    seen = look(entry(idea), TRAJECTORY, "32")
    assert seen.without_details == (reason is None)
    assert (reason or "") in "; ".join(seen.reasons)


def test_a_lesson_that_warns_of_what_it_advises_is_named() -> None:
    lesson = Lesson(flow_of_thought="Add.", principles=("Apply the rule.",), pitfalls=("apply the rule.",))
    torn = look(entry("Add.").model_copy(update={"lesson": lesson}), "", None)
    assert torn.contradictory
    assert not look(entry("Add."), "", None).contradictory
    assert "warns of what it advises" in page(AuditReport.of("r", 1, [torn], 0, None), [torn])


def test_overlap_is_the_share_of_word_runs_that_the_source_holds() -> None:
    words = "one two three four five six"
    assert overlap([words], words) == 1.0
    assert overlap([words, "too short"], "one two three four five") == 0.5
    assert overlap(["too short"], words) == 0.0


def audited(*, good: bool, verdict: str) -> AuditedEntry:
    return look(entry("Subtract."), "", None).model_copy(
        update={"numbers": () if good else ("37",), "verdict": verdict}
    )


def test_agreement_is_that_beyond_chance() -> None:
    pairs = [(True, "transferable")] * 4 + [(False, "specific")] * 4 + [(True, "specific"), (False, "transferable")]
    found = agreement([audited(good=good, verdict=verdict) for good, verdict in pairs])
    assert found and (found.num, found.share) == (10, 0.8)
    assert found.kappa == pytest.approx(0.6)
    same = agreement([audited(good=True, verdict="transferable")] * 3)
    assert same and same.kappa is None
    assert agreement([audited(good=True, verdict="unreadable")]) is None


def test_the_page_escapes_what_others_wrote() -> None:
    hostile = entry("<script>alert(1)</script>").model_copy(
        update={"id": '"><b>', "problem_text": "<img src=x onerror=y>", "problem_id": "<i>"}
    )
    seen = [look(hostile, "</pre><script>", None)]
    html = page(AuditReport.of("<run>", 1, seen, 0, None), seen)
    for raw in ("<script", "<img", '<b>"', "<i>", "<run>"):
        assert raw not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def effect(low: float, high: float, num_with: int = 3) -> Effect:
    return Effect(difference=(low + high) / 2, low=low, high=high, num_with=num_with, num_without=40)


def test_usefulness_stands_on_the_page_and_in_the_report_with_its_interval_and_number() -> None:
    seen = [look(entry("Subtract."), "", None).model_copy(update={"effect": one, "num_retrieved": 3})
            for one in (effect(0.1, 0.5), effect(-0.4, 0.2), effect(-0.9, -0.1), None)]  # fmt: skip
    found = LessonsEffect(drawn=effect(-0.02, 0.04, 60), share_carried=0.5, carried=effect(-0.04, 0.08, 30))
    report = AuditReport.of("r", 9, seen, 0, found, spread_only=True)
    rows = dict(report.rows())
    assert rows["useful entries"] == (
        "of 3 that were shown, 1 with an interval above 0 and 1 below (by chance alone 0.1 of each)"
    )
    assert rows["reward, lessons − scratch drawn"] == (
        "+0.010 (95 % interval -0.020 to +0.040; 60 groups with, 40 without)"
    )
    assert rows["… drawn and found"] == "50% of the groups that drew lessons"
    assert rows["… where lessons were found"].startswith("+0.020 (95 % interval -0.040 to +0.080; 30 groups with")
    assert "refill_zero_variance" in rows["… not among them"]
    html = page(report, seen)
    assert "reward with it − from scratch: +0.300 (95 % interval +0.100 to +0.500; 3 groups with, 40 without)" in html
    assert html.count("no groups to compare") == 1
    assert report.model_dump()["effect"]["drawn"]["num_with"] == 60


def test_without_groups_to_compare_the_report_says_so() -> None:
    seen = [look(entry("Subtract."), "", None)]
    rows = dict(AuditReport.of("r", 1, seen, 0, None).rows())
    assert rows["reward, lessons − scratch drawn"] == "no groups to compare"
    assert rows["useful entries"] == "no entry that was shown to groups that can be compared"
