"""An append-only file of JSON lines, in which a kill leaves at most one line without its end.

Lines are appended with one O_APPEND write each: several processes may write, and a reader never sees half of one. Who
reads the whole file before it goes on writing cuts a torn line off (`truncate`); where others write, the next line
follows on it and neither is JSON.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.runtime.files import disk_error


def whole_lines(path: Path, offset: int = 0) -> Iterator[bytes]:
    """The lines from byte `offset` on, each with its end, one at a time in memory; none where there is no file."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            yield line


def append(path: Path, line: str) -> None:
    """Write `line` and its end. Raises DiskError."""
    content = line.encode() + b"\n"
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            while content:  # a disk that is nearly full takes a part
                content = content[os.write(file, content) :]
        finally:
            os.close(file)
    except OSError as error:
        raise disk_error(error, path) from error


def truncate(path: Path, num_bytes: int | None = None) -> None:
    """Keep the first `num_bytes`, or all whole lines; the file is there afterwards."""
    kept = sum(map(len, whole_lines(path))) if num_bytes is None else num_bytes
    with path.open("ab") as file:
        file.truncate(kept)
