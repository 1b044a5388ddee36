"""Entries of a pool as files: JSON lines, or Parquet for tables of half a million.

What is written holds what became of each entry's rollouts; whoever imports it keeps counting from there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from pipeline.errors import DataError
from pipeline.pool_rows import entry_of, schema, table_of
from pipeline.records import Experience
from pipeline.run import disk_error

T = TypeVar("T")
SUFFIXES = (".jsonl", ".parquet")
ROWS_PER_BATCH = 4096


def export(entries: Iterable[Experience], file: Path) -> int:
    """Write `entries` in the format of the file's suffix; the file appears whole or not at all. Return how many.

    Raises DataError for another suffix, DiskError."""
    write = _by_suffix(file, _write_jsonl, _write_parquet)
    temporary = file.with_name(f".{file.name}.part")
    try:
        num = write(entries, temporary)
        temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise disk_error(error, file) from error
    return num


def read(file: Path) -> Iterator[Experience]:
    """The entries of a file. Raises DataError naming the file, the line and what is wrong with it."""
    if not file.is_file():
        raise DataError(f"{file} is no file; give one that `pool export` wrote, or one like it")
    return _by_suffix(file, _read_jsonl, _read_parquet)(file)


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
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _checked(partial(Experience.model_validate_json, line), file, f"line {number}")


def _write_parquet(entries: Iterable[Experience], file: Path) -> int:
    import pyarrow.parquet as parquet

    num, batch = 0, []
    with parquet.ParquetWriter(file, schema()) as writer:
        for entry in entries:
            batch.append(entry)
            if len(batch) == ROWS_PER_BATCH:
                writer.write_table(table_of(batch))
                num, batch = num + len(batch), []
        if batch:
            writer.write_table(table_of(batch))
    return num + len(batch)


def _read_parquet(file: Path) -> Iterator[Experience]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        table = parquet.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise DataError(f"{file} cannot be read as Parquet: {error}") from error
    number = 0
    for batch in table.iter_batches(ROWS_PER_BATCH):
        for row in batch.to_pylist():
            number += 1
            yield _checked(partial(entry_of, row), file, f"row {number}")


def _checked(make: Callable[[], Experience], file: Path, where: str) -> Experience:
    try:
        return make()
    except KeyError as error:
        raise DataError(f"{file}, {where}: the field {error} is missing") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the line"
        raise DataError(f"{file}, {where}: {field}: {first['msg']}") from error
