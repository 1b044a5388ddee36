"""Trajectory → Experience (method.md, step 6): ask the summarizer for a lesson, check it, or reject it with a reason.

An entry is rejected when it is malformed after the repairs, when it gives the gold answer or the program away (the rule
is `pipeline.experience.leakage`), or when it is nearly a copy of one that is there. Rejections are outcomes and
counted."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import ValidationError
from rapidfuzz import fuzz

from pipeline.config import Config
from pipeline.config.experience import AbstractionSection
from pipeline.errors import EndpointError
from pipeline.experience.contexts import messages_of, shortened
from pipeline.experience.leakage import gives_solution_away
from pipeline.hashing import seed_of
from pipeline.inference.chat_client import ChatClient
from pipeline.inference.structured_output import parse_json_reply
from pipeline.rewards.code.extraction import code_of
from pipeline.text import text_hash, visible
from pipeline.types import Experience, Label, Message, Record, Rollout, RolloutGroup
from prompts.render import harmless_lesson, render_each, render_lessons, template_hash
from prompts.schemas import Abstract, Lesson

Reason = Literal["malformed", "cut", "gives_answer", "near_copy", "endpoint"]
MAX_TRAJECTORY_CHARS = 4000
MAX_QUOTED_CHARS = 1000


class Rejection(Record):
    """Why a trajectory did not become an experience."""

    rollout_id: str
    reason: Reason
    detail: str = ""


class Abstractor:
    """Summarises trajectories through an endpoint."""

    def __init__(self, config: Config, endpoints: ChatClient) -> None:
        self._config = config
        self._endpoints = endpoints
        self._schema = Lesson.model_json_schema()

    async def summarise(self, group: RolloutGroup, rollout: Rollout, label: Label) -> Experience | Rejection:
        """An experience made of one rollout, or why there is none."""
        settings = self._config.abstraction
        trajectory = visible(rollout.text, strip=self._config.rollout.strip_think)
        value = Abstract(problem=group.problem.text, trajectory=shortened(trajectory, MAX_TRAJECTORY_CHARS))
        messages = messages_of(value, self._config.rollout.system_prompt)
        rejection = Rejection(rollout_id=rollout.id, reason="malformed")
        for attempt in range(settings.num_repairs + 1):
            try:
                reply = await self._endpoints.chat(
                    messages,
                    max_tokens=settings.longest,
                    temperature=settings.temperature,
                    stage="abstract",
                    schema=self._schema,
                    seed=seed_of("abstract", self._config.run.seed, rollout.id.split("-", 1)[1], attempt),
                )
            except EndpointError as error:
                return Rejection(rollout_id=rollout.id, reason="endpoint", detail=f"{error.kind}: {error}")
            checked = check_reply(reply.text, reply.finish_reason, rollout.id, label, trajectory)
            if isinstance(checked, Lesson):
                return _experience(group, rollout, checked)
            rejection = checked
            # Told that it gives the answer away, a model would learn the answer.
            if rejection.reason == "gives_answer":
                break
            messages = (*messages, *_complaint(reply.text, rejection))
        return rejection


def check_reply(
    text: str, finish_reason: str, rollout_id: str, label: Label, trajectory: str = ""
) -> Lesson | Rejection:
    """The lesson in a summarizer's reply about `trajectory`, made harmless, or why it is rejected. Pure."""
    if finish_reason == "length":
        return Rejection(rollout_id=rollout_id, reason="cut", detail=text[:200])
    try:
        lesson = harmless_lesson(parse_json_reply(Lesson, text))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        detail = f"{where}: {first['msg']}" if where else str(first["msg"])
        return Rejection(rollout_id=rollout_id, reason="malformed", detail=detail)
    rendered = render_lessons((lesson,))
    program = code_of(trajectory) if "tests" in label.entry else ""
    if gives_solution_away(rendered, label.answers, program):
        return Rejection(rollout_id=rollout_id, reason="gives_answer", detail=text[:200])
    return lesson


