"""The context policy, as pure functions."""

from __future__ import annotations

import random
from typing import Any

import pytest
from rapidfuzz import fuzz

from pipeline.config import Config
from pipeline.config.base import annealed, value_at
from pipeline.config.experience import FeedbackSection
from pipeline.experience.contexts import (
    RetrievalResult,
    Weighing,
    as_rescue,
    draw_kind,
    exclusions,
    inter_context,
    intra_context,
    messages_in,
    prompt_input,
    trimmed,
)
from pipeline.experience.pool import Candidate
from pipeline.text import normalised, text_hash
from pipeline.types import Attempt, Context, Origin, Problem, Split
from prompts.schemas import Inter, Intra, Lesson, RescueIntra
from tests.builders import candidates, experience

PROBLEM = Problem(id="a", text="State the final answer to the following arithmetic problem: 4 + 3 =")


def candidate(
    identity: str, text: str, *, problem_id: str = "other", split: Split = "train", idea: str = "Add."
) -> Candidate:
    lesson = Lesson(flow_of_thought=idea, principles=("p",)).model_dump_json()
    return Candidate(identity, problem_id, text_hash(text), text, split, lesson, 0, 1.0)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.0), (5, 0.25), (10, 0.5), (15, 0.5), (99, 0.5)])
def test_a_schedule_is_linear_between_its_points(step: int, expected: float) -> None:
    assert value_at(((0, 0.0), (10, 0.5)), step) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("form", "values"), [("linear", [0.8, 0.65, 0.5, 0.35, 0.2]), ("cosine", [0.8, 0.712, 0.5, 0.288, 0.2])]
)
def test_p_t_is_annealed_from_the_first_step_to_the_last(form: Any, values: list[float]) -> None:
    config = Config.model_validate(
        {"feedback": {"ratio": 0.8, "end_ratio": 0.2, "annealing": form}, "learner": {"num_steps": 5}}
    )
    assert [config.ratio_at(step) for step in range(5)] == pytest.approx(values, abs=1e-3)
    assert config.ratio_at(7) == 0.2, "what is sampled beyond the last step, of which there is none"
    assert annealed(0.8, 0.2, 0, 1, form) == 0.8, "a single step is the first one"
    assert annealed(0.0, 0.5, 4, 5, form) == 0.5


def test_a_run_that_anneals_to_nothing_shows_contexts_before() -> None:
    def config(ratio: float, end_ratio: float | None, num_steps: int) -> Config:
        feedback = {"ratio": ratio, "end_ratio": end_ratio}
        return Config.model_validate({"feedback": feedback, "learner": {"num_steps": num_steps}})

    assert config(0.5, 0.0, 5).retrieves
    assert config(0.0, 0.5, 5).reflects
    assert not config(0.0, 0.5, 1).retrieves
    assert config(0.3, None, 5).ratio_at(4) == 0.3


def test_the_shares_of_the_kinds_follow_the_settings() -> None:
    rng = random.Random(1)
    kinds = [draw_kind(rng, 0.75, 0.5) for _ in range(4000)]
    assert kinds.count("scratch") / 4000 == pytest.approx(0.25, abs=0.03)
    assert kinds.count("intra") / 4000 == pytest.approx(0.375, abs=0.03)


def lexical(a: str, b: str) -> float:
    return fuzz.ratio(normalised(a), normalised(b)) / 100.0


def found(candidates: list[Candidate], similarities: list[float] | None = None) -> list[RetrievalResult]:
    values = similarities or [lexical(PROBLEM.text, one.problem_text) for one in candidates]
    return list(map(RetrievalResult, candidates, values, exclusions(PROBLEM.id, PROBLEM.text_hash, candidates)))


def outcomes(context: Context) -> dict[str, str]:
    return {considered.id: considered.outcome for considered in context.considered}


