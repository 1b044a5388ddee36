"""Watches everything that is waited for: reports what is stuck, and ends what has a deadline at its deadline.

Slow is what takes far longer than others of its kind did lately: on a slow machine everything takes long, and nothing
is stuck. What has no history yet is reported when it reaches its deadline, as everything is.

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
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

PRECISION_S = 0.1
# A wait is slow when it takes so many times as long as the longest of the last ones of its kind. Fewer than the least
# tell nothing, nor does what was there at once: the second step's weights may be those of the first.
SLOW = 3.0
NUM_REMEMBERED, NUM_LEAST = 32, 3
# Between two alerts of one kind.
QUIET_S = 60.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stuck:
    """`what` has been waiting for `waited_s` of the `deadline_s` that it may; the last ones of its kind took `usual_s`
    at most, None where there were none."""

    what: str
    waited_s: float
    deadline_s: float
    usual_s: float | None = None

    def __str__(self) -> str:
        usual = "" if self.usual_s is None else f", others took {self.usual_s:.1f} s at most"
        return f"stuck for {self.waited_s:.1f} s (deadline {self.deadline_s:g} s{usual}): {self.what}"


class Watchdog:
    """Calls `on_stuck` once for each wait that is `SLOW` against its own kind and lasts `stuck_after_s` at least, or
    that reaches its deadline.

    Kinds are told apart by the first part of `what`. Only what is not ended at its deadline may outlast it unreported,
    where others of its kind did so and came to an end. Belongs to one event loop; its timer runs only while something
    is open."""

    def __init__(
        self,
        on_stuck: Callable[[Stuck], None] = lambda stuck: None,
        stuck_after_s: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_stuck = on_stuck
        self._stuck_after_s = stuck_after_s
        self._clock = clock
        self._open: dict[_Wait, None] = {}
        self._took_s: defaultdict[object, deque[float]] = defaultdict(lambda: deque(maxlen=NUM_REMEMBERED))
        self._timer: asyncio.TimerHandle | None = None
        self.num_reported = 0

    @contextmanager
    def watch(self, deadline_s: float, *what: object) -> Iterator[None]:
        """`with watchdog.watch(60.0, "commit", 7):` is reported when it is stuck. The parts of `what` are joined to a
        text only then."""
        wait = self._begin(_Wait(deadline_s, what))
        try:
            yield
        finally:
            self._end(wait)

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
            self._end(wait)
            if wait.expired:
                task.uncancel()

    @property
    def num_stuck(self) -> int:
        """Waits that were reported and are still open."""
        return sum(wait.reported for wait in self._open)

    def check(self, now_s: float) -> None:
        """Report and end what is due by `now_s` (the watchdog's clock)."""
        for wait in [wait for wait in self._open if wait.due_s <= now_s]:
            waited_s = now_s - wait.since_s
            if not wait.reported and waited_s >= self._report_after_s(wait):
                wait.reported = True
                self.num_reported += 1
                stuck = Stuck(" ".join(map(str, wait.what)), waited_s, wait.deadline_s, self._usual_s(wait))
                logger.warning("%s", stuck)
                self._on_stuck(stuck)
            if wait.task is not None and waited_s >= wait.deadline_s:
                wait.expired = True
                wait.task.cancel()
            wait.due_s = self._next_due_s(wait)

    def _usual_s(self, wait: _Wait) -> float | None:
        took_s = self._took_s.get(wait.kind, ())
        return max(took_s) if len(took_s) >= NUM_LEAST else None

    def _report_after_s(self, wait: _Wait) -> float:
        usual_s = self._usual_s(wait)
        if usual_s is None:
            return wait.deadline_s
        slow_s = max(self._stuck_after_s, SLOW * usual_s)
        is_no_limit = wait.task is None and usual_s >= wait.deadline_s
        return slow_s if is_no_limit else min(slow_s, wait.deadline_s)

    def _next_due_s(self, wait: _Wait) -> float:
        if not wait.reported:
            return wait.since_s + self._report_after_s(wait)
        return wait.since_s + wait.deadline_s if wait.task is not None and not wait.expired else float("inf")

    def _begin(self, wait: _Wait) -> _Wait:
        wait.since_s = self._clock()
        # What is usual is looked up only for what lasts so long, and may have changed by then.
        wait.due_s = wait.since_s + min(self._stuck_after_s, wait.deadline_s)
        self._open[wait] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PRECISION_S, self._sweep)
        return wait

    def _end(self, wait: _Wait) -> None:
        self._open.pop(wait, None)
        took_s = self._clock() - wait.since_s
        if not wait.expired and took_s >= PRECISION_S:
            self._took_s[wait.kind].append(took_s)

    def _sweep(self) -> None:
        self.check(self._clock())
        self._timer = asyncio.get_running_loop().call_later(PRECISION_S, self._sweep) if self._open else None


class _Wait:
    """One `with` block. Its deadline is enforced where it has a `task`."""

    __slots__ = ("deadline_s", "due_s", "expired", "reported", "since_s", "task", "what")

    def __init__(self, deadline_s: float, what: tuple[object, ...], task: asyncio.Task[object] | None = None) -> None:
        self.deadline_s = deadline_s
        self.what = what
        self.task = task
        self.reported = self.expired = False
        self.since_s = self.due_s = 0.0

    @property
    def kind(self) -> object:
        return self.what[0] if self.what else ""


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
