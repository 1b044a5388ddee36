"""LanceDB tables with bounded memory: opened, read, appended to, pinned. `pipeline.storage.maintenance` compacts and
indexes them.

LanceDB writes; Lance, on which it is built, reads (`Reader`), because it is faster (docs/lab-notebook.md)."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import DataError
from pipeline.runtime.files import is_uri
from pipeline.storage.object_store import WORKING, failure, storage_options


class Caches(NamedTuple):
    """Bounds of the caches that LanceDB keeps of a table's indices and metadata; its own are some GiB.

    Every commit makes new entries, and a cache keeps those of versions that nobody reads any more until it is full: a
    table that is written all the time fills it and gains nothing."""

    index_bytes: int
    metadata_bytes: int


# Larger ones make no search faster (docs/lab-notebook.md).
SEARCHED, WRITTEN = Caches(16 << 20, 4 << 20), Caches(4 << 20, 4 << 20)


@cache
def _session(caches: Caches) -> Any:
    """Shared by all tables of this process that have caches of this size."""
    import lancedb

    return lancedb.Session(index_cache_size_bytes=caches.index_bytes, metadata_cache_size_bytes=caches.metadata_bytes)


def connect(path: Path | str, caches: Caches = WRITTEN, patience: Mapping[str, str] = WORKING) -> Any:
    """The LanceDB in the folder or object store at `path`. Raises StoreError when it cannot be had, DiskError."""
    import lancedb

    with failures_named(path):
        return lancedb.connect(str(path), session=_session(caches), storage_options=storage_options(path, patience))


def has_table(path: Path | str, name: str) -> bool:
    """Whether the table is there, which is not made. Raises StoreError, DiskError."""
    if not is_uri(path):
        return (Path(path) / f"{name}.lance").is_dir()
    with failures_named(path):
        return name in connect(path).list_tables().tables


def open_table(path: Path | str, name: str, schema: Any, caches: Caches) -> Any:
    """The table `name` in the folder or object store at `path`; made with `schema` if it is not there.

    Two that make it at once may undo what the first one wrote into it meanwhile: who makes a run makes its tables.
    Raises DataError for one that another version of lanpo made with other columns (one that may be null is added with
    the first row that is written, by `add_missing`), StoreError, DiskError."""
    store = connect(path, caches)
    with failures_named(path):
        try:
            table = store.open_table(name)
        except (FileNotFoundError, ValueError):  # what LanceDB says of a table that is not there
            return store.create_table(name, schema=schema, exist_ok=True)
    if missing := {field.name for field in schema if not field.nullable} - set(table.schema.names):
        raise DataError(
            f"{path} holds a table {name!r} without {', '.join(sorted(missing))}: another version of lanpo made it. "
            "Continue that run with the version that began it, or start a new one"
        )
    return table


@contextmanager
def failures_named(path: Path | str) -> Iterator[None]:
    """Raise what goes wrong with the store at `path` as errors that a user can act on: DiskError, StoreError; a bug
    unchanged."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        if (named := failure(error, path)) is error:
            raise
        raise named from error


def clone(table: Any, version: int, path: Path | str) -> None:
    """Copy `table` as it was at `version`, with its indices and under the same version, into the empty store at `path`.

    The copy needs nothing of the original. Pins are not copied. Raises StoreError, DiskError."""
    with failures_named(path):
        table.to_lance().deep_clone(f"{path}/{table.name}.lance", version, storage_options(path, WORKING))


@cache
def _reading_session(caches: Caches) -> Any:
    import lance

    return lance.Session(index_cache_size_bytes=caches.index_bytes, metadata_cache_size_bytes=caches.metadata_bytes)


