"""The context policy: scratch, inter or intra (method.md, step 1). Pure functions of texts; free of rewards by their
types, unless `feedback.usefulness_weight` asks for the contrary. Rescues (`as_rescue`) are for groups that were all
wrong.

A feedback-aware prompt for which nothing is admissible falls back to scratch; `Context.drawn` keeps what was drawn, so
that fall-backs are counted."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence, Set
from typing import NamedTuple

from rapidfuzz import fuzz

from pipeline.config import Config
from pipeline.config.experience import FeedbackSection
from pipeline.experience.excerpt import shortened
from pipeline.experience.pool import Candidate
from pipeline.types import Attempt, Considered, Context, ContextKind, Message, Problem, SearchOutcome
from prompts.analysis import without_analysis
from prompts.render import normal_line, render
from prompts.schemas import Abstract, Contrast, Inter, Intra, PromptInput, RescueIntra, Scratch
from prompts.sets import templates_of

RESCUE_OF: dict[ContextKind, ContextKind] = {"inter": "rescue_inter", "intra": "rescue_intra"}


def draw_kind(rng: random.Random, ratio: float, intra_share: float) -> ContextKind:
    """Feedback-aware with probability `ratio` (p_t), and then intra with probability `intra_share`; two numbers are
    always drawn."""
    aware, reflects = rng.random(), rng.random()
    if aware >= ratio:
        return "scratch"
    return "intra" if reflects < intra_share else "inter"


class RetrievalResult(NamedTuple):
    """A candidate with its similarity to the problem, or why it may not be shown for it."""

    candidate: Candidate
    similarity: float = 0.0
    excluded: SearchOutcome | None = None


class Weighing(NamedTuple):
    """What a rank may depend on beside the similarity: the step now, and the mean reward of those who saw an entry."""

    step: int = 0
    usefulness: Callable[[str], float | None] = lambda entry_id: None


def exclusions(
    problem_id: str,
    own_hash: str,
    candidates: Sequence[Candidate],
    most_per_problem: int | None = None,
    is_near: Callable[[Candidate], bool] = lambda candidate: False,
) -> list[SearchOutcome | None]:
    """Why each candidate may not be shown for a problem, None where it may: the same problem (same id or same
    normalised text, of which `own_hash` is; a number-swapped twin is another problem), a near-duplicate of it
    (`is_near`), a held-out one, or one more of a problem that has `most_per_problem` before it."""
    counted, reasons = Counter[str](), list[SearchOutcome | None]()
    for candidate in candidates:
        reason: SearchOutcome | None = None
        if candidate.split != "train":
            reason = "held_out"
        elif candidate.problem_id == problem_id or candidate.problem_hash == own_hash:
            reason = "same_problem"
        elif is_near(candidate):
            reason = "near_duplicate"
        else:
            counted[candidate.problem_hash] += 1
            if most_per_problem is not None and counted[candidate.problem_hash] > most_per_problem:
                reason = "crowded_out"
        reasons.append(reason)
    return reasons


def inter_context(
    found: Sequence[RetrievalResult],
    settings: FeedbackSection,
    weighing: Weighing = Weighing(),  # noqa: B008
) -> Context:
    """Relevant Abstraction: the best admissible lessons at least gamma similar; scratch when there is none.

    Whatever was found is in the trace (`Context.considered`). Of equal lessons the best ranked one is kept."""
    chosen = _choose(found, settings, weighing)
    shown = {candidate.id for candidate in chosen}
    lessons = {candidate.lesson_json for candidate in chosen}
    considered = tuple(
        Considered(
            id=one.candidate.id,
            bm25=one.candidate.bm25,
            similarity=None if one.excluded else one.similarity,
            outcome=_outcome(one, shown, lessons, settings.similarity_threshold),
        )
        for one in found
    )
    if not chosen:
        return Context(drawn="inter", considered=considered)
    return Context(
        drawn="inter",
        kind="inter",
        lessons=tuple(candidate.lesson for candidate in chosen),
        lesson_ids=tuple(candidate.id for candidate in chosen),
        sources=tuple(
            shortened(normal_line(candidate.problem_text), settings.max_source_chars) for candidate in chosen
        ),
        considered=considered,
    )


def _outcome(one: RetrievalResult, shown: Set[str], lessons: Set[str], threshold: float) -> SearchOutcome:
    if one.excluded:
        return one.excluded
    if one.candidate.id in shown:
        return "shown"
    if one.similarity < threshold:
        return "below_threshold"
    return "same_lesson" if one.candidate.lesson_json in lessons else "not_among_best"


def _choose(found: Sequence[RetrievalResult], settings: FeedbackSection, weighing: Weighing) -> list[Candidate]:
    """The lessons to show, best first: by rank, or by maximal marginal relevance (Carbonell and Goldstein 1998)."""
    left = [
        (_rank(one, settings, weighing), one.candidate)
        for one in found
        if not one.excluded and one.similarity >= settings.similarity_threshold
    ]
    chosen: list[Candidate] = []
    while left and len(chosen) < settings.num_lessons:
        _, best = max(left, key=lambda pair: _marginal(pair[0], pair[1], chosen, settings.diversity))
        chosen.append(best)
        left = [(rank, candidate) for rank, candidate in left if candidate.lesson_json != best.lesson_json]
    return chosen


def _rank(one: RetrievalResult, settings: FeedbackSection, weighing: Weighing) -> float:
    rank = one.similarity
    if settings.recency_weight:
        age = max(0, weighing.step - one.candidate.step)
        rank += settings.recency_weight * 0.5 ** (age / settings.recency_half_life_steps)
    if settings.usefulness_weight:
        rank += settings.usefulness_weight * (weighing.usefulness(one.candidate.id) or 0.0)
    return rank


def _marginal(rank: float, candidate: Candidate, chosen: list[Candidate], diversity: float) -> float:
    if not chosen or not diversity:
        return rank
    nearest = max(fuzz.ratio(candidate.lesson_json, other.lesson_json) for other in chosen) / 100.0
    return (1 - diversity) * rank - diversity * nearest


def intra_context(attempt: Attempt | None, max_chars: int) -> Context:
    """Reward-Agnostic Reflection on `attempt`, without the analysis of lessons or of another attempt that it may begin
    with; scratch when there is none."""
    if attempt is None or not attempt.text.strip():
        return Context(drawn="intra")
    text = shortened(without_analysis(attempt.text), max_chars)
    return Context(drawn="intra", kind="intra", attempt=attempt.model_copy(update={"text": text}))


def as_rescue(found: Context, before: Context) -> Context | None:
    """The context `found` for a problem of which a group under `before` was all wrong; None where it shows nothing."""
    if found.kind not in RESCUE_OF:
        return None
    return found.model_copy(update={"drawn": before.drawn, "kind": RESCUE_OF[found.kind]})


def prompt_input(problem: Problem, context: Context) -> PromptInput:
    if context.kind in ("inter", "rescue_inter"):
        return Inter(problem=problem.text, lessons=context.lessons, sources=context.sources, form=problem.form)
    if context.kind == "intra" and context.attempt is not None:
        return Intra(problem=problem.text, attempt=context.attempt.text, form=problem.form)
    if context.kind == "rescue_intra" and context.attempt is not None:
        return RescueIntra(problem=problem.text, attempt=context.attempt.text, form=problem.form)
    return Scratch(problem=problem.text, form=problem.form)


def messages_in(problem: Problem, context: Context, config: Config) -> tuple[Message, ...]:
    """The chat that asks the policy for a solution of `problem` in `context`."""
    return messages_of(prompt_input(problem, context), config)


def messages_of(value: PromptInput, config: Config) -> tuple[Message, ...]:
    """The chat of one prompt: the system message, if any, and one user message by the templates of `config`, which also
    says how long a lesson may be."""
    if isinstance(value, Abstract | Contrast):
        value = value.model_copy(update={"sizes": config.lesson_sizes})
    user = Message(role="user", content=render(value, templates_of(config.rollout.templates)))
    system_prompt = config.rollout.system_prompt
    return (Message(role="system", content=system_prompt), user) if system_prompt else (user,)


def trimmed(context: Context) -> Context | None:
    """A shorter context of the same kind, scratch when nothing shorter is left, None when it is scratch already."""
    if context.kind == "scratch":
        return None
    update: dict[str, object] = {"num_trimmed": context.num_trimmed + 1}
    if len(context.lessons) > 1:
        update |= {
            "lessons": context.lessons[:-1],
            "lesson_ids": context.lesson_ids[:-1],
            "sources": context.sources[: len(context.lessons) - 1],
        }
    elif context.attempt is not None and len(context.attempt.text) > 200:
        half = shortened(context.attempt.text, len(context.attempt.text) // 2)
        update["attempt"] = context.attempt.model_copy(update={"text": half})
    else:
        update |= {"kind": "scratch", "lessons": (), "lesson_ids": (), "sources": (), "attempt": None}
    shown = update.get("lesson_ids", context.lesson_ids)
    assert isinstance(shown, tuple)
    update["considered"] = tuple(
        one.model_copy(update={"outcome": "trimmed"}) if one.outcome == "shown" and one.id not in shown else one
        for one in context.considered
    )
    return context.model_copy(update=update)