def test_the_same_problem_and_the_held_out_split_are_never_retrieved_but_a_twin_is() -> None:
    twin = PROBLEM.text.replace("4 + 3", "9 + 1")
    candidates = [
        candidate("same id", twin, problem_id="a"),
        candidate("same text", "  " + PROBLEM.text.upper()),
        candidate("held out", twin, split="heldout"),
        candidate("twin", twin),
    ]
    context = inter_context(found(candidates), FeedbackSection(num_lessons=4))
    assert context.lesson_ids == ("twin",)
    assert outcomes(context) == {
        "same id": "same_problem",
        "same text": "same_problem",
        "held out": "held_out",
        "twin": "shown",
    }
    assert [considered.similarity is None for considered in context.considered] == [True, True, True, False]


def test_gamma_filters_and_equal_lessons_are_shown_once() -> None:
    near, far = PROBLEM.text.replace("4", "5"), "How many legs do three spiders have?"
    assert lexical(PROBLEM.text, far) < 0.9 < lexical(PROBLEM.text, near)
    candidates = [candidate("far", far), candidate("near", near), candidate("again", near.replace("3", "8"))]
    context = inter_context(found(candidates), FeedbackSection(num_lessons=3))
    assert outcomes(context) == {"far": "below_threshold", "near": "shown", "again": "same_lesson"}
    without = FeedbackSection(num_lessons=3, similarity_threshold=0.0)
    assert inter_context(found([candidate("far", far)]), without).lesson_ids == ("far",)


def test_what_is_not_among_the_best_is_said_so() -> None:
    candidates = [candidate("a1", "one", idea="x"), candidate("a2", "two", idea="y")]
    context = inter_context(found(candidates, [0.95, 0.99]), FeedbackSection(num_lessons=1))
    assert outcomes(context) == {"a1": "not_among_best", "a2": "shown"}


def test_diversity_recency_and_usefulness_change_who_is_shown() -> None:
    same = "Add the tens, then the units."
    candidates = [
        candidate("a1", "one", idea=same),
        candidate("a2", "two", idea=same + "!")._replace(step=100),
        candidate("a3", "three", idea="Estimate first."),
    ]
    similarities = [1.0, 0.99, 0.95]

    def shown(weighing: Weighing = Weighing(), **settings: float) -> tuple[str, ...]:  # noqa: B008
        context = inter_context(
            found(candidates, similarities), FeedbackSection.model_validate({"num_lessons": 2, **settings}), weighing
        )
        return context.lesson_ids

    assert shown() == ("a1", "a2")
    assert shown(diversity=0.5) == ("a1", "a3")
    assert shown(Weighing(step=100), recency_weight=0.5) == ("a2", "a1")
    assert shown(Weighing(usefulness={"a3": 1.0}.get), usefulness_weight=0.2) == ("a3", "a1")


def test_without_anything_admissible_the_prompt_falls_back_to_scratch_and_says_what_was_drawn() -> None:
    assert inter_context([], FeedbackSection()) == Context(drawn="inter", kind="scratch")
    assert intra_context(None, 100) == Context(drawn="intra", kind="scratch")
    assert intra_context(Attempt(problem_id="a", text=" "), 100).kind == "scratch"


def test_prompts_hold_the_context_and_nothing_of_a_label() -> None:
    context = intra_context(Attempt(problem_id="a", text="4 + 3 = 8"), 100)
    user = messages_in(PROBLEM, context, Config.model_validate({"rollout": {"system_prompt": "Be brief."}}))
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


def test_a_lesson_that_was_trimmed_away_is_not_shown_in_the_trace() -> None:
    texts = ["What is 4 + 3?", "What is 4 + 4?"]
    found = [RetrievalResult(candidate, 1.0) for candidate in candidates(texts)]
    found[1] = found[1]._replace(
        candidate=found[1].candidate._replace(lesson_json=experience(2).lesson.model_dump_json())
    )
    context: Context | None = inter_context(found, FeedbackSection(num_lessons=2))
    traces = []
    while context:
        traces.append([one.outcome for one in context.considered])
        context = trimmed(context)
    assert traces == [["shown", "shown"], ["shown", "trimmed"], ["trimmed", "trimmed"]]


