"""The audit's heuristics, effects and page, without a run."""

from __future__ import annotations

import random

import pytest

from pipeline.audit import Sighting, agreement, effect, look, overlap
from pipeline.audit_page import page
from pipeline.audit_report import AuditReport
from pipeline.journal import Outcome
from pipeline.records import Experience
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
    assert seen.transferable == (reason is None)
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


def outcomes(num: int, lift: float, kind: str = "inter") -> list[Outcome]:
    rng = random.Random(3)
    found = []
    for step in range(num):
        family = "hard" if step % 3 else "easy"
        base = 0.2 if family == "hard" else 0.7
        for shown in (True, False):
            rewards = [float(rng.random() < base + lift * shown) for _ in range(8)]
            ids = [f"x{step % 4}"] if shown else []
            found.append(Outcome(step, f"p{step}", family, "inter" if shown else "scratch", ids, rewards))
    return found


def test_an_effect_is_found_within_families_and_none_is_not() -> None:
    helps, nothing = effect(outcomes(200, 0.2)), effect(outcomes(200, 0.0))
    assert helps and nothing
    assert helps.low < 0.2 < helps.high
    assert helps.low > 0.1
    assert nothing.low < 0 < nothing.high
    assert (helps.num_with, helps.num_without) == (200, 200)
    one = effect(outcomes(200, 0.2), "x1")
    assert one and one.num_with == 50
    assert effect([], None) is None
    assert effect(outcomes(4, 0.0), "unknown") is None


def test_families_do_not_mix() -> None:
    mixed = [
        Outcome(0, "p", "easy", "inter", ["x1"], [1.0, 1.0]),
        Outcome(0, "q", "hard", "scratch", [], [0.0, 0.0]),
    ]
    assert effect(mixed) is None, "lessons for easy problems only are no better than scratch on hard ones"


def sighting(*, good: bool, verdict: str) -> Sighting:
    return look(entry("Subtract."), "", None).model_copy(
        update={"numbers": () if good else ("37",), "verdict": verdict}
    )


def test_agreement_is_that_beyond_chance() -> None:
    pairs = [(True, "transferable")] * 4 + [(False, "specific")] * 4 + [(True, "specific"), (False, "transferable")]
    found = agreement([sighting(good=good, verdict=verdict) for good, verdict in pairs])
    assert found and (found.num, found.share) == (10, 0.8)
    assert found.kappa == pytest.approx(0.6)
    same = agreement([sighting(good=True, verdict="transferable")] * 3)
    assert same and same.kappa is None
    assert agreement([sighting(good=True, verdict="unreadable")]) is None


def test_the_page_escapes_what_others_wrote() -> None:
    hostile = entry("<script>alert(1)</script>").model_copy(
        update={"id": '"><b>', "problem_text": "<img src=x onerror=y>", "problem_id": "<i>"}
    )
    seen = [look(hostile, "</pre><script>", None)]
    html = page(AuditReport.of("<run>", 1, seen, 0, None), seen)
    for raw in ("<script", "<img", '<b>"', "<i>", "<run>"):
        assert raw not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
