"""The context policy, as pure functions."""

from __future__ import annotations

import random

import pytest

from pipeline.config import FeedbackSection
from pipeline.contexts import (
    choose_lessons,
    draw_kind,
    inter_context,
    intra_context,
    messages_of,
    prompt_input,
    ratio_at,
    shortened,
    similarity,
    trimmed,
)
from pipeline.pool import Candidate
from pipeline.records import Attempt, Context, Problem, text_hash
from prompts.schemas import Lesson

PROBLEM = Problem(id="a", text="State the final answer to the following arithmetic problem: 4 + 3 =")


def candidate(
    identity: str, text: str, *, problem_id: str = "other", split: str = "train", idea: str = "Add."
) -> Candidate:
    return Candidate.model_validate(
        {
            "id": identity,
            "problem_id": problem_id,
            "problem_hash": text_hash(text),
            "problem_text": text,
            "split": split,
            "lesson": {"flow_of_thought": idea, "principles": ["p"]},
            "step": 0,
            "bm25": 1.0,
        }
    )


@pytest.mark.parametrize(("step", "expected"), [(0, 0.0), (5, 0.25), (10, 0.5), (15, 0.5), (99, 0.5)])
def test_a_schedule_is_linear_between_its_points(step: int, expected: float) -> None:
    assert ratio_at(((0, 0.0), (10, 0.5)), step) == pytest.approx(expected)


def test_the_shares_of_the_kinds_follow_the_settings() -> None:
    settings = FeedbackSection(ratio=0.75, intra_share=0.5)
    rng = random.Random(1)
    kinds = [draw_kind(rng, settings, 0) for _ in range(4000)]
    assert kinds.count("scratch") / 4000 == pytest.approx(0.25, abs=0.03)
    assert kinds.count("intra") / 4000 == pytest.approx(0.375, abs=0.03)


def test_the_same_problem_and_the_held_out_split_are_never_retrieved_but_a_twin_is() -> None:
    twin = PROBLEM.text.replace("4 + 3", "9 + 1")
    found = choose_lessons(
        PROBLEM,
        [
            candidate("same id", twin, problem_id="a"),
            candidate("same text", "  " + PROBLEM.text.upper()),
            candidate("held out", twin, split="heldout"),
            candidate("twin", twin),
        ],
        FeedbackSection(num_lessons=4),
    )
    assert [entry.id for entry in found] == ["twin"]


def test_gamma_filters_and_equal_lessons_are_shown_once() -> None:
    near, far = PROBLEM.text.replace("4", "5"), "How many legs do three spiders have?"
    assert similarity(PROBLEM.text, far) < 0.9 < similarity(PROBLEM.text, near)
    candidates = [candidate("far", far), candidate("near", near), candidate("again", near.replace("3", "8"))]
    assert [entry.id for entry in choose_lessons(PROBLEM, candidates, FeedbackSection(num_lessons=3))] == ["near"]
    without = FeedbackSection(num_lessons=3, similarity_threshold=0.0)
    assert {entry.id for entry in choose_lessons(PROBLEM, [candidate("far", far)], without)} == {"far"}


def test_without_anything_admissible_the_prompt_falls_back_to_scratch_and_says_what_was_drawn() -> None:
    assert inter_context(PROBLEM, [], FeedbackSection()) == Context(drawn="inter", kind="scratch")
    assert intra_context(None, 100) == Context(drawn="intra", kind="scratch")
    assert intra_context(Attempt(problem_id="a", text=" "), 100).kind == "scratch"


def test_prompts_hold_the_context_and_nothing_of_a_label() -> None:
    context = intra_context(Attempt(problem_id="a", text="4 + 3 = 8"), 100)
    user = messages_of(prompt_input(PROBLEM, context), "Be brief.")
    assert user[0].role == "system"
    assert "4 + 3 = 8" in user[1].content
    assert PROBLEM.text in user[1].content


def test_trimming_shortens_step_by_step_until_scratch() -> None:
    lessons = tuple(Lesson(flow_of_thought=str(i), principles=("p",)) for i in range(2))
    context: Context | None = Context(drawn="inter", kind="inter", lessons=lessons, lesson_ids=("a", "b"))
    kinds = []
    while (context := trimmed(context)) is not None:  # type: ignore[arg-type]
        kinds.append((context.kind, len(context.lessons), context.num_trimmed))
    assert kinds == [("inter", 1, 1), ("scratch", 0, 2)]


def test_a_long_attempt_keeps_head_and_tail() -> None:
    short = shortened("a" * 300 + "b" * 300, 100)
    assert short.startswith("aaa")
    assert short.endswith("bbb")
    assert len(short) <= 103
