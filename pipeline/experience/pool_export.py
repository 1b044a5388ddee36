"""Writes and reads entries of a pool as files to exchange: JSON lines, or Parquet for large pools.

A file is written whole or not at all, and may come from elsewhere: unlike a log (`pipeline.runtime.jsonl`), its last
line may lack an end, and one that is wrong is an error. It holds the counts of each entry's use too; whoever imports it
keeps counting from there."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from pipeline.config.validation import invalid_fields
from pipeline.errors import DataError, DiskError
from pipeline.experience.pool_schema import entry_of, schema, table_of
from pipeline.runtime.files import disk_error, unused
from pipeline.types import Experience

T = TypeVar("T")
SUFFIXES = (".jsonl", ".parquet")
ROWS_PER_BATCH = 4096


def export(entries: Iterable[Experience], file: Path) -> int:
    """Write `entries` in the format of the file's suffix; the file appears whole or not at all. Return how many.

    Raises DataError for another suffix, a file that is there already, a place that cannot be written to; DiskError."""
    write = _by_suffix(file, _write_jsonl, _write_parquet)
    temporary = unused(file)
    exists = DataError(f"{file} exists already, and nothing is written over it; name another file, or move it away")
    if file.exists() or file.is_symlink():
        raise exists
    with writing(file):
        temporary.touch(exist_ok=False)
    try:
        with writing(file):
            num = write(entries, temporary)
            try:
                os.link(temporary, file)  # which fails where somebody was quicker
            except FileExistsError:
                raise exists from None
            except OSError:  # a file system without links
                temporary.rename(file)
    finally:
        temporary.unlink(missing_ok=True)
    return num


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise what keeps `path` from being written as the user's to mend: DataError naming it, DiskError."""
    try:
        yield
    except OSError as error:
        # A place that is read-only is no failing disk: another one will do.
        found = error if error.errno == errno.EROFS else disk_error(error, path)
        if isinstance(found, DiskError):
            raise found from error
        raise DataError(f"{path} cannot be written ({error.strerror or error}); name a place that can") from error


def num_rows(file: Path) -> int:
    """How many entries `read` will yield, but for blank lines, so that a progress has an end. Raises DataError."""
    return _by_suffix(file, _num_lines, _num_parquet_rows)(_there(file))


def read(file: Path) -> Iterator[Experience]:
    """The entries of a file. Raises DataError naming the file, the line and what is wrong with it."""
    return _by_suffix(file, _read_jsonl, _read_parquet)(_there(file))


def _there(file: Path) -> Path:
    if not file.is_file():
        raise DataError(f"{file} is no file; give one that `pool export` wrote, or one like it")
    return file


def _by_suffix(file: Path, jsonl: T, parquet: T) -> T:
    if file.suffix not in SUFFIXES:
        raise DataError(f"{file}: the suffix {file.suffix!r} names no known format; use {' or '.join(SUFFIXES)}")
    return jsonl if file.suffix == ".jsonl" else parquet


def _write_jsonl(entries: Iterable[Experience], file: Path) -> int:
    num = 0
    with file.open("w", encoding="utf-8") as lines:
        for entry in entries:
            lines.write(entry.model_dump_json() + "\n")
            num += 1
    return num


def _read_jsonl(file: Path) -> Iterator[Experience]:
    # As bytes, so that a line that is no UTF-8 is named as any other that is no JSON.
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _checked(partial(Experience.model_validate_json, line), file, f"line {number}")


def _num_lines(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for _ in lines)


def _write_parquet(entries: Iterable[Experience], file: Path) -> int:
    import pyarrow.parquet as parquet

    num, left = 0, iter(entries)
    with parquet.ParquetWriter(file, schema()) as writer:
        while batch := list(islice(left, ROWS_PER_BATCH)):
            writer.write_table(table_of(batch))
            num += len(batch)
    return num


def _read_parquet(file: Path) -> Iterator[Experience]:
    rows = (row for batch in _parquet(file).iter_batches(ROWS_PER_BATCH) for row in batch.to_pylist())
    for number, row in enumerate(rows, 1):
        yield _checked(partial(entry_of, row), file, f"row {number}")


def _num_parquet_rows(file: Path) -> int:
    return int(_parquet(file).metadata.num_rows)


def _parquet(file: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        return parquet.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise DataError(f"{file} cannot be read as Parquet: {error}") from error


def _checked(make: Callable[[], Experience], file: Path, where: str) -> Experience:
    try:
        return make()
    except KeyError as error:
        raise DataError(f"{file}, {where}: the field {error} is missing") from error
    except ValidationError as error:
        first = invalid_fields(error)[0]
        raise DataError(f"{file}, {where}: {first.field or 'the line'}: {first.message}") from error
