"""The context policy: scratch, inter or intra (method.md, step 1). Pure functions of texts; free of rewards by their
types.

A feedback-aware prompt for which nothing is admissible falls back to scratch; `Context.drawn` keeps what was drawn, so
that fall-backs are counted."""

from __future__ import annotations

import random
from itertools import pairwise

from rapidfuzz import fuzz

from pipeline.config import FeedbackSection
from pipeline.pool import Candidate
from pipeline.records import Attempt, Context, ContextKind, Message, Problem, normalised
from prompts.render import render
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


def similarity(a: str, b: str) -> float:
    """Lexical similarity of two problem texts in [0, 1] (rapidfuzz ratio of the normalised texts)."""
    return float(fuzz.ratio(normalised(a), normalised(b))) / 100.0


def choose_lessons(problem: Problem, candidates: list[Candidate], settings: FeedbackSection) -> list[Candidate]:
    """The admissible candidates, most similar first, at most `num_lessons`.

    Excluded are the same problem (same id or same normalised text; a number-swapped twin is another problem), the
    held-out split, and whatever is less similar than gamma. Of equal lessons the most similar one is kept."""
    admissible = [
        (similarity(problem.text, candidate.problem_text), candidate)
        for candidate in candidates
        if candidate.split == "train"
        and candidate.problem_id != problem.id
        and candidate.problem_hash != problem.text_hash
    ]
    ranked = sorted(
        (pair for pair in admissible if pair[0] >= settings.similarity_threshold), key=lambda pair: -pair[0]
    )
    chosen: list[Candidate] = []
    for _, candidate in ranked:
        if all(candidate.lesson != other.lesson for other in chosen):
            chosen.append(candidate)
    return chosen[: settings.num_lessons]


def inter_context(problem: Problem, candidates: list[Candidate], settings: FeedbackSection) -> Context:
    """Relevant Abstraction; scratch when no candidate is admissible."""
    chosen = choose_lessons(problem, candidates, settings)
    if not chosen:
        return Context(drawn="inter")
    return Context(
        drawn="inter", kind="inter", lessons=tuple(c.lesson for c in chosen), lesson_ids=tuple(c.id for c in chosen)
    )


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
