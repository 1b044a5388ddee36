"""An adaptive bound of an endpoint's requests in flight: additive increase, multiplicative decrease (Chiu and Jain
1989).

Ours: it starts at the configured bound, because a server that batches is fastest when full, and moves below it on
evidence of overload: when more than a twentieth of a round's answers are 429, 503 or time-outs. One in a hundred is a
mishap of that request, and cutting for each of those would hold a bound of hundreds down to a dozen. It grows again
only while it binds and latency holds."""

from __future__ import annotations

SHRINK = 0.7
GROWTH_PER_ROUND = 0.05
# Recent latency above this multiple of the usual one is a queue building up at the server: no growth then.
LATENCY_HOLDS = 2.0
RECENT, USUAL = 0.1, 0.005
# Share of recent answers "overloaded" from which on the endpoint is believed.
OVERLOADED_SHARE = 0.05


class AdaptiveLimit:
    """Pure: the caller passes the time. 1 ≤ `value` ≤ `most`."""

    __slots__ = ("_adaptive", "_most", "_overloaded", "_recent_s", "_shrunk_at_s", "_usual_s", "value")

    def __init__(self, most: int, *, adaptive: bool = True) -> None:
        self.value = float(most)
        self._most = float(most)
        self._adaptive = adaptive
        self._recent_s = self._usual_s = 0.0
        self._shrunk_at_s = float("-inf")
        self._overloaded = 0.0

    def on_success(self, latency_s: float, num_in_flight: int) -> None:
        """An answer after `latency_s`, when `num_in_flight` requests (it included) were out."""
        if not self._usual_s:
            self._recent_s = self._usual_s = latency_s
        self._overloaded -= self._overloaded * self._weight
        self._recent_s += RECENT * (latency_s - self._recent_s)
        self._usual_s += USUAL * (latency_s - self._usual_s)
        if self.value < self._most and num_in_flight >= int(self.value) and self.latency_holds:
            # One answer's share of a round: `value` answers make it grow by 5 %, or by one.
            self.value = min(self._most, self.value + max(1.0, GROWTH_PER_ROUND * self.value) / self.value)

    def on_overload(self, now_s: float) -> None:
        """The endpoint could not keep up. What was sent before the last cut tells nothing new: one cut a round trip."""
        self._overloaded += (1.0 - self._overloaded) * self._weight
        if self._adaptive and self._overloaded > OVERLOADED_SHARE and now_s - self._shrunk_at_s >= self._recent_s:
            self.value = max(1.0, self.value * SHRINK)
            self._shrunk_at_s = now_s

    @property
    def _weight(self) -> float:
        """Of one answer in the share of overloaded ones: about a round of them is remembered."""
        return 1.0 / max(10.0, self.value)

    @property
    def latency_holds(self) -> bool:
        return self._recent_s <= LATENCY_HOLDS * self._usual_s