def test_lessons_are_shown_with_the_problems_that_they_came_from() -> None:
    long = "Tell how many of the numbers " + "12 " * 200 + "are even."
    context = inter_context(
        [RetrievalResult(one, 1.0) for one in (candidate("a1", "What is\n9 + 1?"), candidate("a2", long, idea="x"))],
        FeedbackSection(num_lessons=2, max_source_chars=100),
    )
    assert context.sources[0] == "What is 9 + 1?"
    assert len(context.sources[1]) <= 100
    assert context.sources[1].endswith("are even.")
    shorter = trimmed(context)
    assert shorter is not None
    assert shorter.sources == context.sources[:1]


def test_an_attempt_is_shown_without_the_analysis_of_lessons_that_it_begins_with() -> None:
    text = "<analysis>\nLesson 1 applies: add.\n</analysis>\n4 + 3 = 7"
    context = intra_context(Attempt(problem_id="a", text=text), 1000)
    assert context.attempt is not None
    assert context.attempt.text == "4 + 3 = 7"


@pytest.mark.parametrize("outcomes", ["shown", "contrast"])
def test_a_lesson_of_an_outcome_is_never_shown_for_the_problem_that_it_came_from(outcomes: str) -> None:
    """What a summarizer was told of a problem's attempts may stand in its lesson, which is for other problems."""
    made = experience(1, problem_id=PROBLEM.id, text=PROBLEM.text)
    made = made.model_copy(update={"origin": Origin.model_validate({"outcomes": outcomes, "critique": "It is wrong."})})
    own = candidate(made.id, made.problem_text, problem_id=made.problem_id)
    for one in (own, own._replace(problem_id="another id"), own._replace(problem_hash="another text")):
        context = inter_context(found([one], [1.0]), FeedbackSection(similarity_threshold=0.0))
        assert context.kind == "scratch"


ATTEMPT = Attempt(problem_id="a", text="4 + 3 = 8. " * 40)
FALLEN_BACK = Context(drawn="inter")


def test_a_rescue_keeps_what_was_drawn_and_has_a_kind_of_its_own() -> None:
    intra = as_rescue(intra_context(ATTEMPT, 1000), Context())
    assert intra is not None
    assert (intra.drawn, intra.kind) == ("scratch", "rescue_intra")
    shown = inter_context([RetrievalResult(candidate("x", "one"), 1.0)], FeedbackSection())
    inter = as_rescue(shown, FALLEN_BACK)
    assert inter is not None
    assert (inter.drawn, inter.kind, inter.lesson_ids) == ("inter", "rescue_inter", ("x",))
    for nothing in (Context(drawn="inter"), intra_context(None, 100)):
        assert as_rescue(nothing, Context()) is None


def test_only_a_rescue_tells_that_an_attempt_is_wrong() -> None:
    plain = intra_context(ATTEMPT, 1000)
    rescue = as_rescue(plain, Context())
    assert rescue is not None
    assert isinstance(prompt_input(PROBLEM, plain), Intra)
    assert isinstance(prompt_input(PROBLEM, rescue), RescueIntra)
    for templates in ("compact", "full", "legacy"):
        config = Config.model_validate({"rollout": {"templates": templates}})
        said = [messages_in(PROBLEM, context, config)[-1].content for context in (plain, rescue)]
        assert ["is wrong" in text for text in said] == [False, True]
        assert ATTEMPT.text.strip() in said[1]


def test_lessons_of_a_rescue_are_shown_as_others_are() -> None:
    shown = inter_context([RetrievalResult(candidate("x", "one"), 1.0)], FeedbackSection())
    rescue = as_rescue(shown, Context())
    assert rescue is not None
    assert isinstance(prompt_input(PROBLEM, rescue), Inter)
    assert messages_in(PROBLEM, rescue, Config()) == messages_in(PROBLEM, shown, Config())


def test_a_rescue_is_trimmed_as_what_it_shows_is() -> None:
    context: Context | None = as_rescue(intra_context(ATTEMPT, 1000), Context())
    kinds = []
    while (context := trimmed(context)) is not None:  # type: ignore[arg-type]
        kinds.append(context.kind)
    assert kinds == ["rescue_intra", "scratch"]
