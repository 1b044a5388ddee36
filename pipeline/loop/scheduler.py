"""The scheduler: samples steps and their slots in order, within the group limit, none before its weights are fresh
enough.

Invariants: sampling for step t begins only when weights of at least t − S updates are live, and what an older server
sampled is refused, so no trained sample lags by more than S; every slot of a step is journalled exactly once per
surviving lineage; every attempt at a group that is not journalled leaves a GroupOutcome. A step that has begun is
finished before a later one: its requests go first. One problem that cannot be sampled is replaced; only many in a row
end the run, which can be resumed. A scratch group that is all wrong may be sampled again under a context before
its slot is refilled (`feedback.rescue`), and the slot takes that where it has a success.

A pair (`rollout.paired_groups`) is two slots, 2k of x alone and 2k + 1 in a context, because a group of the journal is
of one prompt, and whoever reads it (lessons, reflection, audit) goes on doing so. It is sampled, replaced and
journalled as one: its two rows share a commit, so that a death leaves both or none.

| waits | for | woken by |
|---|---|---|
| `_admit` | weights of step − S updates | the learner's status file |
| `_admit` | the lessons of step − S − 1, so that contexts do not race them | `_finish` of that step |
| `_admit` | a slot (`rollout.max_groups_in_flight`) | a group that ends |
| a group | endpoints, verifier, its commit | the modules of that name |
| a rescue | slots below its own, as long as the step's last rescues may be theirs | `pipeline.loop.rescue_budget` |
| `_finish` | all groups of its step, then its lessons (`pipeline.loop.lessons`) | the last of them; their commit |
| an evaluation | slots of endpoints that rollouts leave free | `pipeline.inference.router` |
| the learner | all groups of its step in the journal | the journal's commits |
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from pipeline.config import Config
from pipeline.errors import EndpointError
from pipeline.loop.learner_link import LearnerLink
from pipeline.loop.lessons import LessonStage
from pipeline.loop.rescue_budget import RescueBudget
from pipeline.loop.rollouts import GroupKey, GroupSampler
from pipeline.loop.step_metrics import StepReporter
from pipeline.loop.writers import journal_writer
from pipeline.problems.dataset import ProblemStream
from pipeline.run.lineage import Lineage
from pipeline.runtime.watchdog import Watchdog
from pipeline.storage.journal import Journal
from pipeline.types import GroupOutcome, RolloutGroup, Task, have_equal_rewards

# A problem that takes another's slot is drawn this far along the stream, where no step of the run gets by itself.
REPLACEMENT_STRIDE = 1_000_000_007
# How requests fail when their endpoint is gone.
OUTAGE = frozenset(
    {"refused", "connection", "timeout", "deadline", "group_deadline", "http_502", "http_503", "http_504"}
)
# The learner may train for long; only a wait of this many seconds is named as stuck.
LEARNER_IS_SLOW_S = 1800.0
T = TypeVar("T")


class _Step:
    """The groups of one step as they come in."""

    def __init__(
        self,
        number: int,
        num_slots: int,
        kept: list[RolloutGroup],
        pool_version: int = 0,
        max_rescues: int | None = None,
    ) -> None:
        self.number = number
        self.pool_version = pool_version
        self.begin_s = time.monotonic()
        self.groups = {group.slot: group for group in kept}
        self.missing = [slot for slot in range(num_slots) if slot not in self.groups]
        tried = [group.slot for group in kept if group.tried_rescue]
        self.rescues = RescueBudget(num_slots, max_rescues, used=tried, done=list(self.groups))
        self.sampled = asyncio.Event()
        self.done = asyncio.Event()
        """Set when its lessons are in the pool and its metrics are written."""
        self._num_slots = num_slots
        self._check()

    def add(self, group: RolloutGroup) -> None:
        self.groups[group.slot] = group
        self.rescues.settle(group.slot)
        self._check()

    def _check(self) -> None:
        if len(self.groups) == self._num_slots:
            self.sampled.set()

    def in_order(self) -> list[RolloutGroup]:
        return [self.groups[slot] for slot in sorted(self.groups)]


class Scheduler:
    """Runs the steps of one session.

    `evaluate(step)` is started when the servers have the step's weights and runs beside the rollouts; it returns at
    once when no evaluation is due."""

    def __init__(
        self,
        config: Config,
        problems: ProblemStream,
        sampler: GroupSampler,
        lessons: LessonStage,
        journal: Journal,
        lineages: list[Lineage],
        learner: LearnerLink,
        evaluate: Callable[[int], Coroutine[Any, Any, None]],
        reporter: StepReporter,
        watchdog: Watchdog | None = None,
    ) -> None:
        self._config = config
        self._problems = problems
        self._sampler = sampler
        self._lessons = lessons
        self._journal = journal
        self._lineages = lineages
        self._learner = learner
        self._evaluate = evaluate
        self._reporter = reporter
        self._watchdog = watchdog or Watchdog()
        self._writer = journal_writer(journal, reporter.clock, self._watchdog)
        # Bounds the rollouts in memory and the requests that queue at the endpoints.
        self._slots = asyncio.Semaphore(config.rollout.max_groups_in_flight)
        self._steps: dict[int, _Step] = {}
        self._num_failed_in_a_row = 0
        self._last_success_s = time.monotonic()
        self.num_groups_in_flight = 0
        self.step = 0
        self.learner_step = 0
        self.totals = reporter.totals
        self.outcomes = reporter.outcomes

    def gauges(self) -> dict[str, int]:
        """What a scrape shows of the present moment."""
        return {
            "groups_in_flight": self.num_groups_in_flight,
            "groups_queued_for_journal": self._writer.num_queued,
            "step": self.step,
            "learner_step": self.learner_step,
            "staleness_updates": self._reporter.staleness,
            "experience_pool_entries": self._lessons.pool_size,
        }

    async def run(self, first_step: int) -> None:
        """Sample the steps from `first_step` to the last one; returns when all are journalled and their lessons
        stored."""
        await self._lessons.refresh_size()
        async with asyncio.TaskGroup() as tasks:
            writing = [tasks.create_task(writer.run()) for writer in (self._writer, self._lessons)]
            async with asyncio.TaskGroup() as work:
                await self._replay_lessons(first_step, work)
                for number in range(first_step, self._config.learner.num_steps):
                    await self._admit(number, work)
            for task in writing:
                task.cancel()

    async def _replay_lessons(self, first_step: int, work: asyncio.TaskGroup) -> None:
        """Make the lessons of the S + 1 steps before a resumed one again, where the pool does not have them.

        It was set back to when the step began, which is before it had those of S steps; or the step never began,
        because the learner had its weights and its checkpoint while the lessons of the step before were still being
        made."""
        for number in range(max(0, first_step - self._config.rollout.max_staleness - 1), first_step):
            kept = await asyncio.to_thread(self._journal.read_step, number, self._lineages)
            if len(kept) == self._config.rollout.num_problems_per_step:
                # The servers have what they began with until the learner has published.
                await self._wait_for_weights(max(0, first_step - self._config.rollout.max_staleness))
                step = self._steps[number] = _Step(number, len(kept), kept)
                work.create_task(self._finish(step, replayed=True))

    async def _admit(self, number: int, work: asyncio.TaskGroup) -> None:
        """Start the groups of one step, as soon as they may be sampled and there are slots."""
        staleness = self._config.rollout.max_staleness
        fresh_enough = max(0, number - staleness)
        await self._wait_for_weights(fresh_enough)
        # Contexts of this step may show lessons of steps that far back: without the wait, which ones depends on how
        # fast they are made.
        earlier = self._steps.pop(number - staleness - 1, None)
        if earlier is not None:
            await earlier.done.wait()
        self.step = number
        work.create_task(self._evaluate(number))
        kept = await asyncio.to_thread(self._journal.read_step, number, self._lineages)
        pool_version = await asyncio.to_thread(self._lessons.keep_pool, number)
        num_slots, max_rescues = self._config.rollout.num_problems_per_step, self._config.feedback.max_rescues_per_step
        step = self._steps[number] = _Step(number, num_slots, kept, pool_version, max_rescues)
        work.create_task(self._finish(step))
        width = self._config.rollout.slots_per_problem
        for slot in sorted({slot - slot % width for slot in step.missing}):
            for _ in range(width):
                await self._slots.acquire()
            self.num_groups_in_flight += width
            work.create_task(self._fill(step, slot, fresh_enough))

    async def _wait_for_weights(self, step: int) -> None:
        """Until every server has weights of at least `step` updates."""
        with (
            self._reporter.clock.stage("wait_for_learner"),
            self._watchdog.watch(LEARNER_IS_SLOW_S, "weights of", step, "updates"),
        ):
            self.learner_step = (await self._learner.wait_for_step(step, self._lineages[-1].number)).step

    async def _fill(self, step: _Step, slot: int, oldest_step: int) -> None:
        """Fill one slot, or the two of a pair: sample until there is something to train, and journal it."""
        try:
            groups = await self._sampled(step, slot, oldest_step)
            await self._writer.write(groups)
            self.outcomes["journalled"] += len(groups)
            for group in groups:
                self._lessons.note_use(group)
                step.add(group)
        finally:
            for _ in range(self._config.rollout.slots_per_problem):
                self.num_groups_in_flight -= 1
                self._slots.release()

    async def _sampled(self, step: _Step, slot: int, oldest_step: int) -> Sequence[RolloutGroup]:
        """A group for the slot, or the two of a pair: of its own problem, or of another one where that failed or taught
        nothing."""
        settings = self._config.rollout
        order = step.number * settings.num_problems_per_step + slot
        index = order // settings.slots_per_problem
        key = GroupKey(self._lineages, step.number, slot, 0, step.pool_version, oldest_step, order)
        num_refills = num_replacements = 0
        while True:
            task = self._problems.problem_at(index + num_replacements * REPLACEMENT_STRIDE)
            groups, key = await self._tried(task, key, partial(self._groups, task))
            if isinstance(groups, EndpointError):
                self._note_failed_problem(groups)
            else:
                self._num_failed_in_a_row = 0
                if self._wants_rescue(step, groups[0]):
                    group, key = await self._rescued(step, task, groups[0], key)
                    groups = [group]
                # Equal rewards have no gradient; after `max_refills` the slot takes them, so that every step is filled.
                refillable = settings.refill_zero_variance and num_refills < settings.max_refills
                if not (refillable and have_equal_rewards(groups)):
                    # Whatever stands here in the end: a resumed step counts the rescues of those before it.
                    tried = {"tried_rescue": step.rescues.has_used(slot)}
                    return [group.model_copy(update=tried) for group in groups]
                num_refills += 1
                self._reporter.lost_group(_outcome(task, key, "zero_variance"))
            num_replacements += 1
            key = key.following

    async def _groups(self, task: Task, key: GroupKey) -> Sequence[RolloutGroup]:
        """A group for the slot of `key`, or a pair that begins there. Raises EndpointError."""
        if self._config.rollout.paired_groups:
            return await self._sampler.sample_pair(task, key)
        return [await self._sampler.sample(task, key)]

    def _wants_rescue(self, step: _Step, group: RolloutGroup) -> bool:
        return (
            self._config.feedback.rescue != "off"
            and group.context.kind == "scratch"
            and group.all_wrong
            and step.rescues.may_ask(group.slot)
        )

    async def _rescued(
        self, step: _Step, task: Task, group: RolloutGroup, key: GroupKey
    ) -> tuple[RolloutGroup, GroupKey]:
        """A group of the same problem under a context, where that has a success, else `group`; and the key of the last
        attempt."""
        context, key = await self._tried(task, key.following, partial(self._sampler.rescue_context, group))
        if context is None or isinstance(context, EndpointError):
            self._reporter.clock.count("rescues_without_context")
            return group, key
        if not await step.rescues.claim(group.slot):
            return group, key
        rescue, key = await self._tried(task, key.following, partial(self._sampler.rescue, task, context))
        if isinstance(rescue, RolloutGroup) and rescue.has_success:
            self._reporter.lost_group(_outcome(task, key, "rescued"))
            return rescue.model_copy(update={"rescued": group.as_rescued()}), key
        if isinstance(rescue, RolloutGroup):
            self._reporter.lost_group(_outcome(task, key, "rescue_failed"))
        return group, key

    def _note_failed_problem(self, failure: EndpointError) -> None:
        """Another problem takes the slot. Raises EndpointError after many, none of them sampled in between: it is the
        setup, which no replacement mends."""
        self._num_failed_in_a_row += 1
        if self._num_failed_in_a_row >= self._config.rollout.max_failed_groups:
            raise EndpointError(
                failure.kind,
                f"{self._num_failed_in_a_row} problems in a row could not be sampled, "
                f"{self._config.rollout.max_group_attempts} attempts each; the last failure: {failure}",
            ) from failure

    async def _tried(
        self, task: Task, key: GroupKey, work: Callable[[GroupKey], Awaitable[T]]
    ) -> tuple[T | EndpointError, GroupKey]:
        """What `work` gives, at the turn of `key` or at later ones, and the key of the last attempt; its failure after
        `max_group_attempts` of them in other moments too: it is the problem then (a prompt that is refused).

        During an outage it goes on: the same would fail wherever it stands, and so would any other."""
        num_failures = 0
        while True:
            result = await self._attempt(task, key, work)
            if not isinstance(result, EndpointError):
                self._last_success_s = time.monotonic()
                return result, key
            num_failures += not self._is_outage(result)
            if num_failures == self._config.rollout.max_group_attempts:
                return result, key
            key = key.following

    async def _attempt(self, task: Task, key: GroupKey, work: Callable[[GroupKey], Awaitable[T]]) -> T | EndpointError:
        """One attempt at a group or pair. Raises EndpointError('no_endpoint') only: an outage longer than the run may
        wait."""
        limit_s = self._config.rollout.group_timeout_s
        try:
            with self._watchdog.limit(limit_s, "group", key, "of problem", task.problem.id):
                return await work(key)
        except TimeoutError:
            failure = EndpointError("group_deadline", f"group {key}: not sampled within {limit_s:g} s")
            self._reporter.lost_group(_outcome(task, key, "deadline", failure))
        except EndpointError as error:
            if error.kind == "no_endpoint":
                raise
            failure = error
            self._reporter.lost_group(_outcome(task, key, "failed", failure))
        return failure

    def _is_outage(self, failure: EndpointError) -> bool:
        """Whether no endpoint could be reached, which is not the problem's fault; for `requests.max_outage_s` at
        most."""
        # All three: a kind of failure that an endpoint's absence explains; no endpoint that could have answered
        # instead; and not so long that endpoints which come up and fail again would keep the run waiting for ever.
        since_success_s = time.monotonic() - self._last_success_s
        return (
            failure.kind in OUTAGE
            and self._sampler.all_unavailable
            and since_success_s < self._config.requests.max_outage_s
        )

    async def _finish(self, step: _Step, *, replayed: bool = False) -> None:
        """When all groups of a step are in: its lessons, then its metrics."""
        await step.sampled.wait()
        sampled_s = time.monotonic() - step.begin_s
        groups = step.in_order()
        if replayed:
            await self._lessons.make_again(step.number, groups)
        else:
            self._reporter.check_rewards(step.number, groups, step.missing)
            num_accepted = await self._lessons.make(step.number, groups)
            await self._lessons.refresh_size()
            self._reporter.step(
                step.number,
                groups,
                sampled_s,
                pool_size=self._lessons.pool_size,
                entries_accepted=num_accepted,
                learner_step=self.learner_step,
                feedback_ratio=self._config.ratio_at(step.number),
            )
        step.groups.clear()
        step.done.set()


def _outcome(task: Task, key: GroupKey, kind: Any, error: EndpointError | None = None) -> GroupOutcome:
    return GroupOutcome(
        step=key.step,
        slot=key.slot,
        turn=key.turn,
        kind=kind,
        problem_id=task.problem.id,
        error_kind=error.kind if error else "",
        detail=str(error)[:300] if error else "",
    )
