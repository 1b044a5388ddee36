"""Maintenance of LanceDB tables: compaction of a bounded size, indices made, brought up to date, and dropped where
torn.

Whoever writes to a table goes on meanwhile; only commits that would undo one another take turns (`turn`). What the
store raised (OSError, RuntimeError) is raised."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

from pipeline.runtime.files import is_uri
from pipeline.runtime.libc import call as call_libc
from pipeline.storage.tables import check_whole

# A file of 1024 rows is left alone by later compactions, so that what one writes does not grow with the table. Rows may
# hold a megabyte of rollouts each: 32 are in memory at once.
MERGE = {"target_rows_per_fragment": 1024, "max_rows_per_group": 32, "batch_size": 32}
NUM_INDEX_ATTEMPTS = 5
# The last one: it lost ten races in a row, to a writer that never rests.
SIGNS_OF_A_LOST_RACE = ("conflict", "incompatible transaction", "retryable commit", "too many concurrent writers")


def unindexed(table: Any, columns: Iterable[str]) -> list[str]:
    """Those of `columns` that have no index: it was never made, or was torn."""
    indexed = {column for index in table.list_indices() for column in index.columns}
    return [column for column in columns if column not in indexed]


def ensure_indices(
    table: Any,
    columns: Iterable[str],
    turn: AbstractContextManager[object],
    *,
    text: str = "",
    stop_words: Iterable[str] = (),
) -> None:
    """Make the indices of `columns` that are missing, within `turn`, which keeps all other commits out: of words for
    the column `text`, of values for the others."""
    from lancedb.index import FTS, BTree

    if not unindexed(table, columns):
        return
    of_words = FTS(stem=False, remove_stop_words=True, custom_stop_words=sorted(stop_words))
    with turn:
        for column in unindexed(table, columns):
            table.create_index(column, config=of_words if column == text else BTree())


def drop_torn_indices(table: Any) -> list[str]:
    """Remove the indices of `table` whose files are not as long as Lance believes, and return their columns: with one
    such no search, and no look-up by that column, ever succeeds again. Where one write fails, Lance commits an index
    all the same, as `check_whole` says of rows. Rows may be added meanwhile."""
    dataset = table.to_lance()
    torn = [] if is_uri(dataset.uri) else [kept for kept in dataset.describe_indices() if not _has_all(dataset, kept)]
    for kept in torn:
        table.drop_index(kept.name)
    return [column for kept in torn for column in kept.field_names]


def _has_all(dataset: Any, index: Any) -> bool:
    """Whether the files of an index are as long as Lance believes."""
    for segment in index.segments:
        if segment.size_bytes is None:  # written by a version of Lance that did not note it
            continue
        files = (Path(dataset.uri) / "_indices" / str(segment.uuid)).glob("*")
        if sum(file.stat().st_size for file in files) != segment.size_bytes:
            return False
    return True


def _check_indices(table: Any) -> None:
    """Raise OSError for an index that was just written and is not whole; it is removed, and made anew by who opens the
    table next."""
    if torn := drop_torn_indices(table):
        raise OSError(errno.EIO, f"the index of {', '.join(torn)} was not kept whole", str(table.to_lance().uri))


def compact(table: Any, keep: timedelta, turn: Callable[[], AbstractContextManager[object]]) -> None:
    """Merge small files of `table`, bring its indices up to date, remove versions older than `keep` that no tag holds.

    What it writes is bounded by the rows added since the last time, which LanceDB's own `optimize` is not. Files are
    merged and indices brought up to date while rows may be added, but none deleted. What `turn` makes, entered for the
    commit of what was merged, and for indices that lost a race, must keep all other commits out: beside a busy writer
    every race would be lost, until Lance gives up."""
    from lance.optimize import Compaction

    dataset = table.to_lance()
    merged = [task.execute(dataset) for task in Compaction.plan(dataset, MERGE).tasks]
    if not is_uri(dataset.uri):
        check_whole(dataset, [fragment for result in merged for fragment in result.new_fragments])
    if merged:
        with turn():
            Compaction.commit(dataset, merged, MERGE)
    index(table, turn)
    dataset.cleanup_old_versions(older_than=keep, error_if_tagged_old_versions=False)
    table.checkout_latest()
    # What a compaction and the commits before it held lies scattered over many threads' heaps, and glibc would keep it.
    call_libc("malloc_trim", 0)


def index(table: Any, turn: Callable[[], AbstractContextManager[object]] = nullcontext) -> None:
    """Bring the indices of `table` up to date. Rows may be added meanwhile, which are not in them then.

    Another process may do the same at once: the later of two commits is made anew, within `turn`, as for `compact`."""
    for left in reversed(range(NUM_INDEX_ATTEMPTS)):
        lost_a_race = left < NUM_INDEX_ATTEMPTS - 1
        try:
            with turn() if lost_a_race else nullcontext():
                table.checkout_latest()
                table.to_lance().optimize.optimize_indices()
        except (OSError, RuntimeError) as error:
            # Only a lost race is worth another attempt; a disk that fails, fails again.
            if not (left and is_conflict(error)):
                raise
        else:
            break
    table.checkout_latest()
    _check_indices(table)


def is_conflict(error: Exception) -> bool:
    """Whether Lance refused a commit because another one was made meanwhile."""
    text = str(error).lower()
    return any(sign in text for sign in SIGNS_OF_A_LOST_RACE)
