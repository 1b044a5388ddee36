"""Counts of durations in fixed buckets: constant memory, however long a run lasts."""

from __future__ import annotations

from bisect import bisect_left

# Bounds in seconds that OpenTelemetry's GenAI conventions advise for gen_ai.client.operation.duration, carried on to 22
# minutes.
BOUNDS = tuple(0.01 * 2**power for power in range(18))


class Histogram:
    """`counts[i]` values were at most `bounds[i]` seconds and above the bound before; the last count is of longer
    ones."""

    __slots__ = ("bounds", "counts", "num", "total_s")

    def __init__(self, bounds: tuple[float, ...] = BOUNDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.num = 0
        self.total_s = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.num += 1
        self.total_s += seconds

    def copy(self) -> Histogram:
        """The same numbers, which later values do not change."""
        other = Histogram(self.bounds)
        other.counts, other.num, other.total_s = list(self.counts), self.num, self.total_s
        return other

    def quantile(self, share: float) -> float:
        """Seconds that `share` of the values did not exceed, interpolated within a bucket; 0.0 without values.

        Beyond the last bound there is nothing to interpolate to, and the bound itself is returned."""
        left = share * self.num
        for index, count in enumerate(self.counts):
            if count and left <= count:
                if index == len(self.bounds):
                    break
                low = self.bounds[index - 1] if index else 0.0
                return low + (self.bounds[index] - low) * left / count
            left -= count
        return self.bounds[-1] if self.num else 0.0
