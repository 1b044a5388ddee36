"""The rollout journal: an append-only LanceDB table with one row per group.

Invariants: one writer (the orchestrator); a group is acknowledged when `append` returned, and is then on disk; rows are
never changed. Which rows count after a restart follows from the lineages of the run (`pipeline.run.survives`), not from
marks in the table. The learner reads by step; the step of its checkpoint is its cursor.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.records import Attempt, ContextKind, RolloutGroup, WeightVersion
from pipeline.run import Lineage, counts, survives
from pipeline.store import WRITTEN, clone, compact, failures_named, open_table, quoted

TABLE = "journal"
INDEXED = ("step", "problem_id")
# A reader in another process may be at work on a version for a while after a newer one was committed.
KEEP_VERSIONS = timedelta(minutes=2)


def schema() -> Any:
    """Arrow schema: typed columns for what is filtered on, the whole record beside them."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("group_id", pa.string(), nullable=False),
            pa.field("lineage", pa.int32(), nullable=False),
            pa.field("step", pa.int32(), nullable=False),
            pa.field("slot", pa.int32(), nullable=False),
            pa.field("problem_id", pa.string(), nullable=False),
            pa.field("family", pa.string(), nullable=False),
            pa.field("kind", pa.string(), nullable=False),
            pa.field("lesson_ids", pa.list_(pa.string()), nullable=False),
            pa.field("rewards", pa.list_(pa.float32()), nullable=False),
            pa.field("oldest_step", pa.int32(), nullable=False),
            pa.field("newest_step", pa.int32(), nullable=False),
            pa.field("record", pa.binary(), nullable=False),
        ]
    )


class Outcome(NamedTuple):
    """What came of one group, without its texts."""

    step: int
    problem_id: str
    family: str
    kind: ContextKind
    lesson_ids: list[str]
    rewards: list[float]


_OUTCOME_COLUMNS = (*Outcome._fields, "lineage", "newest_step")


class Journal:
    """Reads and appends groups. `path` is the run's store folder or an object-store URI that LanceDB knows."""

    def __init__(self, path: Path | str) -> None:
        self._path = path
        self._table = open_table(path, TABLE, schema(), WRITTEN)
        self._commits = threading.Lock()
        """Held for a commit: appends and compactions come from two threads."""

    def compact(self) -> None:
        """Merge the files of many commits, index what is searched by, remove old versions. The writer's: one at a time.

        Raises DiskFullError, StoreError; the table is then as it was."""
        from lancedb.index import BTree

        with failures_named(self._path):
            indexed = {column for index in self._table.list_indices() for column in index.columns}
            for column in INDEXED:
                if column not in indexed:
                    with self._commits:
                        self._table.create_index(column, config=BTree())
            compact(self._table, KEEP_VERSIONS, self._commits)

    def append(self, groups: list[RolloutGroup]) -> None:
        """Write `groups` in one commit; they are acknowledged when this returns. Raises DiskFullError, StoreError."""
        rows = [_row(group) for group in groups]
        with failures_named(self._path), self._commits:
            self._table.add(rows)

    def read_step(self, step: int, lineages: list[Lineage]) -> list[RolloutGroup]:
        """The surviving groups of one step, at most one per slot, by slot.

        A slot sampled twice yields the first one.
        """
        by_slot: dict[int, RolloutGroup] = {}
        for group in self._read(f"step = {step}"):
            if survives(group, lineages):
                by_slot.setdefault(group.slot, group)
        return [by_slot[slot] for slot in sorted(by_slot)]

    def attempt(
        self, problem_id: str, lineages: list[Lineage], rng: random.Random, *, failed_only: bool = False
    ) -> Attempt | None:
        """An earlier answer of the policy to one problem, scratch and feedback-aware alike; None when there is none.

        With `failed_only` (the ablation of method.md) the choice depends on the reward; the Attempt itself never holds
        it. One group is read, however many there are."""
        condition = f"problem_id = {quoted(problem_id)}"
        with failures_named(self._path):
            self._table.checkout_latest()
            rows = self._table.search().where(condition).select(["group_id", "step", "slot", "lineage", "newest_step"])
            found = rows.limit(None).to_arrow().to_pylist()
        left = sorted(
            (row["step"], row["slot"], row["group_id"])
            for row in found
            if counts(WeightVersion(lineage=row["lineage"], step=row["newest_step"]), lineages)
        )
        while left:
            _, _, group_id = left.pop(rng.randrange(len(left)))
            for group in self._read(f"{condition} AND group_id = {quoted(group_id)}"):
                rollouts = [rollout for rollout in group.rollouts if not (failed_only and rollout.verdict.correct)]
                if rollouts:
                    chosen = rng.choice(rollouts)
                    return Attempt(problem_id=problem_id, text=chosen.text, rollout_id=chosen.id)
        return None

    def rollout_text(self, rollout_id: str) -> str:
        """The text of one rollout; empty when the journal does not hold it."""
        group_id = rollout_id.rpartition("-")[0]
        for group in self._read(f"group_id = {quoted(group_id)}"):
            for rollout in group.rollouts:
                if rollout.id == rollout_id:
                    return rollout.text
        return ""

    def pool_version_at(self, step: int, lineages: list[Lineage]) -> int | None:
        """The version of the pool when `step` began to be sampled last, abandoned or not; None when it never was."""
        numbers = {lineage.number for lineage in lineages}
        groups = [group for group in self._read(f"step = {step}") if group.lineage in numbers]
        return groups[-1].pool_version if groups else None

    def outcomes(self, lineages: list[Lineage]) -> Iterator[Outcome]:
        """What came of every surviving group, without its texts, in no certain order."""
        self._table.checkout_latest()
        for batch in self._table.search().select(list(_OUTCOME_COLUMNS)).limit(None).to_batches():
            for row in batch.to_pylist():
                newest = WeightVersion(lineage=row["lineage"], step=row["newest_step"])
                if counts(newest, lineages):
                    yield Outcome(*(row[name] for name in Outcome._fields))

    def copy_to(self, path: Path | str) -> None:
        """Make the journal of an empty store at `path` a copy of this one. Raises DiskFullError, StoreError."""
        self._table.checkout_latest()
        clone(self._table, self._table.version, path)

    def num_groups(self) -> int:
        self._table.checkout_latest()
        return self._table.count_rows()

    def _read(self, condition: str) -> list[RolloutGroup]:
        with failures_named(self._path):
            self._table.checkout_latest()
            rows = self._table.search().where(condition).select(["lineage", "step", "slot", "record"]).to_arrow()
        records = [RolloutGroup.model_validate_json(record) for record in rows["record"].to_pylist()]
        return sorted(records, key=lambda group: (group.lineage, group.created_s))


def _row(group: RolloutGroup) -> dict[str, Any]:
    return {
        "group_id": group.id,
        "lineage": group.lineage,
        "step": group.step,
        "slot": group.slot,
        "problem_id": group.problem.id,
        "family": group.problem.family,
        "kind": group.context.kind,
        "lesson_ids": list(group.context.lesson_ids),
        "rewards": list(group.rewards),
        "oldest_step": group.oldest_version.step,
        "newest_step": group.newest_version.step,
        "record": group.model_dump_json().encode(),
    }
