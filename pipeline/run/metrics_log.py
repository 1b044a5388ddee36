"""What is counted, and to whom it is told.

`metrics.jsonl` has one JSON object a line: `source` ('orchestrator' | 'learner'), `event`, `step`, `time_s`, and the
numbers. Lines are appended with a single O_APPEND write each, so that two processes may write and a reader never sees
half of one. The learner forwards the orchestrator's lines to the trackers (TensorBoard and others), because only it
imports them."""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.run.folder import disk_error


def finite(value: Any) -> Any:
    """JSON has no NaN; an undefined number is null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


class MetricsWriter:
    """Appends lines to metrics.jsonl."""

    def __init__(self, path: Path, source: str) -> None:
        self._path = path
        self._source = source

    def write(self, event: str, step: int, **numbers: Any) -> dict[str, Any]:
        """Append one line and return it. Raises DiskError."""
        line = finite(
            {"source": self._source, "event": event, "step": step, "time_s": round(time.time(), 3), **numbers}
        )
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(file, (json.dumps(line) + "\n").encode())
            finally:
                os.close(file)
        except OSError as error:
            raise disk_error(error, self._path) from error
        return line


def read_metrics(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Whole lines of metrics.jsonl from byte `offset`, and the offset after the last of them.

    A kill in the middle of a write leaves a line without its end, and the next one follows on it: that one is passed over."""
    if not path.exists():
        return [], offset
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    end = data.rfind(b"\n") + 1
    lines = []
    for line in data[:end].splitlines():
        with suppress(ValueError):
            lines.append(json.loads(line))
    return lines, offset + end


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


def wilson_interval(num_successes: float, num_trials: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927); (0, 1) without trials."""
    if num_trials == 0:
        return 0.0, 1.0
    share = num_successes / num_trials
    centre = share + z * z / (2 * num_trials)
    spread = z * math.sqrt(share * (1 - share) / num_trials + z * z / (4 * num_trials**2))
    scale = 1 + z * z / num_trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def cohen_kappa(both: int, only_second: int, neither: int, only_first: int) -> float | None:
    """Agreement of two raters beyond chance, from how often they said yes; None where one of them always says the same."""
    total = both + only_second + neither + only_first
    if not 0 < both + only_first < total or not 0 < both + only_second < total:
        return None
    first, second = (both + only_first) / total, (both + only_second) / total
    chance = first * second + (1 - first) * (1 - second)
    return ((both + neither) / total - chance) / (1 - chance)