class Reader:
    """The reading side of a table of the store at `path`, at the version that the handle had or that `refresh` found.
    Thread-safe.

    Raises DiskError, StoreError. `query` is what Lance's `scanner` takes: columns, filter, full_text_query, limit …"""

    def __init__(self, table: Any, caches: Caches, path: Path | str) -> None:
        self.path = path
        self._is_folder = not is_uri(path)
        # Moving to another version borrows the dataset exclusively; a scanner that was made goes on with its own.
        self._moving = threading.Lock()
        self._dataset = table.to_lance(session=_reading_session(caches))
        self._last_checked = max((fragment.fragment_id for fragment in self._dataset.get_fragments()), default=-1)

    def refresh(self) -> None:
        """See what was committed since, by whomever. Cheap where nothing was."""
        with failures_named(self.path), self._moving:
            self._dataset.checkout_latest()

    def check_new_files(self) -> None:
        """Raise OSError for a file of rows added since the last call that is not as long as Lance believes."""
        if not self._is_folder:
            return
        with self._moving:
            added = self._since(self._last_checked)
        self._last_checked = max((fragment.fragment_id for fragment in added), default=self._last_checked)
        check_whole(self._dataset, [fragment.metadata for fragment in added])

    def _since(self, last: int) -> list[Any]:
        """Fragments with higher numbers. Listing all of them takes long beside a commit, so the next number is tried
        first."""
        added: list[Any] = []
        while (fragment := self._dataset.get_fragment(last + 1 + len(added))) is not None:
            added.append(fragment)
        return added or [fragment for fragment in self._dataset.get_fragments() if fragment.fragment_id > last]

    def rows(self, **query: Any) -> Any:
        """The rows as an Arrow table."""
        with failures_named(self.path):
            return self._scanner(query).to_table()

    def batches(self, **query: Any) -> Iterator[Any]:
        """The same in pieces."""
        with failures_named(self.path):
            yield from self._scanner(query).to_batches()

    def count(self, condition: str | None = None) -> int:
        with failures_named(self.path), self._moving:
            return int(self._dataset.count_rows(condition))

    def matching(self, text: str, column: str, columns: list[str], most: int) -> Any:
        """The rows whose `column` matches any word of `text` best by BM25, best first, with `_score`."""
        from lance.query import MatchQuery

        return self.rows(columns=[*columns, "_score"], full_text_query=MatchQuery(text, column), limit=most)

    def _scanner(self, query: dict[str, Any]) -> Any:
        with self._moving:
            return self._dataset.scanner(**query)


def quoted(value: str) -> str:
    """`value` as a string of a filter."""
    return "'" + value.replace("'", "''") + "'"


def add_missing(table: Any, schema: Any) -> None:
    """Add the columns of `schema` that `table` lacks, null in the rows that are there: they were made before."""
    known = set(table.schema.names)
    for field in schema:
        if field.name not in known:
            table.add_columns(field)


def append(table: Any, rows: Any, reader: Reader) -> None:
    """Add `rows` to `table` in one commit; its `reader` sees them. Nobody else may write meanwhile.

    Raises DiskError, StoreError; nothing is added then."""
    with failures_named(reader.path):
        before = table.version
        table.add(rows)
        reader.refresh()
        try:
            reader.check_new_files()
        except OSError:
            # Not the version before the newest: that may be of an index which was brought up to date since. By a handle
            # of its own: the thread that brings indices up to date moves this one.
            table.to_lance().checkout_version(before).restore()
            table.checkout_latest()
            reader.refresh()
            raise


def check_whole(dataset: Any, fragments: list[Any]) -> None:
    """Raise OSError for a file in a folder that is not as long as Lance believes. Where a write fails in the middle of
    a file, Lance goes on, and commits a table that cannot be read."""
    for fragment in fragments:
        for file in fragment.files:
            path = Path(dataset.uri) / "data" / file.path
            if file.file_size_bytes is not None and path.stat().st_size != file.file_size_bytes:
                raise OSError(errno.EIO, f"{path.stat().st_size} of {file.file_size_bytes} bytes were kept", str(path))


def pin(table: Any, name: str) -> int:
    """Name the present version of `table`, so that no compaction removes it; return the version."""
    version = int(table.version)
    if name in table.tags.list():
        table.tags.update(name, version)
    else:
        table.tags.create(name, version)
    return version


def unpin(table: Any, name: str) -> None:
    """Let compactions remove the version of that name, if there is one."""
    if name in table.tags.list():
        table.tags.delete(name)


def pinned_versions(table: Any) -> dict[str, int]:
    """Pinned versions by name."""
    return {name: int(tag["version"]) for name, tag in table.tags.list().items()}
