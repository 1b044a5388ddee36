"""The one writer of a table: items that are finished at about the same time share a commit, and maintenance runs beside
commits.

Invariants: items are acknowledged (`write` returns) when their commit returned; the first failure of the store fails
every call that waits, and the writer with it; there is one commit at a time and one maintenance at a time.

| waits       | for                                                     | woken by  |
|-------------|---------------------------------------------------------|-----------|
| `write`     | capacity of the queue, then its commit                  | `_commit` |
| `_commit`   | an item; then the store, in a thread                    | `write`   |
| `_maintain` | so many commits; then the store, in a thread of its own | `_commit` |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from pipeline.runtime.event_loop import to_the_end
from pipeline.runtime.stage_clock import StageClock
from pipeline.runtime.watchdog import Watchdog

T = TypeVar("T")
# Calls that wait for a commit: bounds what a crash can lose after it was paid for, and the memory that a slow disk
# holds.
MAX_QUEUED = 256
# A commit costs about the same however small it is; one larger than this only delays its first item.
MAX_BATCH = 64
COMMIT_DEADLINE_S = 60.0


class BatchWriter(Generic[T]):
    """Run `run` in a task group; await `write` from any task. `append` and `maintain` block, and are called in a
    thread."""

    def __init__(
        self,
        name: str,
        append: Callable[[list[T]], object],
        maintain: Callable[[], None],
        maintain_every: int,
        clock: StageClock,
        watchdog: Watchdog,
    ) -> None:
        self._name = name
        self._append = append
        self._maintain = maintain
        self._maintain_every = maintain_every
        self._clock = clock
        self._watchdog = watchdog
        self._queue: asyncio.Queue[tuple[Sequence[T], asyncio.Future[None]]] = asyncio.Queue(MAX_QUEUED)
        self._num_unmaintained = 0
        self._maintenance_is_due = asyncio.Event()
        # Threads of their own: in the common ones a commit would wait behind searches.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix=f"{name}-writer")

    @property
    def num_queued(self) -> int:
        return self._queue.qsize()

    async def write(self, items: Sequence[T]) -> None:
        """Store `items`; they are on disk when this returns. Raises what the store raised (DiskError)."""
        if not items:
            return
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._queue.put((items, written))
        await written

    async def run(self) -> None:
        """Write until cancelled. Raises what the store raised."""
        with self._threads:
            tasks = [asyncio.ensure_future(work) for work in (self._commit_for_ever(), self._maintain_for_ever())]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _commit_for_ever(self) -> None:
        while True:
            calls = [await self._queue.get()]
            num_items = len(calls[0][0])
            while num_items < MAX_BATCH and not self._queue.empty():
                calls.append(self._queue.get_nowait())
                num_items += len(calls[-1][0])
            try:
                with (
                    self._clock.stage(self._name),
                    self._watchdog.watch(COMMIT_DEADLINE_S, "a commit of", num_items, "to the", self._name),
                ):
                    # Shielded: a commit that has begun is awaited, so that what it acknowledges is known.
                    await self._in_thread(self._append, [item for items, _ in calls for item in items])
            except Exception as error:
                for _, written in calls:
                    if not written.done():
                        written.set_exception(error)
                raise
            for _, written in calls:
                if not written.done():
                    written.set_result(None)
            self._num_unmaintained += 1
            if self._num_unmaintained >= self._maintain_every:
                self._maintenance_is_due.set()

    async def _maintain_for_ever(self) -> None:
        while True:
            await self._maintenance_is_due.wait()
            self._maintenance_is_due.clear()
            self._num_unmaintained = 0
            with self._clock.stage("compact"), self._watchdog.watch(COMMIT_DEADLINE_S, "compaction of the", self._name):
                await self._in_thread(self._maintain)

    async def _in_thread(self, work: Callable[..., object], *arguments: Any) -> None:
        await to_the_end(asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments))
