"""The experience pool: lessons in a LanceDB table, searched by BM25 over the text of the problem they came from.

Invariants: an entry's id is unique, also when two processes write; no entry of a held-out problem, by its split or by
its text; at most `max_entries_per_problem` of one problem after each `add`, or after the maintenance that it ran
beside. What a search yields has no reward in it (`Candidate`).

Writers on one machine take turns by a lock file, and a writer knows what is in the table: it only appends. On an object
store there is no such lock, and entries are merged by their primary key, which costs a look-up. Blocking calls; the
orchestrator makes them in a thread. Thread-safe."""

from __future__ import annotations

import fcntl
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, TextIO

from pipeline.config.experience import PoolSection
from pipeline.errors import DataError
from pipeline.experience.eviction import Holding, evicted
from pipeline.experience.pool_schema import TABLE, entry_of, schema, table_of
from pipeline.experience.usefulness import NEVER, Use, total_use
from pipeline.runtime.files import is_uri
from pipeline.storage.maintenance import compact, drop_torn_indices, ensure_indices, index, is_conflict
from pipeline.storage.tables import (
    SEARCHED,
    Reader,
    add_missing,
    append,
    clone,
    failures_named,
    open_table,
    pin,
    pinned_versions,
    quoted,
    unpin,
)
from pipeline.text import STOP_WORDS
from pipeline.types import IMPORTED, Experience, Split
from prompts.render import render_lessons
from prompts.schemas import Lesson

INDEXED, LOCK_FILE = ("problem_text", "id", "problem_id"), "pool.lock"
# Most entries that a search looks at: to put equals in order, or to find some of other problems.
MAX_FOUND = 1024
# A search that is under way in another process reads the version that it began with.
KEEP_VERSIONS = timedelta(minutes=2)
ROLLBACK_PIN = "before-set-back"
"""The version that a return to an earlier one began with, until that is done."""
COLUMNS = ("id", "problem_id", "problem_hash", "problem_text", "split", "lesson", "step")
"""What a search reads, in the order of Candidate's fields; its score comes last."""
ROWS_PER_READ = 4096


class Candidate(NamedTuple):
    """A stored lesson as the context policy may see it. `bm25` ranks it against the query; there is no reward.

    The lesson is kept as it is stored: of the many that a search finds, few are parsed."""

    id: str
    problem_id: str
    problem_hash: str
    problem_text: str
    split: Split
    lesson_json: str
    step: int
    bm25: float

    @property
    def lesson(self) -> Lesson:
        return Lesson.model_validate_json(self.lesson_json)


def _rank(candidate: Candidate) -> tuple[float, int, str, str]:
    """Order of a search's results: of equals the newest first, which a better policy wrote. The lineage in an id
    (x-l2-000007-0001-003) is another one after a resume, so it counts last."""
    return (-candidate.bm25, -candidate.step, candidate.id.split("-", 2)[-1], candidate.id)


