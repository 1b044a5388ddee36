"""Readers of data sources: the rows of JSONL files, hub data sets and users' iterables, as they are written.

What a row says is read by `pipeline.problems.tasks`."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import DataError

TEXT_LINE = '{"question": "What is 3 + 4?", "answer": "7"}'
EXPECTED = f"expected a JSON object such as {TEXT_LINE}"
OTHER_FORMATS = (".json", ".csv", ".tsv", ".parquet", ".xlsx", ".txt")
CONVERSION = "pandas: `read_csv(…).to_json(file, orient='records', lines=True)`"
"""How a file in one of them becomes JSONL."""


@dataclass(frozen=True)
class Row:
    """`values` as read, and `where` they came from, for messages."""

    where: str
    values: dict[str, Any]


def jsonl_rows(file: str, field: str) -> Iterator[Row]:
    """Rows of a JSONL file, gzipped where its name ends in .gz; blank lines are skipped.

    Raises DataError naming file, line and what is expected there."""
    path = Path(file)
    if not path.is_file():
        raise DataError(f"{field} = {file!r}: there is no such file; give the path of a JSONL file")
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield Row(f"{file}, line {number}", _parsed(line, file, number))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{field} = {file!r}: cut short, or not gzipped ({error}); fetch it again") from error


def _parsed(line: bytes, file: str, number: int) -> dict[str, Any]:
    where, expected = f"{file}, line {number}", EXPECTED
    if number == 1 and file.lower().removesuffix(".gz").endswith(OTHER_FORMATS):
        expected = f"only JSONL files are read, so convert it ({CONVERSION}); {EXPECTED}"
    try:
        values = json.loads(line)
    except ValueError as error:  # broken JSON and broken UTF-8 alike
        raise DataError(f"{where}: not JSON ({error}); {expected}") from error
    if not isinstance(values, dict):
        raise DataError(f"{where}: a JSON {type(values).__name__}; {expected}")
    return values


def plugin_rows(source: str, items: Any, field: str = "problems.source") -> Iterator[Row]:
    """Rows from a user's iterable; `field` is where `source` stands. Raises DataError for all but an iterable of
    dicts."""
    try:
        iterator = iter(items)
    except TypeError:
        raise DataError(
            f"{field} = {source!r} returned {type(items).__name__}; return an iterable of dicts "
            "{'question', 'answer' or 'tests', optionally 'id' and 'split'}"
        ) from None
    for number, values in enumerate(iterator, start=1):
        where = f"{source} item {number}"
        if not isinstance(values, dict):
            raise DataError(f"{where} is a {type(values).__name__}; {EXPECTED}")
        yield Row(where, values)


def hub_rows(dataset: str, config: str, split: str, what: str, remedy: str, revision: str = "") -> Iterator[Row]:
    """Rows of a split of a Hugging Face data set; DataError names `what` cannot be loaded, and the `remedy`."""
    import datasets

    pinned = {"revision": revision} if revision else {}
    try:
        rows = datasets.load_dataset(dataset, config or None, split=split, **pinned)
    except (OSError, ValueError, RuntimeError) as error:  # datasets' own errors derive from these
        raise DataError(f"{what} cannot be loaded: {type(error).__name__}: {str(error)[:300]}. {remedy}") from error
    for number, values in enumerate(rows, start=1):
        yield Row(f"{dataset} [{split}] row {number}", values)
