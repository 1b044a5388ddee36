"""The circuit breaker of one endpoint.

closed ──(failures in a row, or one that is proof enough)──► open ──(pause)──► half_open ──(probe succeeds)──► closed
                                                              ▲────────────────(probe fails: longer pause)──┘
"""

from __future__ import annotations

from typing import Literal

State = Literal["closed", "open", "half_open"]


class CircuitBreaker:
    """Pure state: who probes, and what a probe is, is the client's. Only a closed breaker lets requests through.

    `num_failures` are those in a row: whoever succeeds sets it to 0."""

    __slots__ = ("_max_pause_s", "_min_pause_s", "_most", "num_failures", "num_opened", "pause_s", "state")

    def __init__(self, most_failures: int, min_pause_s: float, max_pause_s: float) -> None:
        self.state: State = "closed"
        self.num_failures = 0
        self.num_opened = 0
        self.pause_s = 0.0
        self._most = most_failures
        self._min_pause_s = min_pause_s
        self._max_pause_s = max_pause_s

    def on_failure(self, *, immediate: bool = False) -> bool:
        """Count a failure; return whether it opened the breaker."""
        self.num_failures += 1
        if self.state != "closed" or not (immediate or self.num_failures >= self._most):
            return False
        self.state = "open"
        self.num_opened += 1
        # What was proved by one failure may be cured at once (a dropped connection); a series needs a pause first.
        self.pause_s = 0.0 if immediate else self._min_pause_s
        return True

    def begin_probe(self) -> None:
        self.state = "half_open"

    def on_probe(self, *, succeeded: bool) -> None:
        """Close after a probe that succeeded; else open again, for twice as long as before."""
        if succeeded:
            self.state, self.num_failures = "closed", 0
        else:
            self.state = "open"
            self.pause_s = min(self._max_pause_s, max(self._min_pause_s, 2 * self.pause_s))
