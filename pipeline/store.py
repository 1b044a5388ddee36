"""LanceDB tables with bounded costs: its own bounds are 7 GiB of caches, and a compaction that rewrites files of a million rows."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import DataError
from pipeline.object_store import WORKING, failure, storage_options


class Caches(NamedTuple):
    """Bounds of what LanceDB keeps of a table's indices and metadata. Every commit makes new entries, and a cache keeps those of
    versions that nobody reads any more until it is full: a table that is written all the time fills it and gains nothing."""

    index_bytes: int
    metadata_bytes: int


# A search of half a million entries is as fast with these as with four times as much (docs/lab-notebook.md).
SEARCHED, WRITTEN = Caches(16 << 20, 4 << 20), Caches(4 << 20, 4 << 20)
# A file of 1024 rows is left alone by later compactions, so that what one writes does not grow with the table. Rows may hold a
# megabyte of rollouts each: 32 are in memory at once.
MERGE = {"target_rows_per_fragment": 1024, "max_rows_per_group": 32, "batch_size": 32}


@cache
def _session(caches: Caches) -> Any:
    """Shared by all tables of this process that have caches of this size."""
    import lancedb

    return lancedb.Session(index_cache_size_bytes=caches.index_bytes, metadata_cache_size_bytes=caches.metadata_bytes)


def connect(path: Path | str, caches: Caches = WRITTEN, patience: Mapping[str, str] = WORKING) -> Any:
    """The LanceDB in the folder or object store at `path`. Raises StoreError when it cannot be had, DiskFullError."""
    import lancedb

    with failures_named(path):
        return lancedb.connect(str(path), session=_session(caches), storage_options=storage_options(path, patience))


def open_table(path: Path | str, name: str, schema: Any, caches: Caches) -> Any:
    """The table `name` in the folder or object store at `path`; made with `schema` if it is not there.

    Two that make it at once may undo what the first one wrote into it meanwhile: who makes a run makes its tables. Raises DataError
    for one that another version of lanpo made with other columns, StoreError, DiskFullError."""
    store = connect(path, caches)
    with failures_named(path):
        try:
            table = store.open_table(name)
        except (FileNotFoundError, ValueError):  # what LanceDB says of a table that is not there
            return store.create_table(name, schema=schema, exist_ok=True)
    if missing := set(schema.names) - set(table.schema.names):
        raise DataError(
            f"{path} holds a table {name!r} without {', '.join(sorted(missing))}: another version of lanpo made it. "
            "Continue that run with the version that began it, or start a new one"
        )
    return table


@contextmanager
def failures_named(path: Path | str) -> Iterator[None]:
    """Raise what goes wrong with the store at `path` in the user's words: DiskFullError, StoreError; a bug unchanged."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        if (named := failure(error, path)) is error:
            raise
        raise named from error


def clone(table: Any, version: int, path: Path | str) -> None:
    """Copy `table` as it was at `version`, with its indices and under the same version, into the empty store at `path`.

    The copy needs nothing of the original. Pins are not copied. Raises StoreError, DiskFullError."""
    with failures_named(path):
        table.to_lance().deep_clone(f"{path}/{table.name}.lance", version, storage_options(path, WORKING))


def quoted(value: str) -> str:
    """`value` as a string of a filter."""
    return "'" + value.replace("'", "''") + "'"


def compact(table: Any, keep: timedelta, turn: AbstractContextManager[object]) -> None:
    """Merge small files of `table`, bring its indices up to date, remove versions older than `keep` that no tag holds.

    What it writes is bounded by the rows added since the last time, which LanceDB's own `optimize` is not. Files are merged
    while rows may be added, but none deleted; `turn`, entered for the commit of what was merged, must keep all other commits
    out: beside a busy writer it would lose every race, until Lance gives up after 30 s. Raises what the store raised (OSError,
    RuntimeError)."""
    from lance.optimize import Compaction

    dataset = table.to_lance()
    merged = [task.execute(dataset) for task in Compaction.plan(dataset, MERGE).tasks]
    with turn:
        if merged:
            Compaction.commit(dataset, merged, MERGE)
        index(table)
    dataset.cleanup_old_versions(older_than=keep, error_if_tagged_old_versions=False)
    table.checkout_latest()
    _give_back_memory()


def index(table: Any) -> None:
    """Bring the indices of `table` up to date. What the store raised (OSError, RuntimeError) is raised."""
    table.checkout_latest()
    table.to_lance().optimize.optimize_indices()
    table.checkout_latest()


def _give_back_memory() -> None:
    """Return freed memory to the system: what a compaction and the commits before it held lies scattered over many threads'
    heaps, and glibc would keep it. Elsewhere nothing happens."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def pin(table: Any, name: str) -> int:
    """Name the present version of `table`, so that no compaction removes it; return the version."""
    version = int(table.version)
    if name in table.tags.list():
        table.tags.update(name, version)
    else:
        table.tags.create(name, version)
    return version


def unpin(table: Any, name: str) -> None:
    if name in table.tags.list():
        table.tags.delete(name)


def pinned_versions(table: Any) -> dict[str, int]:
    """Pinned versions by name."""
    return {name: int(tag["version"]) for name, tag in table.tags.list().items()}
