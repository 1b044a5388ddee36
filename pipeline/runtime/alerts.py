"""One alert for one cause: of many waits of a kind that are stuck at once, the first is told, then how many more there were.

The log names every one of them (`pipeline.runtime.watchdog`).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pipeline.runtime.watchdog import Stuck

QUIET_S = 60.0


class StuckAlerts:
    """Call it with what is stuck; `tell` gets a message, at most one for each kind (the first word of `what`) in `QUIET_S`."""

    def __init__(self, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock = clock
        self._told_s: dict[str, float] = {}
        self._num_untold: dict[str, int] = {}

    def __call__(self, stuck: Stuck) -> None:
        kind, now_s = stuck.what.partition(" ")[0], self._clock()
        if kind in self._told_s and now_s - self._told_s[kind] < QUIET_S:
            self._num_untold[kind] = self._num_untold.get(kind, 0) + 1
            return
        others = self._num_untold.pop(kind, 0)
        self._told_s[kind] = now_s
        self._tell(str(stuck) + (f" (and {others} more since the last alert; the log names them)" if others else ""))