class Pool:
    """`version` (a number, or the name of a pin) opens that version of the pool read-only. `ordered` makes what a
    search finds a function of the entries alone, at a multiple of its cost (`search`): for runs that a resume must
    repeat exactly."""

    def __init__(
        self,
        path: Path | str,
        settings: PoolSection | None = None,
        *,
        version: int | str | None = None,
        ordered: bool = False,
        uses: Callable[[str], Use] = lambda entry_id: NEVER,
    ) -> None:
        self._path = path
        self._settings = settings or PoolSection()
        self._uses = uses
        self._lock = threading.Lock()
        self._lock_file = None if is_uri(path) else Path(path) / LOCK_FILE
        self._maintenance = threading.Lock()
        self._over: set[str] = set()
        self._heldout: Collection[str] = frozenset()
        self._ids: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._last_turn: str | None = None
        self._ordered = ordered
        self._read_only = version is not None
        self._table = open_table(path, TABLE, schema(), SEARCHED)
        with failures_named(path):
            if version is not None:
                self._table.checkout(version)
            self._reader = Reader(self._table, SEARCHED, path)
            if not self._read_only:
                drop_torn_indices(self._table)
                # All of a new pool's, or what a start that was cut short did not come to.
                ensure_indices(self._table, INDEXED, self._writing(), text="problem_text", stop_words=STOP_WORDS)

    def set_heldout(self, keys: Collection[str]) -> None:
        """Refuse entries of the problems with these text hashes or bags from now on, whatever their split says."""
        self._heldout = keys

    def add(self, entries: list[Experience]) -> int:
        """Store the entries that are not there yet in one commit, then enforce the cap; return how many there were.

        Raises DataError for a held-out entry, with none of them stored; DiskError."""
        for entry in entries:
            if entry.is_held_out(self._heldout):
                raise DataError(
                    f"experience {entry.id}: problem {entry.problem_id} is held out; it may not enter the pool"
                )
        if not entries:
            return 0
        with self._writing() as alone:
            return self._insert(entries, alone=alone)

    def _insert(self, entries: list[Experience], *, alone: bool) -> int:
        """Of a writer: store those that are not there, in one commit; `alone`, nobody else can write meanwhile."""
        unique = list({entry.id: entry for entry in entries if entry.id not in self._ids}.values())
        if not unique:
            return 0
        rows = table_of(unique)
        add_missing(self._table, rows.schema)
        if alone:
            append(self._table, rows, self._reader)
        else:
            self._table.merge_insert("id").when_not_matched_insert_all().execute(rows)
        self._ids.update(entry.id for entry in unique)
        self._counts.update(entry.problem_id for entry in unique)
        limit = self._settings.max_entries_per_problem
        self._over |= {entry.problem_id for entry in unique if self._counts[entry.problem_id] > limit}
        self._evict()
        return len(unique)

    def import_entries(self, entries: list[Experience]) -> int:
        """Store what another run made, or this one long ago, as `add` does; return how many entries were not there
        yet."""
        here = {entry.id: entry.lesson for entry in self._of_ids([entry.id for entry in entries])}
        return self.add([entry if here.get(entry.id) == entry.lesson else entry.as_imported() for entry in entries])

    def search(self, text: str, num_candidates: int) -> list[Candidate]:
        """The entries whose problem text matches `text` best by BM25, best first, equals by step (newest first), slot
        and rollout.

        Which of the equals at the end are among them depends on how the index's files were merged. `ordered`, that
        depends on the entries alone: where the last has equals that are left out, more are read, `MAX_FOUND` at
        most."""
        if not self._ordered:
            return sorted(self._matching(text, num_candidates), key=_rank)
        num_read = num_candidates + 1
        found = self._matching(text, num_read)
        while len(found) == num_read < MAX_FOUND and found[-1].bm25 == found[num_candidates - 1].bm25:
            num_read = min(4 * num_read, MAX_FOUND)
            found = self._matching(text, num_read)
        return sorted(found, key=_rank)[:num_candidates]

    def lessons_like(self, text: str, most: int) -> list[tuple[str, Lesson]]:
        """The ids and lessons of the entries that `search` finds."""
        return [(candidate.id, candidate.lesson) for candidate in self.search(text, most)]

    def _matching(self, text: str, most: int) -> list[Candidate]:
        rows = self._reader.matching(text, "problem_text", list(COLUMNS), most)
        return list(map(Candidate, *(rows[column].to_pylist() for column in (*COLUMNS, "_score"))))

    def get(self, entry_id: str) -> Experience | None:
        return next(iter(self._where(f"id = {quoted(entry_id)}")), None)

    def _of_ids(self, ids: Collection[str]) -> list[Experience]:
        return self._where(f"id IN ({', '.join(map(quoted, ids))})") if ids else []

    def of_problem(self, problem_id: str) -> list[Experience]:
        """The entries of one problem, oldest first."""
        return sorted(self._where(f"problem_id = {quoted(problem_id)}"), key=lambda entry: entry.created_s)

    def entries(self) -> Iterator[Experience]:
        """Every entry, in the order of the table."""
        for batch in self._reader.batches(batch_size=ROWS_PER_READ):
            yield from map(entry_of, batch.to_pylist())

    def problem_texts(self) -> Iterator[tuple[str, str]]:
        """The id and the problem text of every entry."""
        columns = ["id", "problem_text"]
        for batch in self._reader.batches(columns=columns, batch_size=ROWS_PER_READ):
            yield from zip(*(batch[column].to_pylist() for column in columns), strict=True)

    def holds_any(self, entry_ids: Iterable[str]) -> bool:
        """Whether one of these entries is there."""
        listed = ", ".join(map(quoted, entry_ids))
        return bool(listed) and self._reader.count(f"id IN ({listed})") > 0

    def num_of_problem(self, problem_id: str) -> int:
        """Entries of one problem as the last write knew them; 0 where nothing was written yet."""
        return self._counts[problem_id]

    def num_entries(self) -> int:
        return self._reader.count()

    def copy_to(self, path: Path | str) -> None:
        """Make the pool of an empty store at `path` a copy of this one at the version that was opened, without its
        pins.

        Raises DiskError, StoreError."""
        clone(self._table, self.version, path)

    def size(self) -> tuple[int, int]:
        """Data files, and their bytes."""
        with failures_named(self._path):
            stats = self._table.stats()
        return int(stats["fragment_stats"]["num_fragments"]), int(stats["total_bytes"])

    def num_unindexed(self) -> int:
        """Rows that a search looks through one by one."""
        with failures_named(self._path):
            return max((index.num_unindexed_rows for index in self._table.list_indices()), default=0)

    @property
    def version(self) -> int:
        return int(self._table.version)

    @property
    def pins(self) -> dict[str, int]:
        """Versions that maintenance keeps, by their names."""
        with failures_named(self._path):
            return pinned_versions(self._table)

    def pin(self, name: str) -> int:
        """Keep the present version under `name`, in place of the one that had it; return it."""
        with self._writing():
            return pin(self._table, name)

    def unpin(self, name: str) -> None:
        with self._writing():
            unpin(self._table, name)

    def restore(self, version: int) -> None:
        """Return to an earlier version of the table: what this run added since is gone from the current one. What was
        imported stays, also when this is killed in the middle, and given again."""
        with self._writing() as alone:
            self._reader.refresh()
            imported = self.imported()
            if ROLLBACK_PIN in self.pins:
                imported += Pool(self._path, self._settings, version=ROLLBACK_PIN).imported()
            else:
                pin(self._table, ROLLBACK_PIN)
            self._table.checkout(version)
            self._table.restore()
            self._table.checkout_latest()
            self._refresh()
            self._insert(imported, alone=alone)
            unpin(self._table, ROLLBACK_PIN)

    def imported(self) -> list[Experience]:
        """The entries that came from elsewhere."""
        return self._where(f"starts_with(id, {quoted(IMPORTED)})")

    def clear_run_entries(self) -> None:
        """Delete what this run added: to begin again from the start. What was imported stays."""
        with self._maintenance, self._writing():
            self._table.delete(f"NOT starts_with(id, {quoted(IMPORTED)})")
            self._refresh()

    def index(self) -> None:
        """Bring the indices up to date: a search ranks entries that are not in the text index by other statistics than
        those that are. Raises DiskError."""
        if self.num_unindexed():
            with self._maintenance, self._writing():
                index(self._table)

    def compact(self) -> None:
        """Merge small files, bring the indices up to date, remove versions that are neither recent nor pinned.

        What it costs depends on what was added since the last time. Entries may be added meanwhile; those over the cap
        go when it is done. Raises DiskError; the table is then as it was."""
        self._check_writable()
        try:
            with self._maintenance, failures_named(self._path):
                compact(self._table, KEEP_VERSIONS, self._writing)
        except (OSError, RuntimeError) as error:
            # Another process deleted what was being merged: there is a next time.
            if not is_conflict(error):
                raise
        with self._writing():
            self._evict()

    @contextmanager
    def _writing(self) -> Iterator[bool]:
        """Hold the table for a change; yields whether no other process can write meanwhile.

        Raises DataError, DiskError, StoreError."""
        self._check_writable()
        with self._lock, failures_named(self._path), _machine_lock(self._lock_file) as turns:
            # On an object store nothing but the table tells whether another process wrote.
            if turns is None:
                self._table.checkout_latest()
            last = turns.read() if turns else str(self.version)
            if last != self._last_turn:
                # Another handle wrote. Looking for a newer version costs a good part of a small commit, so it is not
                # done each time.
                self._table.checkout_latest()
                self._refresh()
            # Whatever happens before this turn is over, the next one of this handle refreshes; an empty file is one cut
            # short.
            self._last_turn = None
            turn = secrets.token_hex(8)
            if turns:
                # Written first: should this process die now, the next writer refreshes.
                turns.seek(0)
                turns.truncate()
                turns.write(turn)
                turns.flush()
            yield turns is not None
            # Not in a `finally`: after a failure what is in the table is not known.
            self._last_turn = turn if turns else str(self.version)
            self._reader.refresh()

    def _check_writable(self) -> None:
        if self._read_only:
            raise DataError(f"the pool at {self._path} was opened at one of its versions; that is read-only")

    def _refresh(self) -> None:
        """Learn what is in the table: another process wrote, or this one has only begun."""
        self._reader.refresh()
        rows = self._reader.rows(columns=["id", "problem_id"])
        self._ids = set(rows["id"].to_pylist())
        self._counts = Counter(rows["problem_id"].to_pylist())
        limit = self._settings.max_entries_per_problem
        self._over = {problem_id for problem_id, num in self._counts.items() if num > limit}

    def _where(self, condition: str) -> list[Experience]:
        return list(map(entry_of, self._reader.rows(filter=condition).to_pylist()))

    def _evict(self) -> None:
        """Delete what is over the cap, unless files are being merged: a deletion would undo that, or be undone."""
        if not self._over or not self._maintenance.acquire(blocking=False):
            return
        try:
            self._reader.refresh()
            gone: list[str] = []
            limit = self._settings.max_entries_per_problem
            for problem_id in self._over:
                entries = self.of_problem(problem_id)
                ids = evicted([self._holding(entry) for entry in entries], limit, self._settings.eviction)
                self._counts[problem_id] = len(entries) - len(ids)
                gone += ids
            if gone:
                self._table.delete(f"id IN ({', '.join(map(quoted, gone))})")
                self._ids.difference_update(gone)
            self._over.clear()
        finally:
            self._maintenance.release()

    def _holding(self, entry: Experience) -> Holding:
        use = total_use(entry, self._uses(entry.id))
        return Holding(entry.id, entry.created_s, entry.reward, render_lessons((entry.lesson,)), use.mean_reward)


@contextmanager
def _machine_lock(path: Path | None) -> Iterator[TextIO | None]:
    """One writer at a time on this machine; yields the file that names the last turn, None on an object store: no lock
    there."""
    if path is None:
        yield None
        return
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        yield file
