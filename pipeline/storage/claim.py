"""Claims of a store: a run whose journal and pool are not in its folder claims their place, and touches nobody else's
tables.

A claim is a table of one row. Two runs that claim one place within the same moment may both seem to have it, because
Lance makes a table that was made meanwhile anew; the last one has it then, and the other learns so from `check_claim`,
which is called again before anything is sampled. Lance's commits rest on writes that fail when the object is there
already (`If-None-Match: *`). A store that ignores this loses commits in silence, and is refused: some at once are tried
on it."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import datetime
from typing import Any

from pipeline.config import Config
from pipeline.errors import StoreError
from pipeline.run.folder import Elsewhere, RunFolder
from pipeline.runtime.files import is_uri
from pipeline.storage.object_store import LOOKING, WORKING
from pipeline.storage.tables import WRITTEN, connect, failures_named

TABLE, PROBE = "run", "probe"
NUM_PROBES = 6
MAX_TABLES = 1000


def new_run(config: Config, *, unfinished: bool = False) -> RunFolder:
    """Make a run folder, and claim its store where that is elsewhere. An `unfinished` one is opened by nobody before
    its `unfinished_file` is gone. Raises RunFolderError, StoreError; nothing is left then."""
    run = RunFolder.create(config, unfinished=unfinished)
    if run.elsewhere is None:
        return run
    with ExitStack() as on_failure:
        on_failure.callback(shutil.rmtree, run.path, ignore_errors=True)
        on_failure.callback(release, run)
        _claim(run, run.elsewhere)
        on_failure.pop_all()
    return run


def check_claim(run: RunFolder) -> None:
    """Raise StoreError when the store of `run` is elsewhere, and cannot be reached or is not its own. Within half a
    minute."""
    if run.elsewhere is None:
        return
    location, run_id = run.elsewhere.location, run.elsewhere.run_id
    holder = _holder(location, connect(location, patience=LOOKING))
    if holder is None:
        raise StoreError(
            f"run.store: {location} holds nothing of the run {run.path}: it was emptied, or this is another object "
            "store than before (AWS_ENDPOINT)"
        )
    if holder["run_id"] != run_id:
        raise StoreError(_taken(location, holder))


def release(run: RunFolder) -> None:
    """Remove the tables of `run` from a store elsewhere, if that is its own and can be reached: what failed has another
    reason."""
    if run.elsewhere is not None:
        with suppress(StoreError), failures_named(run.store):
            check_claim(run)
            connect(run.store, patience=LOOKING).drop_all_tables()


def check_reachable(store: str) -> None:
    """Raise StoreError when nothing can be listed in `store`. Nothing is written. Within half a minute."""
    with failures_named(store):
        connect(store, patience=LOOKING).list_tables()


def _claim(run: RunFolder, elsewhere: Elsewhere) -> None:
    """Raises StoreError if another run has the place, or if it cannot be had."""
    location = elsewhere.location
    store = connect(location, patience=LOOKING)
    if (holder := _holder(location, store)) is not None:
        raise StoreError(_taken(location, holder))
    row = {
        "run_id": elsewhere.run_id,
        "folder": str(run.path),
        "host": socket.gethostname(),
        "begun": datetime.now().isoformat(timespec="seconds"),
    }
    with failures_named(location):
        try:
            store.create_table(TABLE, data=[row], mode="create")
        except ValueError as error:
            if "already exists" not in str(error):
                raise
    check_claim(run)
    if is_uri(location):
        _check_commits(location)


def _holder(location: str, store: Any) -> Mapping[str, str] | None:
    """The row of the run that has the place; None when nobody has. Raises StoreError for tables that no run claimed."""
    with failures_named(location):
        tables = store.list_tables(limit=MAX_TABLES).tables
        if TABLE in tables:
            rows: list[dict[str, str]] = store.open_table(TABLE).to_arrow().to_pylist()
            return rows[-1]
    if tables:
        raise StoreError(
            f"run.store: {location} holds tables of something else ({', '.join(sorted(tables)[:5])}); choose another "
            "run.store"
        )
    return None


def _taken(location: str, holder: Mapping[str, str]) -> str:
    return (
        f"run.store: {location} is the store of the run {holder['folder']} on {holder['host']}, begun "
        f"{holder['begun']}; choose another run.name or run.store, or delete what is there"
    )


def _check_commits(location: str) -> None:
    """Raise StoreError when commits that are made at once undo one another."""
    store = connect(location, WRITTEN, WORKING)
    with failures_named(location):
        store.create_table(PROBE, data=[{"number": -1}])
        tables = [store.open_table(PROBE) for _ in range(NUM_PROBES)]
        start = threading.Barrier(NUM_PROBES)

        def commit(number: int) -> None:
            start.wait()
            tables[number].add([{"number": number}])

        with ThreadPoolExecutor(NUM_PROBES) as threads:
            list(threads.map(commit, range(NUM_PROBES)))
        num_rows = store.open_table(PROBE).count_rows()
        store.drop_table(PROBE)
    if num_rows != NUM_PROBES + 1:
        raise StoreError(
            f"run.store: {location}: of {NUM_PROBES} commits made at once, {NUM_PROBES + 1 - num_rows} were lost: this "
            "object store writes over what is there although told not to (If-None-Match: *), and LanceDB relies on "
            "that; use another one, or a folder"
        )
