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
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

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
        self._open: dict[Wait, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.num_named = 0

    def watch(self, deadline_s: float, *what: object) -> Wait:
        """`with watchdog.watch(60.0, "commit", 7):` is named when it takes long. The parts of `what` are put into words only then."""
        return Wait(self, deadline_s, what, enforced=False)

    def limit(self, deadline_s: float, *what: object) -> Wait:
        """As `watch`, and raises TimeoutError in the block at the deadline. A cancellation from elsewhere passes through."""
        return Wait(self, deadline_s, what, enforced=True)

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
            if wait.enforced and waited_s >= wait.deadline_s:
                wait.expire()
            wait.due_s = self._next_due_s(wait)

    def _naming_s(self, wait: Wait) -> float:
        return min(self._stuck_after_s, wait.deadline_s / 2)

    def _next_due_s(self, wait: Wait) -> float:
        if not wait.named:
            return wait.since_s + self._naming_s(wait)
        return wait.since_s + wait.deadline_s if wait.enforced and not wait.expired else float("inf")

    def _begin(self, wait: Wait, loop: asyncio.AbstractEventLoop) -> None:
        wait.since_s = loop.time()
        wait.due_s = self._next_due_s(wait)
        self._open[wait] = None
        if self._timer is None:
            self._timer = loop.call_later(PRECISION_S, self._sweep)

    def _end(self, wait: Wait) -> None:
        self._open.pop(wait, None)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self.look(loop.time())
        self._timer = loop.call_later(PRECISION_S, self._sweep) if self._open else None


class Wait:
    """One `with` block."""

    __slots__ = (
        "_num_cancelling", "_task", "_watchdog", "deadline_s", "due_s", "enforced", "expired", "named", "since_s", "what",
    )  # fmt: skip

    def __init__(self, watchdog: Watchdog, deadline_s: float, what: tuple[object, ...], *, enforced: bool) -> None:
        self._watchdog = watchdog
        self.deadline_s = deadline_s
        self.what = what
        self.enforced = enforced
        self.named = self.expired = False
        self.since_s = self.due_s = 0.0
        self._task: asyncio.Task[object] | None = None
        self._num_cancelling = 0

    def __enter__(self) -> None:
        if self.enforced:
            task = self._task = asyncio.current_task()
            assert task is not None, "a deadline belongs to a task"
            self._num_cancelling = task.cancelling()
        self._watchdog._begin(self, asyncio.get_running_loop())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watchdog._end(self)
        if self.expired:
            assert self._task is not None
            if self._task.uncancel() <= self._num_cancelling and kind is asyncio.CancelledError:
                raise TimeoutError from error

    def expire(self) -> None:
        assert self._task is not None
        self.expired = True
        self._task.cancel()
