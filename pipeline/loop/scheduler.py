"""What is sampled next: steps and their slots in order, as many at once as fit, none before its weights are fresh enough.

Invariants: sampling for step t begins only when weights of at least t − S updates are live, and what an older server sampled is
refused, so no trained sample lags by more than S; every slot of a step is journalled exactly once per surviving lineage; every
attempt at a group that is not journalled leaves a GroupOutcome. A step that has begun is finished before a later one: its requests
go first. One problem that cannot be sampled is replaced; only many in a row end the run, which can be resumed.

| waits              | for                                                          | woken by                        |
|--------------------|--------------------------------------------------------------|---------------------------------|
| `_admit`           | weights of step − S updates                                  | the learner's status file       |
| `_admit`           | the lessons of step − S − 1, so that contexts do not race it | `_finish` of that step          |
| `_admit`           | room (`rollout.max_groups_in_flight`)                        | a group that ends               |
| a group            | endpoints, verifier, its commit                              | the modules of that name        |
| `_finish`          | all groups of its step                                       | the last of them                |
| an evaluation      | places that rollouts leave free                              | `pipeline.inference.router`               |
| the learner        | all groups of its step in the journal                        | the journal's commits           |
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from pipeline.config import Config
from pipeline.errors import EndpointError
from pipeline.experience import pool_snapshots
from pipeline.experience.abstraction import Abstractor, Rejection, choose_rollouts, entry_id, without_copies
from pipeline.experience.pool import Pool
from pipeline.experience.usefulness import Usefulness
from pipeline.hashing import seed_of
from pipeline.loop.learner_link import LearnerLink
from pipeline.loop.rollouts import GroupKey, GroupSampler
from pipeline.loop.step_metrics import Totals, step_metrics
from pipeline.loop.writers import journal_writer, pool_writer
from pipeline.problems.dataset import ProblemStream
from pipeline.run.lineage import Lineage
from pipeline.run.metrics_log import MetricsWriter
from pipeline.runtime.stage_clock import StageClock
from pipeline.runtime.watchdog import Watchdog
from pipeline.storage.batch_writer import COMMIT_DEADLINE_S
from pipeline.storage.journal import Journal
from pipeline.types import Experience, GroupOutcome, Rollout, RolloutGroup, Task
from prompts.schemas import Lesson

# A problem that takes another's slot is drawn this far along the stream, where no step of the run gets by itself.
REPLACEMENT_STRIDE = 1_000_000_007
# How requests fail when their endpoint is gone.
OUTAGE = frozenset(
    {"refused", "connection", "timeout", "deadline", "group_deadline", "http_502", "http_503", "http_504"}
)
# The learner may train for long; only a wait of this many seconds is worth a word.
LEARNER_IS_SLOW_S = 1800.0


class _Step:
    """The groups of one step as they come in."""

    def __init__(self, number: int, num_slots: int, kept: list[RolloutGroup], pool_version: int) -> None:
        self.number = number
        self.pool_version = pool_version
        self.begin_s = time.monotonic()
        self.groups = {group.slot: group for group in kept}
        self.missing = [slot for slot in range(num_slots) if slot not in self.groups]
        self.sampled = asyncio.Event()
        self.done = asyncio.Event()
        """Set when its lessons are in the pool and its numbers are written."""
        self._num_slots = num_slots
        self._look()

    def add(self, group: RolloutGroup) -> None:
        self.groups[group.slot] = group
        self._look()

    def _look(self) -> None:
        if len(self.groups) == self._num_slots:
            self.sampled.set()

    def in_order(self) -> list[RolloutGroup]:
        return [self.groups[slot] for slot in sorted(self.groups)]


class Scheduler:
    """Runs the steps of one session.

    `evaluate(step)` is started when the servers have the step's weights and runs beside the rollouts; it returns at once when
    no evaluation is due. `all_unavailable()` tells whether no endpoint is fit: what fails then is not held against a problem. The pool is
    kept as it was at each step since `oldest_checkpoint()`, for a resume from there."""

    def __init__(
        self,
        config: Config,
        problems: ProblemStream,
        labels: Callable[[str], Task],
        sampler: GroupSampler,
        abstractor: Abstractor,
        journal: Journal,
        pool: Pool,
        learner: LearnerLink,
        metrics: MetricsWriter,
        clock: StageClock,
        lineages: list[Lineage],
        evaluate: Callable[[int], Coroutine[Any, Any, None]],
        all_unavailable: Callable[[], bool] = lambda: False,
        oldest_checkpoint: Callable[[], int] = lambda: 0,
        usefulness: Usefulness | None = None,
        watchdog: Watchdog | None = None,
    ) -> None:
        self._config = config
        self._problems = problems
        self._labels = labels
        self._sampler = sampler
        self._abstractor = abstractor
        self._journal = journal
        self._pool = pool
        self._learner = learner
        self._metrics = metrics
        self._clock = clock
        self._lineages = lineages
        self._evaluate = evaluate
        self._dark = all_unavailable
        self._oldest_checkpoint = oldest_checkpoint
        self._usefulness = usefulness or Usefulness()
        self._watchdog = watchdog or Watchdog()
        self._writer = journal_writer(journal, clock, self._watchdog)
        self._pool_writer = pool_writer(pool, clock, self._watchdog)
        # Bounds the rollouts in memory and the requests that queue at the endpoints.
        self._slots = asyncio.Semaphore(config.rollout.max_groups_in_flight)
        self._steps: dict[int, _Step] = {}
        self._num_failed_in_a_row = 0
        self._last_success_s = time.monotonic()
        self.num_groups_in_flight = 0
        self.step = 0
        self.learner_step = 0
        self.staleness = 0
        self.pool_size = 0
        self.outcomes: Counter[str] = Counter()
        self.totals = Totals()

    @property
    def num_queued_for_journal(self) -> int:
        return self._writer.num_queued

    async def run(self, first_step: int) -> None:
        """Sample the steps from `first_step` to the last one; returns when all are journalled and their lessons stored."""
        self.pool_size = await asyncio.to_thread(self._pool.num_entries)
        async with asyncio.TaskGroup() as tasks:
            writing = [tasks.create_task(writer.run()) for writer in (self._writer, self._pool_writer)]
            async with asyncio.TaskGroup() as work:
                await self._replay_lessons(first_step, work)
                for number in range(first_step, self._config.learner.num_steps):
                    await self._admit(number, work)
            for task in writing:
                task.cancel()

    async def _replay_lessons(self, first_step: int, work: asyncio.TaskGroup) -> None:
        """Make the lessons of the S + 1 steps before a resumed one again, where the pool does not have them.

        It was set back to when the step began, which is before it had those of S steps; or the step never began, because the
        learner had its weights and its checkpoint while the lessons of the step before were still being made."""
        for number in range(max(0, first_step - self._config.rollout.max_staleness - 1), first_step):
            kept = await asyncio.to_thread(self._journal.read_step, number, self._lineages)
            if len(kept) == self._config.rollout.num_problems_per_step:
                # The servers have what they began with until the learner has published.
                await self._wait_for_weights(max(0, first_step - self._config.rollout.max_staleness))
                step = self._steps[number] = _Step(number, len(kept), kept, self._pool.version)
                work.create_task(self._finish(step, replayed=True))

    async def _admit(self, number: int, work: asyncio.TaskGroup) -> None:
        """Start the groups of one step, as soon as they may be sampled and there is room."""
        staleness = self._config.rollout.max_staleness
        fresh_enough = max(0, number - staleness)
        await self._wait_for_weights(fresh_enough)
        earlier = self._steps.pop(number - staleness - 1, None)
        if earlier is not None:
            await earlier.done.wait()
        self.step = number
        work.create_task(self._evaluate(number))
        kept = await asyncio.to_thread(self._journal.read_step, number, self._lineages)
        pool_version = await asyncio.to_thread(self._keep_pool, number)
        step = self._steps[number] = _Step(number, self._config.rollout.num_problems_per_step, kept, pool_version)
        work.create_task(self._finish(step))
        for slot in step.missing:
            await self._slots.acquire()
            self.num_groups_in_flight += 1
            work.create_task(self._slot(step, slot, fresh_enough))

    async def _wait_for_weights(self, step: int) -> None:
        """Until every server has weights of at least `step` updates."""
        with (
            self._clock.stage("wait_for_learner"),
            self._watchdog.watch(LEARNER_IS_SLOW_S, "weights of", step, "updates"),
        ):
            self.learner_step = (await self._learner.wait_for_step(step, self._lineages[-1].number)).step

    def _keep_pool(self, step: int) -> int:
        """Pin the pool as it is when `step` begins, let go of what no resume can need; return the version. Blocks.

        With S = 0 nothing is added while the step is sampled. Its searches then find the pool wholly indexed, so that what they
        find depends on its entries alone, and a resumed run equals an unbroken one."""
        if self._config.rollout.max_staleness == 0:
            self._pool.index()
        return pool_snapshots.keep(self._pool, step, self._oldest_checkpoint())

    async def _slot(self, step: _Step, slot: int, oldest_step: int) -> None:
        """Fill one slot: sample until there is a group to train, and journal it."""
        try:
            group = await self._sampled(step, slot, oldest_step)
            with self._watchdog.watch(COMMIT_DEADLINE_S, "the commit of group", group.id):
                await self._writer.write([group])
            self.outcomes["journalled"] += 1
            self._usefulness.add(group.context.lesson_ids, group.rewards)
            step.add(group)
        finally:
            self.num_groups_in_flight -= 1
            self._slots.release()

    async def _sampled(self, step: _Step, slot: int, oldest_step: int) -> RolloutGroup:
        """A group for the slot: of its own problem, or of another one where that failed or taught nothing."""
        settings = self._config.rollout
        index = step.number * settings.num_problems_per_step + slot
        num_refills = num_failures = num_replacements = turn = 0
        while True:
            task = self._problems.problem_at(index + num_replacements * REPLACEMENT_STRIDE)
            place = GroupKey(self._lineages, step.number, slot, turn, step.pool_version, oldest_step, order=index)
            result = await self._attempt(task, place)
            turn += 1
            if isinstance(result, RolloutGroup):
                self._num_failed_in_a_row = 0
                self._last_success_s = time.monotonic()
                if not (settings.refill_zero_variance and num_refills < settings.max_refills and result.zero_variance):
                    return result
                num_refills += 1
                num_replacements += 1
                self._tell(_outcome(task, place, "zero_variance"))
            elif not self._is_outage(result):
                num_failures += 1
                if num_failures == settings.max_group_attempts:
                    num_failures = 0
                    num_replacements += 1
                    self._num_failed_in_a_row += 1
                    if self._num_failed_in_a_row >= settings.max_failed_groups:
                        raise EndpointError(
                            result.kind,
                            f"{self._num_failed_in_a_row} problems in a row could not be sampled, "
                            f"{settings.max_group_attempts} attempts each; the last failure: {result}",
                        ) from result

    async def _attempt(self, task: Task, place: GroupKey) -> RolloutGroup | EndpointError:
        """One attempt at a group. Raises EndpointError('no_endpoint') only: an outage longer than the run may wait."""
        limit_s = self._config.rollout.group_timeout_s
        try:
            with self._watchdog.limit(limit_s, "group", place.group_id, "of problem", task.problem.id):
                return await self._sampler.sample(task, place)
        except TimeoutError:
            failure = EndpointError("group_deadline", f"group {place.group_id}: not sampled within {limit_s:g} s")
            self._tell(_outcome(task, place, "deadline", failure))
        except EndpointError as error:
            if error.kind == "no_endpoint":
                raise
            failure = error
            self._tell(_outcome(task, place, "failed", failure))
        return failure

    def _is_outage(self, failure: EndpointError) -> bool:
        """Whether no endpoint could be reached, which is not the problem's fault; for `requests.max_outage_s` at most."""
        since_success_s = time.monotonic() - self._last_success_s
        return failure.kind in OUTAGE and self._dark() and since_success_s < self._config.requests.max_outage_s

    def _tell(self, outcome: GroupOutcome) -> None:
        self.outcomes[outcome.kind] += 1
        self._clock.count("groups_refilled" if outcome.kind == "zero_variance" else "groups_failed")
        self._metrics.write("group_outcome", outcome.step, **outcome.model_dump(exclude={"step"}))

    async def _finish(self, step: _Step, *, replayed: bool = False) -> None:
        """When all groups of a step are in: its lessons, then its numbers."""
        await step.sampled.wait()
        sampled_s = time.monotonic() - step.begin_s
        groups = step.in_order()
        chosen = choose_rollouts(
            groups, self._config.abstraction, seed_of("choose", self._config.run.seed, step.number)
        )
        if not replayed:
            await self._report(step.number, groups, sampled_s, await self._abstract(step.number, chosen))
        # The lessons of a step share a commit: one of them there, all are.
        elif not await asyncio.to_thread(self._pool.holds_any, [entry_id(rollout) for _, rollout in chosen]):
            await self._abstract(step.number, chosen)
        step.groups.clear()
        step.done.set()

    async def _abstract(self, step: int, chosen: list[tuple[RolloutGroup, Rollout]]) -> int:
        """Summarise trajectories of the step into the pool; return how many were accepted."""
        settings = self._config.abstraction
        if not settings.enabled:
            return 0
        with self._clock.stage("abstract"):
            async with asyncio.TaskGroup() as tasks:
                asked = [
                    tasks.create_task(self._abstractor.summarise(group, rollout, self._labels(group.problem.id).label))
                    for group, rollout in chosen
                ]
        with self._clock.stage("pool"):
            outcomes = await asyncio.to_thread(
                without_copies, [task.result() for task in asked], self._stored_lessons, settings.near_copy_threshold
            )
        accepted: list[Experience] = []
        for outcome in outcomes:
            if isinstance(outcome, Rejection):
                self.totals.rejected[outcome.reason] += 1
                self._metrics.write("entry_rejected", step, **outcome.model_dump())
            else:
                accepted.append(outcome)
        await self._pool_writer.write(accepted)
        self.totals.num_accepted += len(accepted)
        return len(accepted)

    def _stored_lessons(self, problem_text: str) -> list[tuple[str, Lesson]]:
        """Lessons of this problem and of those like it. Blocks."""
        found = self._pool.search(problem_text, self._config.feedback.num_candidates)
        return [(candidate.id, candidate.lesson) for candidate in found]

    async def _report(self, step: int, groups: list[RolloutGroup], sampled_s: float, num_accepted: int) -> None:
        numbers = step_metrics(groups)
        self.totals.add(groups)
        self.staleness = step - min(group.oldest_version.step for group in groups)
        self.pool_size = await asyncio.to_thread(self._pool.num_entries)
        numbers |= {
            "sampled_s": sampled_s,
            "sampled_tokens_per_s": numbers["num_completion_tokens"] / max(sampled_s, 1e-9),
            "pool_size": self.pool_size,
            "entries_accepted": num_accepted,
            "entries_rejected_total": sum(self.totals.rejected.values()),
            "staleness": self.staleness,
            "learner_step": self.learner_step,
            "groups_failed_total": self._clock.counts["groups_failed"],
            "groups_refilled_total": self._clock.counts["groups_refilled"],
            "attempts_sampled_total": self._clock.counts["attempts_sampled"],
        }
        self._metrics.write("step", step, **numbers)


def _outcome(task: Task, place: GroupKey, kind: Any, error: EndpointError | None = None) -> GroupOutcome:
    return GroupOutcome(
        step=place.step,
        slot=place.slot,
        turn=place.turn,
        kind=kind,
        problem_id=task.problem.id,
        error_kind=error.kind if error else "",
        detail=str(error)[:300] if error else "",
    )
