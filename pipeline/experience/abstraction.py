"""Trajectory → Experience (method.md, step 6): ask the summarizer for a lesson, check it, or reject it with a reason.

An entry is rejected when it is malformed after the repairs, when it states the gold answer, the answer of an attempt
that it was made from, or its program (the rule is `pipeline.experience.leakage`), or when it is nearly a copy of one
that is there. Rejections are outcomes and counted.

Invariant: a rejection does not depend on whether the attempt was right: what states the attempt's own answer goes
either way. Outcomes are told to the summarizer alone, and only where `abstraction.outcomes` says so."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

from pydantic import ValidationError
from rapidfuzz import fuzz

from pipeline.config import Config
from pipeline.config.experience import AbstractionSection
from pipeline.errors import EndpointError
from pipeline.experience.contexts import messages_of
from pipeline.experience.excerpt import shortened
from pipeline.experience.leakage import gives_solution_away
from pipeline.hashing import seed_of
from pipeline.inference.chat_client import ChatClient
from pipeline.inference.structured_output import parse_json_reply
from pipeline.rewards.code.extraction import code_of
from pipeline.rewards.extraction import extract_answer
from pipeline.text import text_hash, visible
from pipeline.types import Experience, Label, Message, Origin, OutcomesTold, Record, Rollout, RolloutGroup
from prompts.analysis import without_analysis
from prompts.render import harmless_summary, render_each, render_lessons
from prompts.schemas import SIZES, Abstract, Contrast, Lesson, LessonSizes, Outcome, Summary, reply_type, summary_of
from prompts.sets import templates_of

Reason = Literal["malformed", "cut", "gives_answer", "near_copy", "endpoint"]
MAX_QUOTED_CHARS = 1000


class Rejection(Record):
    """Why a trajectory did not become an experience."""

    rollout_id: str
    reason: Reason
    detail: str = ""


class Chosen(NamedTuple):
    """A rollout that is worth a lesson; `wrong` is one of its group that is to stand beside it."""

    group: RolloutGroup
    rollout: Rollout
    wrong: Rollout | None = None

    @property
    def rollouts(self) -> tuple[Rollout, ...]:
        return (self.rollout, self.wrong) if self.wrong else (self.rollout,)

    @property
    def num_tokens(self) -> int:
        return sum(len(rollout.token_ids) for rollout in self.rollouts)

    def reported(self, outcomes: OutcomesTold) -> OutcomesTold:
        """What of right and wrong its summarizer learns, where `outcomes` are to be told: of what nobody could judge,
        nothing."""
        if self.wrong is not None:
            return "contrast"
        return "hidden" if outcomes == "hidden" or self.rollout.verdict.failed else "shown"


class Abstractor:
    """Summarises trajectories through an endpoint."""

    def __init__(self, config: Config, endpoints: ChatClient) -> None:
        self._config = config
        self._endpoints = endpoints
        self._sizes = config.lesson_sizes
        self._schema = reply_type(self._sizes).model_json_schema()

    async def summarise(self, chosen: Chosen, label: Label) -> Experience | Rejection:
        """An experience made of what was chosen, or why there is none."""
        settings, rollout = self._config.abstraction, chosen.rollout
        attempts = [self._trajectory(one) for one in chosen.rollouts]
        answers = [one.verdict.answer for one in chosen.rollouts if one.verdict.answer]
        messages = messages_of(self._prompt(chosen, attempts), self._config)
        rejection = Rejection(rollout_id=rollout.id, reason="malformed")
        for attempt in range(settings.num_repairs + 1):
            try:
                reply = await self._endpoints.chat(
                    messages,
                    max_tokens=self._config.longest_lesson,
                    temperature=settings.temperature,
                    stage="abstract",
                    schema=self._schema,
                    seed=seed_of("abstract", self._config.run.seed, rollout.id.split("-", 1)[1], attempt),
                )
            except EndpointError as error:
                return Rejection(rollout_id=rollout.id, reason="endpoint", detail=f"{error.kind}: {error}")
            checked = check_reply(
                reply.text, reply.finish_reason, rollout.id, label, *attempts, sizes=self._sizes, answers=answers
            )
            if isinstance(checked, Summary):
                return self._experience(chosen, checked)
            rejection = checked
            # Told that it gives the answer away, a model would learn the answer.
            if rejection.reason == "gives_answer":
                break
            messages = (*messages, *_complaint(reply.text, rejection))
        return rejection

    def _trajectory(self, rollout: Rollout) -> str:
        """What of a rollout is summarised: without thoughts, and without the analysis of lessons that it was shown."""
        return without_analysis(visible(rollout.text, strip=self._config.rollout.strip_think))

    def _prompt(self, chosen: Chosen, attempts: Sequence[str]) -> Abstract | Contrast:
        settings, problem = self._config.abstraction, chosen.group.problem.text
        shown = [shortened(attempt, settings.longest_trajectory // len(attempts)) for attempt in attempts]
        if chosen.wrong is not None:
            return Contrast(problem=problem, right=shown[0], wrong=shown[1])
        outcome: Outcome | None = None
        if chosen.reported(settings.outcomes) == "shown":
            outcome = "right" if chosen.rollout.verdict.correct else "wrong"
        return Abstract(problem=problem, trajectory=shown[0], outcome=outcome)

    def _experience(self, chosen: Chosen, summary: Summary) -> Experience:
        group, rollout = chosen.group, chosen.rollout
        templates, text = templates_of(self._config.rollout.templates), group.problem.query_text
        endpoint, policy = self._config.abstraction.endpoint, self._config.model
        # The policy's are those that sampled the attempt, or newer ones.
        weights = max(one.newest_version for one in chosen.rollouts).label
        origin = Origin(
            templates=templates.identity,
            summarizer=f"{endpoint.model} at {endpoint.base_url}" if endpoint else policy.path,
            weights="" if endpoint else weights,
            outcomes=chosen.reported(self._config.abstraction.outcomes),
            contrasted_with=chosen.wrong.id if chosen.wrong else "",
            critique=summary.critique,
        )
        return Experience(
            id=entry_id(rollout),
            lesson=summary.lesson,
            problem_id=group.problem.id,
            problem_text=text,
            problem_hash=text_hash(text),
            family=group.problem.family,
            split=group.problem.split,
            template_hash=templates.hash("contrast" if chosen.wrong else "abstract"),
            origin=origin,
            lineage=group.lineage,
            policy_version=rollout.newest_version.step,
            step=group.step,
            reward=rollout.reward,
            kind=group.context.kind,
            rollout_id=rollout.id,
            created_s=time.time(),
        )


def check_reply(
    text: str,
    finish_reason: str,
    rollout_id: str,
    label: Label,
    *trajectories: str,
    sizes: LessonSizes = SIZES["compact"],
    answers: Iterable[str] = (),
) -> Summary | Rejection:
    """The summary in a summarizer's reply about `trajectories`, made harmless, or why it is rejected. Pure.

    `answers` are those of the trajectories as their verdicts have them, beside those that stand in them."""
    if finish_reason == "length":
        return Rejection(rollout_id=rollout_id, reason="cut", detail=text[:200])
    try:
        summary = harmless_summary(summary_of(parse_json_reply(reply_type(sizes), text)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        detail = f"{where}: {first['msg']}" if where else str(first["msg"])
        return Rejection(rollout_id=rollout_id, reason="malformed", detail=detail)
    is_program = "tests" in label.entry
    own = filter(None, (*answers, *(() if is_program else map(extract_answer, trajectories))))
    programs = map(code_of, trajectories) if is_program else ()
    if gives_solution_away(render_lessons((summary.lesson,)), {*label.answers, *own}, programs):
        return Rejection(rollout_id=rollout_id, reason="gives_answer", detail=text[:200])
    return summary


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


def choose_rollouts(groups: list[RolloutGroup], settings: AbstractionSection, seed: int) -> list[Chosen]:
    """The finished rollouts that are worth a summary, within the budgets of a step and of a group.

    Ours: drawn at random whatever the rewards were, or first from groups whose rewards differ. Under `contrast` first
    come the groups that have a right and a wrong one."""
    rng = random.Random(seed)
    ordered = rng.sample(groups, k=len(groups))
    if settings.choose == "spread_first":
        ordered.sort(key=lambda group: group.zero_variance)
    of_groups = [_of_group(group, settings, rng) for group in ordered]
    if settings.outcomes == "contrast":
        of_groups.sort(key=lambda found: not any(one.wrong for one in found))
    chosen: list[Chosen] = []
    num_tokens = 0
    for one in itertools.chain.from_iterable(of_groups):
        if len(chosen) == settings.num_per_step:
            return chosen
        if num_tokens + one.num_tokens <= settings.max_tokens_per_step:
            num_tokens += one.num_tokens
            chosen.append(one)
    return chosen


def _of_group(group: RolloutGroup, settings: AbstractionSection, rng: random.Random) -> list[Chosen]:
    finished = [rollout for rollout in group.rollouts if rollout.finish_reason == "stop"]
    drawn = rng.sample(finished, k=len(finished))
    if settings.outcomes == "contrast":
        judged = [rollout for rollout in drawn if not rollout.verdict.failed]
        right = [rollout for rollout in judged if rollout.verdict.correct]
        wrong = [rollout for rollout in judged if not rollout.verdict.correct]
        if right and wrong:
            pairs = zip(right, wrong, strict=False)
            return [Chosen(group, one, other) for one, other in pairs][: settings.num_per_group]
    if settings.choose == "spread_first":
        seen: dict[float, int] = {}
        turns = []
        for rollout in drawn:
            turns.append(seen.get(rollout.reward, 0))
            seen[rollout.reward] = turns[-1] + 1
        drawn = [rollout for _, rollout in sorted(zip(turns, drawn, strict=True), key=lambda pair: pair[0])]
    return [Chosen(group, rollout) for rollout in drawn[: settings.num_per_group]]


def entry_id(rollout: Rollout) -> str:
    """The id of the experience that `rollout` becomes, so that one made again is the same entry."""
    return f"x-{rollout.id}"