def _complaint(reply: str, rejection: Rejection) -> tuple[Message, Message]:
    """The turn that asks for a repair."""
    wrong = "it is too long and was cut" if rejection.reason == "cut" else rejection.detail
    return (
        Message(role="assistant", content=shortened(reply, MAX_QUOTED_CHARS) or "{}"),
        Message(role="user", content=f"That reply cannot be used: {wrong}. Answer again, in JSON as asked."),
    )


def without_copies(
    outcomes: Sequence[Experience | Rejection],
    stored: Callable[[str], list[tuple[str, Lesson]]],
    threshold: float,
) -> list[Experience | Rejection]:
    """`outcomes`, with entries that are nearly copies of each other or of `stored(problem text)` rejected."""
    kept: list[Experience | Rejection] = []
    fresh: list[tuple[str, Lesson]] = []
    for outcome in outcomes:
        kept.append(outcome)
        if isinstance(outcome, Experience):
            # The same entry again, after a resume, is no copy.
            known = [(entry_id, lesson) for entry_id, lesson in stored(outcome.problem_text) if entry_id != outcome.id]
            copied = near_copy(outcome.lesson, [*fresh, *known], threshold)
            if copied is None:
                fresh.append((outcome.id, outcome.lesson))
            else:
                kept[-1] = Rejection(rollout_id=outcome.rollout_id, reason="near_copy", detail=f"of {copied}")
    return kept


def near_copy(lesson: Lesson, others: Sequence[tuple[str, Lesson]], threshold: float) -> str | None:
    """The id of the first of `others` that `lesson` is nearly a copy of, None when it is like none."""
    text, *texts = (text.lower() for text in render_each([lesson, *(other for _, other in others)]))
    for (entry_id, _), other_text in zip(others, texts, strict=True):
        if fuzz.ratio(text, other_text, score_cutoff=100 * threshold):
            return entry_id
    return None


def choose_rollouts(
    groups: list[RolloutGroup], settings: AbstractionSection, seed: int
) -> list[tuple[RolloutGroup, Rollout]]:
    """The finished rollouts that are worth a summary, within the budgets of a step and of a group.

    Ours: drawn at random whatever the rewards were, or first from groups whose rewards differ."""
    rng = random.Random(seed)
    ordered = rng.sample(groups, k=len(groups))
    if settings.choose == "spread_first":
        ordered.sort(key=lambda group: group.zero_variance)
    chosen: list[tuple[RolloutGroup, Rollout]] = []
    num_tokens = 0
    for group in ordered:
        for rollout in _of_group(group, settings, rng):
            if len(chosen) == settings.num_per_step:
                return chosen
            if num_tokens + len(rollout.token_ids) <= settings.max_tokens_per_step:
                num_tokens += len(rollout.token_ids)
                chosen.append((group, rollout))
    return chosen


def _of_group(group: RolloutGroup, settings: AbstractionSection, rng: random.Random) -> list[Rollout]:
    finished = [rollout for rollout in group.rollouts if rollout.finish_reason == "stop"]
    drawn = rng.sample(finished, k=len(finished))
    if settings.choose == "spread_first":
        seen: dict[float, int] = {}
        turns = []
        for rollout in drawn:
            turns.append(seen.get(rollout.reward, 0))
            seen[rollout.reward] = turns[-1] + 1
        drawn = [rollout for _, rollout in sorted(zip(turns, drawn, strict=True), key=lambda pair: pair[0])]
    return drawn[: settings.num_per_group]


def entry_id(rollout: Rollout) -> str:
    """The id of the experience that `rollout` becomes, so that one made again is the same entry."""
    return f"x-{rollout.id}"


def _experience(group: RolloutGroup, rollout: Rollout, lesson: Lesson) -> Experience:
    text = group.problem.query_text
    return Experience(
        id=entry_id(rollout),
        lesson=lesson,
        problem_id=group.problem.id,
        problem_text=text,
        problem_hash=text_hash(text),
        family=group.problem.family,
        split=group.problem.split,
        template_hash=template_hash("abstract"),
        lineage=group.lineage,
        policy_version=rollout.newest_version.step,
        step=group.step,
        reward=rollout.reward,
        kind=group.context.kind,
        rollout_id=rollout.id,
        created_s=time.time(),
    )
