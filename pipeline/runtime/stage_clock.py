"""Wall-clock seconds and counts by stage."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class StageClock:
    """Wall-clock seconds and counts by stage (rollout, reflect, abstract, retrieve, reward, train, reload, eval).

    A second during which several requests of one stage are in flight counts once; stages may overlap each other.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.counts: Counter[str] = Counter()
        self._num_open: Counter[str] = Counter()
        self._opened: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the block to `name`, unless another block of that name is open already."""
        if self._num_open[name] == 0:
            self._opened[name] = time.monotonic()
        self._num_open[name] += 1
        try:
            yield
        finally:
            self._num_open[name] -= 1
            if self._num_open[name] == 0:
                self.seconds[name] += time.monotonic() - self._opened[name]

    def count(self, name: str, amount: int = 1) -> None:
        self.counts[name] += amount

    def seconds_now(self) -> dict[str, float]:
        """Seconds by stage, those of stages that are open at present included."""
        now = time.monotonic()
        still = {name: now - self._opened[name] for name, num in self._num_open.items() if num}
        return {name: self.seconds[name] + still.get(name, 0.0) for name in sorted({*self.seconds, *still})}
