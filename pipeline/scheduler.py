"""The loop: for each step, wait until its samples may be fresh enough, sample its groups, journal them, abstract them.

Invariants: sampling for step t begins only when weights of at least t − S updates are live on every server, so no
trained sample lags by more than S; every slot of a step is journalled exactly once per surviving lineage; a group that
failed is sampled again a bounded number of times and then ends the run, which can be resumed.

| waits            | for                                       | woken by                            |
|------------------|-------------------------------------------|-------------------------------------|
| the loop         | weights of step − S updates               | the learner's status file           |
| the loop         | all groups of the step                    | the tasks of its TaskGroup          |
| the learner      | all groups of its step in the journal     | its own look at the journal         |
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from pipeline.abstraction import Abstractor, Rejection, choose_rollouts
from pipeline.config import Config
from pipeline.errors import EndpointError
from pipeline.journal import Journal
from pipeline.learner_status import LearnerLink
from pipeline.metrics import MetricsWriter, StageClock
from pipeline.pool import Pool
from pipeline.problems import ProblemStream
from pipeline.records import Experience, RolloutGroup, Task
from pipeline.rollouts import GroupSampler, seed_of
from pipeline.run import Lineage

MAX_GROUP_ATTEMPTS = 3


class Totals:
    """What the summary says of the whole run. Sums over this sitting."""

    def __init__(self) -> None:
        self.drawn: Counter[str] = Counter()
        self.carried: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.trims: Counter[str] = Counter()
        self.num_accepted = 0

    def as_dict(self) -> dict[str, Any]:
        return {
            "drawn": dict(self.drawn),
            "carried": dict(self.carried),
            "rejected": dict(self.rejected),
            "trims": dict(self.trims),
            "accepted": self.num_accepted,
        }


class Scheduler:
    """Runs the steps of one sitting.

    `before_step` is awaited when the servers have the step's weights; it may evaluate.
    """

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
        before_step: Callable[[int], Awaitable[None]],
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
        self._before_step = before_step
        self._append_lock = asyncio.Lock()
        self.totals = Totals()

    async def run(self, first_step: int) -> None:
        """Sample the steps from `first_step` to the last one."""
        for step in range(first_step, self._config.learner.num_steps):
            fresh_enough = max(0, step - self._config.rollout.max_staleness)
            with self._clock.stage("wait_for_learner"):
                status = await self._learner.wait_for_step(fresh_enough, self._lineages[-1].number)
            await self._before_step(step)
            begin = time.monotonic()
            groups = await self._sample_step(step)
            sampled_s = time.monotonic() - begin
            num_accepted = await self._abstract(step, groups)
            self._report(step, groups, sampled_s, num_accepted, status.step)

    async def _sample_step(self, step: int) -> list[RolloutGroup]:
        pool_version = self._pool.version
        kept = {group.slot: group for group in await asyncio.to_thread(self._journal.read_step, step, self._lineages)}
        num_slots = self._config.rollout.num_problems_per_step
        async with asyncio.TaskGroup() as tasks:
            sampled = [
                tasks.create_task(self._group(step, slot, pool_version))
                for slot in range(num_slots)
                if slot not in kept
            ]
        groups = [*kept.values(), *(task.result() for task in sampled)]
        return sorted(groups, key=lambda group: group.slot)

    async def _group(self, step: int, slot: int, pool_version: int) -> RolloutGroup:
        """Sample, score and journal one group; acknowledged when this returns."""
        task = self._problems.problem_at(step * self._config.rollout.num_problems_per_step + slot)
        for attempt in range(MAX_GROUP_ATTEMPTS):
            try:
                group = await self._sampler.sample(task, step, slot, self._lineages, pool_version, attempt)
                break
            except EndpointError as error:
                self._clock.count("groups_failed")
                self._metrics.write("group_failed", step, slot=slot, kind=error.kind, message=str(error)[:300])
                if attempt + 1 == MAX_GROUP_ATTEMPTS:
                    raise
        async with self._append_lock:
            with self._clock.stage("journal"):
                await asyncio.to_thread(self._journal.append, [group])
        return group

    async def _abstract(self, step: int, groups: list[RolloutGroup]) -> int:
        """Summarise some trajectories of the step into the pool; return how many were accepted."""
        settings = self._config.abstraction
        if not settings.enabled:
            return 0
        chosen = choose_rollouts(groups, settings.num_per_step, seed_of("choose", self._config.run.seed, step))
        with self._clock.stage("abstract"):
            async with asyncio.TaskGroup() as tasks:
                asked = [
                    tasks.create_task(self._abstractor.summarise(group, rollout, self._labels(group.problem.id).label))
                    for group, rollout in chosen
                ]
        accepted: list[Experience] = []
        for task in asked:
            outcome = task.result()
            if isinstance(outcome, Rejection):
                self.totals.rejected[outcome.reason] += 1
                self._metrics.write("entry_rejected", step, **outcome.model_dump())
            else:
                accepted.append(outcome)
        with self._clock.stage("pool"):
            await asyncio.to_thread(self._pool.add, accepted)
        self.totals.num_accepted += len(accepted)
        return len(accepted)

    def _report(
        self, step: int, groups: list[RolloutGroup], sampled_s: float, num_accepted: int, learner_step: int
    ) -> None:
        numbers = step_numbers(groups)
        for group in groups:
            self.totals.drawn[group.context.drawn] += 1
            if group.context.kind != "scratch":
                self.totals.carried[group.context.drawn] += 1
            if group.context.num_trimmed:
                self.totals.trims[group.context.drawn] += 1
        numbers |= {
            "sampled_s": sampled_s,
            "sampled_tokens_per_s": numbers["num_completion_tokens"] / max(sampled_s, 1e-9),
            "pool_size": self._pool.num_entries(),
            "entries_accepted": num_accepted,
            "entries_rejected_total": sum(self.totals.rejected.values()),
            "staleness": step - min(group.oldest_version.step for group in groups),
            "learner_step": learner_step,
            "groups_failed_total": self._clock.counts["groups_failed"],
            "attempts_sampled_total": self._clock.counts["attempts_sampled"],
        }
        self._metrics.write("step", step, **numbers)


def step_numbers(groups: list[RolloutGroup]) -> dict[str, Any]:
    """Means and shares of one step's groups. Pure."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    numbers: dict[str, Any] = {
        "reward": statistics.fmean(rollout.reward for rollout in rollouts),
        "share_zero_variance": statistics.fmean(float(len(set(group.rewards)) == 1) for group in groups),
        "share_parsable": statistics.fmean(float(rollout.verdict.answer is not None) for rollout in rollouts),
        "share_cut": statistics.fmean(float(rollout.finish_reason == "length") for rollout in rollouts),
        "verifier_failures": sum(rollout.verdict.kind in ("timeout", "error") for rollout in rollouts),
        "num_prompt_tokens": sum(len(group.prompt_ids) for group in groups),
        "num_completion_tokens": sum(len(rollout.token_ids) for rollout in rollouts),
        "trims": sum(group.context.num_trimmed > 0 for group in groups),
    }
    for kind in ("scratch", "inter", "intra"):
        of_kind = [group for group in groups if group.context.kind == kind]
        numbers[f"num_{kind}"] = len(of_kind)
        numbers[f"num_drawn_{kind}"] = sum(group.context.drawn == kind for group in groups)
        if of_kind:
            numbers[f"reward_{kind}"] = statistics.fmean(reward for group in of_kind for reward in group.rewards)
            cut = [r.finish_reason == "length" for group in of_kind for r in group.rollouts]
            numbers[f"share_cut_{kind}"] = statistics.fmean(map(float, cut))
    return numbers
