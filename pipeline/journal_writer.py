"""The one writer of the rollout journal: groups that are finished at about the same time share a commit.

Invariants: a group is acknowledged (`write` returns) when its commit returned; the first failure of the store fails every
group that waits, and the writer with it; compaction runs between commits, never beside one.

| waits    | for                               | woken by                      |
|----------|-----------------------------------|-------------------------------|
| `write`  | room in the queue, then its commit | `run`                        |
| `run`    | a group; then the store, in a thread | `write`                    |
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from pipeline.journal import Journal
from pipeline.metrics import StageClock
from pipeline.records import RolloutGroup
from pipeline.watchdog import Watchdog

# Groups that wait for a commit: bounds what a crash can lose after it was paid for, and the memory that a slow disk holds.
MAX_QUEUED = 256
# A commit costs 2 to 3 ms however small it is; a larger one only delays its first group.
MAX_BATCH = 64
# Each commit makes a file; a read opens as many files more as there were commits since the last compaction.
COMPACT_EVERY_COMMITS = 128
COMMIT_DEADLINE_S = 60.0


class JournalWriter:
    """Run `run` in a task group; await `write` from any task."""

    def __init__(self, journal: Journal, clock: StageClock, watchdog: Watchdog) -> None:
        self._journal = journal
        self._clock = clock
        self._watchdog = watchdog
        self._queue: asyncio.Queue[tuple[RolloutGroup, asyncio.Future[None]]] = asyncio.Queue(MAX_QUEUED)
        self._num_commits = 0

    @property
    def num_queued(self) -> int:
        return self._queue.qsize()

    async def write(self, group: RolloutGroup) -> None:
        """Store `group`; it is on disk when this returns. Raises what the store raised (DiskFullError)."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._queue.put((group, written))
        await written

    async def run(self) -> None:
        """Write until cancelled. Raises what the store raised."""
        while True:
            batch = [await self._queue.get()]
            while len(batch) < MAX_BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            try:
                with (
                    self._clock.stage("journal"),
                    self._watchdog.watch(COMMIT_DEADLINE_S, "a commit of", len(batch), "groups"),
                ):
                    # Shielded: a commit that has begun is awaited, so that what it acknowledges is known.
                    await _to_the_end(asyncio.to_thread(self._journal.append, [group for group, _ in batch]))
            except Exception as error:
                for _, written in batch:
                    if not written.done():
                        written.set_exception(error)
                raise
            for _, written in batch:
                if not written.done():
                    written.set_result(None)
            self._num_commits += 1
            if self._num_commits % COMPACT_EVERY_COMMITS == 0:
                with self._clock.stage("compact"), self._watchdog.watch(COMMIT_DEADLINE_S, "compaction of the journal"):
                    await _to_the_end(asyncio.to_thread(self._journal.compact))


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Await `work`; a cancellation is delivered when it is done, because a thread cannot be cancelled."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
