"""The context policy: scratch, inter or intra (method.md, step 1). Pure functions of texts; free of rewards by their
types, unless `feedback.usefulness_weight` asks for the contrary.

A feedback-aware prompt for which nothing is admissible falls back to scratch; `Context.drawn` keeps what was drawn, so
that fall-backs are counted."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from rapidfuzz import fuzz

from pipeline.config import FeedbackSection
from pipeline.pool import Candidate
from pipeline.records import Attempt, Considered, Context, ContextKind, Message, Outcome, Problem
from prompts.render import render, render_lessons
from prompts.schemas import Inter, Intra, PromptInput, Scratch


def ratio_at(ratio: float | tuple[tuple[int, float], ...], step: int) -> float:
    """p_t: a constant, or a schedule of (step, p) pairs, linear between them and constant outside."""
    if not isinstance(ratio, tuple):
        return ratio
    if step <= ratio[0][0]:
        return ratio[0][1]
    for (step_a, p_a), (step_b, p_b) in pairwise(ratio):
        if step <= step_b:
            return p_a + (p_b - p_a) * (step - step_a) / (step_b - step_a)
    return ratio[-1][1]


def draw_kind(rng: random.Random, settings: FeedbackSection, step: int) -> ContextKind:
    """Feedback-aware with probability p_t, and then intra with probability `intra_share`; two numbers are always drawn."""
    aware, reflects = rng.random(), rng.random()
    if aware >= ratio_at(settings.ratio, step):
        return "scratch"
    return "intra" if reflects < settings.intra_share else "inter"


class Ranking(NamedTuple):
    """Candidates with their similarities, and what else a rank may depend on."""

    candidates: Sequence[Candidate]
    similarities: Sequence[float]
    step: int = 0
    usefulness: Callable[[str], float | None] = lambda entry_id: None


def admissible(problem: Problem, candidate: Candidate) -> bool:
    """Whether a lesson may be shown for `problem`: neither of the same problem (same id or same normalised text; a
    number-swapped twin is another problem) nor of a held-out one."""
    return not (_same_problem(problem, candidate) or candidate.split != "train")


def _same_problem(problem: Problem, candidate: Candidate) -> bool:
    return candidate.problem_id == problem.id or candidate.problem_hash == problem.text_hash


def inter_context(problem: Problem, ranking: Ranking, settings: FeedbackSection) -> Context:
    """Relevant Abstraction: the best admissible lessons at least gamma similar; scratch when there is none.

    Whatever was found is in the trace (`Context.considered`). Of equal lessons the best ranked one is kept."""
    chosen = _choose(problem, ranking, settings)
    shown = [candidate.id for candidate in chosen]
    considered = tuple(
        Considered(
            id=candidate.id,
            bm25=candidate.bm25,
            similarity=similarity if admissible(problem, candidate) else None,
            outcome=_outcome(problem, candidate, similarity, shown, chosen, settings),
        )
        for candidate, similarity in zip(ranking.candidates, ranking.similarities, strict=True)
    )
    if not chosen:
        return Context(drawn="inter", considered=considered)
    return Context(
        drawn="inter",
        kind="inter",
        lessons=tuple(candidate.lesson for candidate in chosen),
        lesson_ids=tuple(shown),
        considered=considered,
    )


def _outcome(
    problem: Problem,
    candidate: Candidate,
    similarity: float,
    shown: list[str],
    chosen: list[Candidate],
    settings: FeedbackSection,
) -> Outcome:
    if candidate.id in shown:
        return "shown"
    if candidate.split != "train":
        return "held_out"
    if _same_problem(problem, candidate):
        return "same_problem"
    if similarity < settings.similarity_threshold:
        return "below_threshold"
    if any(candidate.lesson == other.lesson for other in chosen):
        return "same_lesson"
    return "not_among_best"


def _choose(problem: Problem, ranking: Ranking, settings: FeedbackSection) -> list[Candidate]:
    """The lessons to show, best first: by rank, or by maximal marginal relevance (Carbonell and Goldstein 1998)."""
    left = [
        (_rank(candidate, similarity, ranking, settings), candidate)
        for candidate, similarity in zip(ranking.candidates, ranking.similarities, strict=True)
        if admissible(problem, candidate) and similarity >= settings.similarity_threshold
    ]
    chosen: list[Candidate] = []
    while left and len(chosen) < settings.num_lessons:
        _, best = max(left, key=lambda pair: _marginal(pair[0], pair[1], chosen, settings.diversity))
        chosen.append(best)
        left = [(rank, candidate) for rank, candidate in left if candidate.lesson != best.lesson]
    return chosen


def _rank(candidate: Candidate, similarity: float, ranking: Ranking, settings: FeedbackSection) -> float:
    rank = similarity
    if settings.recency_weight:
        age = max(0, ranking.step - candidate.step)
        rank += settings.recency_weight * 0.5 ** (age / settings.recency_half_life_steps)
    if settings.usefulness_weight:
        rank += settings.usefulness_weight * (ranking.usefulness(candidate.id) or 0.0)
    return rank


def _marginal(rank: float, candidate: Candidate, chosen: list[Candidate], diversity: float) -> float:
    if not chosen or not diversity:
        return rank
    text = render_lessons((candidate.lesson,))
    nearest = max(fuzz.ratio(text, render_lessons((other.lesson,))) for other in chosen) / 100.0
    return (1 - diversity) * rank - diversity * nearest


def intra_context(attempt: Attempt | None, max_chars: int) -> Context:
    """Reward-Agnostic Reflection on `attempt`; scratch when there is none."""
    if attempt is None or not attempt.text.strip():
        return Context(drawn="intra")
    return Context(
        drawn="intra", kind="intra", attempt=attempt.model_copy(update={"text": shortened(attempt.text, max_chars)})
    )


def shortened(text: str, max_chars: int) -> str:
    """`text`, or its head and tail around an ellipsis when it is longer than `max_chars`."""
    if len(text) <= max_chars:
        return text
    head = max_chars // 2
    return f"{text[:head]} … {text[len(text) - (max_chars - head) :]}"


def prompt_input(problem: Problem, context: Context) -> PromptInput:
    if context.kind == "inter":
        return Inter(problem=problem.text, lessons=context.lessons)
    if context.kind == "intra" and context.attempt is not None:
        return Intra(problem=problem.text, attempt=context.attempt.text)
    return Scratch(problem=problem.text)


def messages_of(value: PromptInput, system_prompt: str) -> tuple[Message, ...]:
    """The chat of one prompt: the system message, if any, and one user message."""
    user = Message(role="user", content=render(value))
    return (Message(role="system", content=system_prompt), user) if system_prompt else (user,)


def trimmed(context: Context) -> Context | None:
    """A shorter context of the same kind, scratch when nothing shorter is left, None when it is scratch already."""
    if context.kind == "scratch":
        return None
    update: dict[str, object] = {"num_trimmed": context.num_trimmed + 1}
    if context.kind == "inter" and len(context.lessons) > 1:
        update |= {"lessons": context.lessons[:-1], "lesson_ids": context.lesson_ids[:-1]}
    elif context.kind == "intra" and context.attempt is not None and len(context.attempt.text) > 200:
        half = shortened(context.attempt.text, len(context.attempt.text) // 2)
        update["attempt"] = context.attempt.model_copy(update={"text": half})
    else:
        update |= {"kind": "scratch", "lessons": (), "lesson_ids": (), "attempt": None}
    return context.model_copy(update=update)
