"""What a step teaches: rollouts are chosen, summarised into lessons, freed of copies, and stored in the experience
pool.

Invariants: the lessons of a step share a commit, so that one of them there, all are; which rollouts are chosen depends
on the seed and the step alone, so a resumed run makes the same; the pool is kept as it was at each step since the
oldest checkpoint.

| waits        | for                                        | woken by                           |
|--------------|--------------------------------------------|------------------------------------|
| `make`       | the summaries of the chosen rollouts       | endpoints                          |
| `make`       | the commit of its lessons                  | `pipeline.runtime.batch_writer`    |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from pipeline.config import Config
from pipeline.experience import pool_snapshots
from pipeline.experience.abstraction import Abstractor, Chosen, choose_rollouts, entry_id, without_copies
from pipeline.experience.pool import Pool
from pipeline.experience.usefulness import Usefulness
from pipeline.hashing import seed_of
from pipeline.loop.step_metrics import StepReporter
from pipeline.loop.writers import pool_writer
from pipeline.runtime.watchdog import Watchdog
from pipeline.types import Experience, RolloutGroup, Task


class LessonStage:
    """Turns the groups of a step into entries of the pool.

    `labels` gives the task of a problem id. No resume begins before `oldest_checkpoint()`. `usefulness` counts who saw
    which entry."""

    def __init__(
        self,
        config: Config,
        labels: Callable[[str], Task],
        abstractor: Abstractor,
        pool: Pool,
        reporter: StepReporter,
        *,
        usefulness: Usefulness | None = None,
        oldest_checkpoint: Callable[[], int] = lambda: 0,
        watchdog: Watchdog | None = None,
    ) -> None:
        self._config = config
        self._labels = labels
        self._abstractor = abstractor
        self._pool = pool
        self._reporter = reporter
        self._usefulness = usefulness or Usefulness()
        self._oldest_checkpoint = oldest_checkpoint
        self._writer = pool_writer(pool, reporter.clock, watchdog or Watchdog())
        self.pool_size = 0

    async def run(self) -> None:
        """Store lessons until cancelled. Raises what the store raised."""
        await self._writer.run()

    async def refresh_size(self) -> None:
        """Count the pool's entries."""
        self.pool_size = await asyncio.to_thread(self._pool.num_entries)

    def keep_pool(self, step: int) -> int:
        """Pin the pool as it is when `step` begins, let go of what no resume can need; return the version. Blocks.

        With S = 0 nothing is added while the step is sampled. Its searches then find the pool wholly indexed, so that
        what they find depends on its entries alone, and a resumed run equals an unbroken one."""
        if self._config.rollout.max_staleness == 0:
            self._pool.index()
        return pool_snapshots.keep(self._pool, step, self._oldest_checkpoint())

    def note_use(self, group: RolloutGroup) -> None:
        """Count a journalled group for the entries that it saw; a rescue says nothing of them, which are shown where
        rewards are low."""
        if group.context.kind == "inter":
            self._usefulness.add(group.context.lesson_ids, group.rewards)

    async def make(self, step: int, groups: list[RolloutGroup]) -> int:
        """Summarise rollouts of the step's `groups` into the pool; return how many lessons were accepted."""
        return await self._store(step, self._chosen(step, groups))

    async def make_again(self, step: int, groups: list[RolloutGroup]) -> None:
        """As `make` for a step before a resumed one, where the pool does not have its lessons."""
        chosen = self._chosen(step, groups)
        if not await asyncio.to_thread(self._pool.holds_any, [entry_id(one.rollout) for one in chosen]):
            await self._store(step, chosen)

    def _chosen(self, step: int, groups: list[RolloutGroup]) -> list[Chosen]:
        return choose_rollouts(groups, self._config.abstraction, seed_of("choose", self._config.run.seed, step))

    async def _store(self, step: int, chosen: list[Chosen]) -> int:
        settings = self._config.abstraction
        if not settings.enabled:
            return 0
        with self._reporter.clock.stage("abstract"):
            async with asyncio.TaskGroup() as tasks:
                summaries = [
                    tasks.create_task(self._abstractor.summarise(one, self._labels(one.group.problem.id).label))
                    for one in chosen
                ]
        with self._reporter.clock.stage("pool"):
            outcomes = await asyncio.to_thread(
                without_copies,
                [summary.result() for summary in summaries],
                # Of this problem and of those like it.
                partial(self._pool.lessons_like, most=self._config.feedback.num_candidates),
                settings.near_copy_threshold,
            )
        accepted = [outcome for outcome in outcomes if isinstance(outcome, Experience)]
        self._reporter.rejections(step, outcomes)
        await self._writer.write(accepted)
        # Counted once they are there.
        self._reporter.totals.num_accepted += len(accepted)
        return len(accepted)
