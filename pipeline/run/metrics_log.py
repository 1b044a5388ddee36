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
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.runtime.files import disk_error


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
