"""Trajectory → Experience (method.md, step 6): ask the summarizer for a lesson, check it, or reject it with a reason.

An entry is rejected when it is malformed after the attempts, or when it gives the gold answer away (the rule is
`pipeline.answers.gives_answer_away`). Rejections are outcomes and counted; nothing is repaired silently.
"""

from __future__ import annotations

import random
import time
from typing import Literal

from pydantic import ValidationError

from pipeline.answers import gives_answer_away, strip_think
from pipeline.config import Config
from pipeline.contexts import messages_of, shortened
from pipeline.endpoints import EndpointPool
from pipeline.errors import EndpointError
from pipeline.records import Experience, Label, Record, Rollout, RolloutGroup
from pipeline.rollouts import seed_of
from prompts.render import render_lessons
from prompts.schemas import Abstract, Lesson

Reason = Literal["malformed", "cut", "gives_answer", "endpoint"]


class Rejection(Record):
    """Why a trajectory did not become an experience."""

    rollout_id: str
    reason: Reason
    detail: str = ""


class Abstractor:
    """Summarises trajectories through an endpoint."""

    def __init__(self, config: Config, endpoints: EndpointPool) -> None:
        self._config = config
        self._endpoints = endpoints
        self._schema = Lesson.model_json_schema()

    async def summarise(self, group: RolloutGroup, rollout: Rollout, label: Label) -> Experience | Rejection:
        """An experience made of one rollout, or why there is none."""
        settings = self._config.abstraction
        trajectory = strip_think(rollout.text) if self._config.rollout.strip_think else rollout.text
        value = Abstract(problem=group.problem.text, trajectory=shortened(trajectory, 4000))
        messages = messages_of(value, self._config.rollout.system_prompt)
        rejection = Rejection(rollout_id=rollout.id, reason="malformed")
        for attempt in range(settings.max_attempts):
            try:
                reply = await self._endpoints.chat(
                    messages,
                    max_tokens=settings.max_tokens,
                    temperature=settings.temperature,
                    stage="abstract",
                    schema=self._schema,
                    seed=seed_of("abstract", self._config.run.seed, rollout.id.split("-", 1)[1], attempt),
                )
            except EndpointError as error:
                return Rejection(rollout_id=rollout.id, reason="endpoint", detail=f"{error.kind}: {error}")
            checked = check_reply(reply.text, reply.finish_reason, rollout.id, label)
            if isinstance(checked, Lesson):
                return _experience(group, rollout, checked)
            rejection = checked
            if rejection.reason == "gives_answer":
                break
        return rejection


def check_reply(text: str, finish_reason: str, rollout_id: str, label: Label) -> Lesson | Rejection:
    """The lesson in a summarizer's reply, or why it is rejected. Pure."""
    if finish_reason == "length":
        return Rejection(rollout_id=rollout_id, reason="cut", detail=text[:200])
    try:
        lesson = Lesson.model_validate_json(text)
    except ValidationError as error:
        return Rejection(rollout_id=rollout_id, reason="malformed", detail=str(error.errors()[0]["msg"]))
    if gives_answer_away(render_lessons((lesson,)), label.answer):
        return Rejection(rollout_id=rollout_id, reason="gives_answer", detail=text[:200])
    return lesson


def choose_rollouts(groups: list[RolloutGroup], num: int, seed: int) -> list[tuple[RolloutGroup, Rollout]]:
    """At most one finished rollout from each of at most `num` groups.

    Ours: drawn at random, whatever the rewards were.
    """
    rng = random.Random(seed)
    chosen: list[tuple[RolloutGroup, Rollout]] = []
    for group in rng.sample(groups, k=len(groups)):
        finished = [rollout for rollout in group.rollouts if rollout.finish_reason == "stop"]
        if finished and len(chosen) < num:
            chosen.append((group, rng.choice(finished)))
    return chosen


def _experience(group: RolloutGroup, rollout: Rollout, lesson: Lesson) -> Experience:
    return Experience(
        id=f"x-{rollout.id}",
        lesson=lesson,
        problem_id=group.problem.id,
        problem_text=group.problem.text,
        problem_hash=group.problem.text_hash,
        split=group.problem.split,
        lineage=group.lineage,
        policy_version=rollout.newest_version.step,
        step=group.step,
        reward=rollout.reward,
        kind=group.context.kind,
        rollout_id=rollout.id,
        created_s=time.time(),
    )
