"""Watches everything that is waited for: reports what takes long, and ends what has a deadline at its deadline.

One table and one timer for thousands of waits, where `asyncio.timeout` makes and cancels a timer for each
(docs/lab-notebook.md). So a deadline may pass by up to `PRECISION_S` unnoticed. Reports do not depend on deadlines
being kept: what a deadline should have ended and did not is reported as well. The log names every stuck wait; alerts
are one for one cause (`StuckAlerts`).

| waits       | for                                  | woken by  |
|-------------|--------------------------------------|-----------|
| the sweep   | the next check, while anything is open | the clock |
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

PRECISION_S = 0.1
# Between two alerts of one kind.
QUIET_S = 60.0

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
    """Calls `on_stuck` once for each wait that lasts `stuck_after_s`, or half of its deadline if that is less.

    Belongs to one event loop; its timer runs only while something is open."""

    def __init__(self, on_stuck: Callable[[Stuck], None] = lambda stuck: None, stuck_after_s: float = 120.0) -> None:
        self._on_stuck = on_stuck
        self._stuck_after_s = stuck_after_s
        self._open: dict[_Wait, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.num_reported = 0

    @contextmanager
    def watch(self, deadline_s: float, *what: object) -> Iterator[None]:
        """`with watchdog.watch(60.0, "commit", 7):` is reported when it takes long. The parts of `what` are joined to a
        text only then."""
        wait = self._begin(_Wait(deadline_s, what))
        try:
            yield
        finally:
            self._open.pop(wait, None)

    @contextmanager
    def limit(self, deadline_s: float, *what: object) -> Iterator[None]:
        """As `watch`, and raises TimeoutError in the block at the deadline. A cancellation from elsewhere passes
        through."""
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
        """Waits that were reported and are still open."""
        return sum(wait.reported for wait in self._open)

    def check(self, now_s: float) -> None:
        """Report and end what is due by `now_s` (the loop's clock)."""
        for wait in [wait for wait in self._open if wait.due_s <= now_s]:
            waited_s = now_s - wait.since_s
            if not wait.reported and waited_s >= self._report_after_s(wait):
                wait.reported = True
                self.num_reported += 1
                stuck = Stuck(" ".join(map(str, wait.what)), waited_s, wait.deadline_s)
                logger.warning("%s", stuck)
                self._on_stuck(stuck)
            if wait.task is not None and waited_s >= wait.deadline_s:
                wait.expired = True
                wait.task.cancel()
            wait.due_s = self._next_due_s(wait)

    def _report_after_s(self, wait: _Wait) -> float:
        return min(self._stuck_after_s, wait.deadline_s / 2)

    def _next_due_s(self, wait: _Wait) -> float:
        if not wait.reported:
            return wait.since_s + self._report_after_s(wait)
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
        self.check(loop.time())
        self._timer = loop.call_later(PRECISION_S, self._sweep) if self._open else None


class _Wait:
    """One `with` block. Its deadline is enforced where it has a `task`."""

    __slots__ = ("deadline_s", "due_s", "expired", "reported", "since_s", "task", "what")

    def __init__(self, deadline_s: float, what: tuple[object, ...], task: asyncio.Task[object] | None = None) -> None:
        self.deadline_s = deadline_s
        self.what = what
        self.task = task
        self.reported = self.expired = False
        self.since_s = self.due_s = 0.0


class StuckAlerts:
    """One alert for one cause: of many stuck waits of a kind the first is reported, then how many more there were.

    Call it with what is stuck; `alert` gets a message, at most one for each kind (the first word of `what`) in
    `QUIET_S`."""

    def __init__(self, alert: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._alert = alert
        self._clock = clock
        self._alerted_s: dict[str, float] = {}
        self._num_silent: dict[str, int] = {}

    def __call__(self, stuck: Stuck) -> None:
        kind, now_s = stuck.what.partition(" ")[0], self._clock()
        if kind in self._alerted_s and now_s - self._alerted_s[kind] < QUIET_S:
            self._num_silent[kind] = self._num_silent.get(kind, 0) + 1
            return
        others = self._num_silent.pop(kind, 0)
        self._alerted_s[kind] = now_s
        self._alert(str(stuck) + (f" (and {others} more since the last alert; the log names them)" if others else ""))
