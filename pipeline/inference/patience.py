"""How long to wait for an answer of endpoints that may merely be slow.

As TCP's retransmission time-out (RFC 6298): it follows the time that answers were seen to take, and backs off after
each wait in vain. It is bounded, so that what never answers is given up."""

from __future__ import annotations

# The limit is so many times the longest time that was seen lately.
FACTOR = 2.0
# A quick answer takes this share of the longest time seen: hundreds of them forget a slow one.
FORGOTTEN = 0.01
# No limit is longer than so many times the configured one.
MOST = 8.0


class Patience:
    """A time limit for one attempt: pure, the caller passes the times. `least_s` ≤ `limit_s` ≤ MOST · `least_s`."""

    def __init__(self, least_s: float) -> None:
        self._least_s = least_s
        self._seen_s = 0.0

    @property
    def limit_s(self) -> float:
        return min(MOST * self._least_s, max(self._least_s, FACTOR * self._seen_s))

    @property
    def growth(self) -> float:
        """The limit relative to the configured one."""
        return self.limit_s / self._least_s

    def on_answer(self, latency_s: float) -> None:
        """An answer came after `latency_s`."""
        self._seen_s = max(latency_s, self._seen_s - FORGOTTEN * (self._seen_s - latency_s))

    def on_timeout(self, waited_s: float) -> None:
        """None came in `waited_s`. Many that were waited for at the same time say no more than one of them."""
        self._seen_s = max(self._seen_s, waited_s)
