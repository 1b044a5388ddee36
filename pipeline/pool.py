"""The experience pool: lessons in a LanceDB table, found by BM25 over the text of the problem they came from.

Invariants: one writer (the orchestrator); an entry's id is unique (unenforced primary key, so that a retried upsert
cannot duplicate it); no entry of the held-out split; at most `max_entries_per_problem` of one problem, the oldest go
first. What a search yields has no reward in it (`Candidate`)."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.records import Experience, Record, Split
from pipeline.run import disk_full
from pipeline.store import open_table
from prompts.schemas import Lesson

TABLE = "pool"
# Rows not yet in the index are searched one by one; folding them in this often keeps that few and the cost bounded.
OPTIMIZE_EVERY_APPENDS = 16


class Candidate(Record):
    """A stored lesson as the context policy may see it. `bm25` ranks it against the query; there is no reward."""

    id: str
    problem_id: str
    problem_hash: str
    problem_text: str
    split: Split
    lesson: Lesson
    bm25: float


def schema() -> Any:
    import pyarrow as pa

    def required(name: str, kind: Any, **metadata: str) -> Any:
        return pa.field(name, kind, nullable=False, metadata=metadata or None)

    return pa.schema(
        [
            required("id", pa.string(), **{"lance-schema:unenforced-primary-key": "true"}),
            required("problem_id", pa.string()),
            required("problem_text", pa.string()),
            required("problem_hash", pa.string()),
            required("split", pa.string()),
            required("lesson", pa.string()),
            required("lineage", pa.int32()),
            required("policy_version", pa.int32()),
            required("step", pa.int32()),
            required("reward", pa.float32()),
            required("kind", pa.string()),
            required("rollout_id", pa.string()),
            required("created_s", pa.float64()),
        ]
    )


class Pool:
    """Blocking calls; the orchestrator makes them in a thread. Thread-safe."""

    def __init__(self, path: Path | str, max_entries_per_problem: int) -> None:
        from lancedb.index import FTS

        self._max_entries = max_entries_per_problem
        self._lock = threading.Lock()
        self._num_appends = 0
        self._path = path
        self._table = open_table(path, TABLE, schema())
        if not self._table.list_indices():
            self._table.create_index("problem_text", config=FTS(stem=False, remove_stop_words=False))

    def add(self, entries: list[Experience]) -> None:
        """Store `entries` in one commit, then enforce the cap. Raises DataError for a held-out entry, DiskFullError."""
        for entry in entries:
            if entry.split != "train":
                raise DataError(
                    f"experience {entry.id}: problem {entry.problem_id} is held out; it may not enter the pool"
                )
        if not entries:
            return
        with self._lock:
            try:
                self._table.merge_insert("id").when_not_matched_insert_all().execute(_rows(entries))
                self._enforce_cap({entry.problem_id for entry in entries})
                self._num_appends += 1
                if self._num_appends % OPTIMIZE_EVERY_APPENDS == 0:
                    self._table.optimize()
            except (OSError, RuntimeError) as error:
                raise disk_full(error, self._path) from error

    def search(self, text: str, num_candidates: int) -> list[Candidate]:
        """The entries whose problem text matches `text` best by BM25, best first."""
        from lancedb.query import MatchQuery

        query = self._table.search(MatchQuery(text, "problem_text"), query_type="fts")
        columns = ["id", "problem_id", "problem_hash", "problem_text", "split", "lesson", "_score"]
        rows = query.select(columns).limit(num_candidates).to_list()
        return [
            Candidate(
                id=row["id"],
                problem_id=row["problem_id"],
                problem_hash=row["problem_hash"],
                problem_text=row["problem_text"],
                split=row["split"],
                lesson=Lesson.model_validate_json(row["lesson"]),
                bm25=row["_score"],
            )
            for row in rows
        ]

    def num_entries(self) -> int:
        return int(self._table.count_rows())

    @property
    def version(self) -> int:
        return int(self._table.version)

    def restore(self, version: int) -> None:
        """Return to an earlier version of the table; what was added since is gone from the current one."""
        with self._lock:
            self._table.checkout(version)
            self._table.restore()
            self._table.checkout_latest()

    def _enforce_cap(self, problem_ids: set[str]) -> None:
        for problem_id in problem_ids:
            condition = f"problem_id = '{_quoted(problem_id)}'"
            if self._table.count_rows(condition) <= self._max_entries:
                continue
            rows = self._table.search().where(condition).select(["id", "created_s"]).limit(None).to_list()
            oldest = sorted(rows, key=lambda row: row["created_s"])[: len(rows) - self._max_entries]
            ids = ", ".join(f"'{_quoted(row['id'])}'" for row in oldest)
            self._table.delete(f"id IN ({ids})")


def _quoted(value: str) -> str:
    return value.replace("'", "''")


def _rows(entries: list[Experience]) -> Any:
    """Arrow table of `entries`, with the schema's metadata: a list of dicts would lose the primary key's."""
    import pyarrow as pa

    rows = [{**entry.model_dump(exclude={"lesson"}), "lesson": entry.lesson.model_dump_json()} for entry in entries]
    return pa.Table.from_pylist(rows, schema=schema())
