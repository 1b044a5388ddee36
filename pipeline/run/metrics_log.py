"""The metrics of a run, `metrics.jsonl`: what both processes counted, in the order in which they wrote it.

One JSON object a line: `source` ('orchestrator' | 'learner'), `event`, `step`, `time_s`, and the numbers. Both
processes append (`pipeline.runtime.jsonl`). The learner forwards the orchestrator's lines to the trackers (TensorBoard
and others), because only it imports them."""

from __future__ import annotations

import json
import math
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.runtime import jsonl


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
        jsonl.append(self._path, json.dumps(line))
        return line


def read_metrics(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Whole lines of metrics.jsonl from byte `offset`, and the offset after the last of them.

    A kill in the middle of a write leaves a line without its end, and the next one follows on it: that one is passed
    over."""
    lines = []
    for line in jsonl.whole_lines(path, offset):
        offset += len(line)
        with suppress(ValueError):
            lines.append(json.loads(line))
    return lines, offset
