"""What is being waited for: named when it takes long, ended at its deadline where it has one.

One table and one timer for thousands of waits: `asyncio.timeout` makes and cancels a timer for each, which was a tenth of what
an answer costs (docs/lab-notebook.md). So a deadline may pass by up to `PRECISION_S` unnoticed. Naming does not depend on
deadlines being kept: what a deadline should have ended and did not is named as well.

| waits       | for                                  | woken by  |
|-------------|--------------------------------------|-----------|
| the sweep   | the next look, while anything is open | the clock |
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

PRECISION_S = 0.1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stuck:
    """`what` has been waiting for `waited_s` of the `deadline_s` that it may."""

    what: str
    waited_s: float
    deadline_s: float

    def __str__(self) -> str:
        return f"stuck for {self.waited_s:.1f} s (deadline {self.deadline_s:g} s): {self.what}"


class Watchdog:
    """`tell` is called once for each wait that lasts `stuck_after_s`, or half of its deadline if that is less.

    Belongs to one event loop; its timer runs only while something is open."""

    def __init__(self, tell: Callable[[Stuck], None] = lambda stuck: None, stuck_after_s: float = 120.0) -> None:
        self._tell = tell
        self._stuck_after_s = stuck_after_s
        self._open: dict[_Wait, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.num_named = 0

    @contextmanager
    def watch(self, deadline_s: float, *what: object) -> Iterator[None]:
        """`with watchdog.watch(60.0, "commit", 7):` is named when it takes long. The parts of `what` are put into words only then."""
        wait = self._begin(_Wait(deadline_s, what))
        try:
            yield
        finally:
            self._open.pop(wait, None)

    @contextmanager
    def limit(self, deadline_s: float, *what: object) -> Iterator[None]:
        """As `watch`, and raises TimeoutError in the block at the deadline. A cancellation from elsewhere passes through."""
        task = asyncio.current_task()
        assert task is not None, "a deadline belongs to a task"
        num_cancelling = task.cancelling()
        wait = self._begin(_Wait(deadline_s, what, task))
        try:
            yield
        except asyncio.CancelledError as error:
            # Of the requests to cancel the task, one is the deadline's; any more came from elsewhere.
            if wait.expired and task.cancelling() - 1 <= num_cancelling:
                raise TimeoutError from error
            raise
        finally:
            self._open.pop(wait, None)
            if wait.expired:
                task.uncancel()

    @property
    def num_stuck(self) -> int:
        """Waits that were named and are still open."""
        return sum(wait.named for wait in self._open)

    def look(self, now_s: float) -> None:
        """Name and end what is due by `now_s` (the loop's clock)."""
        for wait in [wait for wait in self._open if wait.due_s <= now_s]:
            waited_s = now_s - wait.since_s
            if not wait.named and waited_s >= self._naming_s(wait):
                wait.named = True
                self.num_named += 1
                stuck = Stuck(" ".join(map(str, wait.what)), waited_s, wait.deadline_s)
                logger.warning("%s", stuck)
                self._tell(stuck)
            if wait.task is not None and waited_s >= wait.deadline_s:
                wait.expired = True
                wait.task.cancel()
            wait.due_s = self._next_due_s(wait)

    def _naming_s(self, wait: _Wait) -> float:
        return min(self._stuck_after_s, wait.deadline_s / 2)

    def _next_due_s(self, wait: _Wait) -> float:
        if not wait.named:
            return wait.since_s + self._naming_s(wait)
        return wait.since_s + wait.deadline_s if wait.task is not None and not wait.expired else float("inf")

    def _begin(self, wait: _Wait) -> _Wait:
        loop = asyncio.get_running_loop()
        wait.since_s = loop.time()
        wait.due_s = self._next_due_s(wait)
        self._open[wait] = None
        if self._timer is None:
            self._timer = loop.call_later(PRECISION_S, self._sweep)
        return wait

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self.look(loop.time())
        self._timer = loop.call_later(PRECISION_S, self._sweep) if self._open else None


class _Wait:
    """One `with` block. Its deadline is enforced where it has a `task`."""

    __slots__ = ("deadline_s", "due_s", "expired", "named", "since_s", "task", "what")

    def __init__(self, deadline_s: float, what: tuple[object, ...], task: asyncio.Task[object] | None = None) -> None:
        self.deadline_s = deadline_s
        self.what = what
        self.task = task
        self.named = self.expired = False
        self.since_s = self.due_s = 0.0
