"""The rollout journal: an append-only LanceDB table with one row per group.

Invariants: one writer (the orchestrator); a group is acknowledged when `append` returned, and is then on disk; rows are
never changed. Which rows count after a restart follows from the lineages of the run
(`pipeline.run.lineage.group_is_current`), not from marks in the table. The learner reads by step; the step of its
checkpoint is its cursor."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.run.lineage import Lineage, group_is_current, is_current
from pipeline.storage.maintenance import compact, drop_torn_indices, ensure_indices
from pipeline.storage.tables import WRITTEN, Reader, append, clone, failures_named, open_table, quoted
from pipeline.types import RESCUE_KINDS, Attempt, ContextKind, RolloutGroup, WeightVersion

TABLE = "journal"
INDEXED = ("step", "problem_id", "group_id")
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
            pa.field("drawn", pa.string(), nullable=False),
            pa.field("kind", pa.string(), nullable=False),
            pa.field("lesson_ids", pa.list_(pa.string()), nullable=False),
            pa.field("rewards", pa.list_(pa.float32()), nullable=False),
            pa.field("oldest_step", pa.int32(), nullable=False),
            pa.field("newest_step", pa.int32(), nullable=False),
            pa.field("record", pa.binary(), nullable=False),
        ]
    )


class GroupResult(NamedTuple):
    """The outcome of one group, without its texts. `drawn` is the kind of context that chance chose, `kind` what it
    became; of a rescue the outcome is that of the group in whose place it is."""

    step: int
    problem_id: str
    family: str
    drawn: ContextKind
    kind: ContextKind
    lesson_ids: list[str]
    rewards: list[float]


_ARE_RESCUES = f"kind IN ({', '.join(map(quoted, RESCUE_KINDS))})"
_OUTCOME_COLUMNS = (*GroupResult._fields, "lineage", "newest_step")


class Journal:
    """Reads and appends groups. `path` is the run's store folder or an object-store URI that LanceDB knows."""

    def __init__(self, path: Path | str) -> None:
        self._path = path
        self._table = open_table(path, TABLE, schema(), WRITTEN)
        with failures_named(path):
            drop_torn_indices(self._table)  # the next compaction makes them anew
            self._reader = Reader(self._table, WRITTEN, self._path)
        self._commits = threading.Lock()
        """Held for a commit: appends and compactions come from two threads."""

    @property
    def commits(self) -> Path | None:
        """The folder where each commit leaves a file; None where it is in an object store."""
        return None if "://" in str(self._path) else Path(self._path) / f"{TABLE}.lance" / "_versions"

    def compact(self) -> None:
        """Merge the files of many commits, index what is searched by, remove old versions. The writer's: one at a time.

        Raises DiskError, StoreError; the table is then as it was."""
        with failures_named(self._path):
            ensure_indices(self._table, INDEXED, self._commits)
            compact(self._table, KEEP_VERSIONS, lambda: self._commits)

    def append(self, groups: list[RolloutGroup]) -> None:
        """Write `groups` in one commit; they are acknowledged when this returns. Raises DiskError, StoreError."""
        rows = [_row(group) for group in groups]
        with self._commits:
            append(self._table, rows, self._reader)

    def read_step(self, step: int, lineages: list[Lineage]) -> list[RolloutGroup]:
        """The surviving groups of one step, at most one per slot, by slot.

        A slot sampled twice yields the first one. Of a pair both halves survive or none: newer weights may have sampled
        one of them alone, and then the pair is sampled anew.
        """
        current = [group for group in self._read(f"step = {step}") if group_is_current(group, lineages)]
        halves = {(group.lineage, group.pair, group.slot) for group in current}
        by_slot: dict[int, RolloutGroup] = {}
        for group in current:
            pair = group.pair
            if pair is None or {(group.lineage, pair, pair), (group.lineage, pair, pair + 1)} <= halves:
                by_slot.setdefault(group.slot, group)
        return [by_slot[slot] for slot in sorted(by_slot)]

    def attempt(
        self,
        problem_id: str,
        lineages: list[Lineage],
        rng: random.Random,
        *,
        failed_only: bool = False,
        weight: Callable[[int], float] = lambda step: 1.0,
    ) -> Attempt | None:
        """An earlier answer of the policy to one problem, scratch and feedback-aware alike; None when there is none.
        Those of rescues are left out: their prompts tell an outcome.

        `weight` is how likely a group is, by the updates of the weights that sampled it. With `failed_only` (the
        ablation of method.md) the choice depends on the reward; the Attempt itself never holds it. One group is read,
        however many there are."""
        self._reader.refresh()
        condition = f"problem_id = {quoted(problem_id)} AND NOT {_ARE_RESCUES}"
        rows = self._reader.rows(filter=condition, columns=["group_id", "step", "slot", "lineage", "newest_step"])
        left = sorted(
            (row["step"], row["slot"], row["group_id"], row["newest_step"])
            for row in rows.to_pylist()
            if is_current(WeightVersion(lineage=row["lineage"], step=row["newest_step"]), lineages, row["step"])
        )
        while left:
            (index,) = rng.choices(range(len(left)), [weight(newest) for *_, newest in left])
            _, _, group_id, _ = left.pop(index)
            for group in self._read(f"{condition} AND group_id = {quoted(group_id)}"):
                rollouts = [rollout for rollout in group.rollouts if not (failed_only and rollout.verdict.correct)]
                if rollouts:
                    chosen = rng.choice(rollouts)
                    return Attempt(
                        problem_id=problem_id,
                        text=chosen.text,
                        rollout_id=chosen.id,
                        policy_step=chosen.newest_version.step,
                    )
        return None

    def rollout_text(self, rollout_id: str, problem_text: str) -> str:
        """The text of one rollout for this problem; empty when the journal does not hold it. A rollout of another run,
        which an imported entry was made from, may have the same id, for another problem."""
        group_id = rollout_id.rpartition("-")[0]
        for group in self._read(f"group_id = {quoted(group_id)}"):
            for rollout in group.rollouts:
                if rollout.id == rollout_id and group.problem.query_text == problem_text:
                    return rollout.text
        return ""

    def outcomes(self, lineages: list[Lineage]) -> Iterator[GroupResult]:
        """The outcome of every surviving group, without its texts, in no certain order.

        Rescues are for groups that were all wrong, so their own rewards would say that whatever was drawn does better
        than it did, and that the lessons which they saw do worse."""
        self._reader.refresh()
        for batch in self._reader.batches(filter=f"NOT {_ARE_RESCUES}", columns=list(_OUTCOME_COLUMNS)):
            for row in batch.to_pylist():
                newest = WeightVersion(lineage=row["lineage"], step=row["newest_step"])
                if is_current(newest, lineages, row["step"]):
                    yield GroupResult(*(row[name] for name in GroupResult._fields))
        for batch in self._reader.batches(filter=_ARE_RESCUES, columns=["record"]):
            for row in batch.to_pylist():
                group = RolloutGroup.model_validate_json(row["record"])
                if group.rescued is not None and group_is_current(group, lineages):
                    yield GroupResult(
                        group.step,
                        group.problem.id,
                        group.problem.family,
                        group.context.drawn,
                        "scratch",
                        [],
                        list(group.rescued.rewards),
                    )

    def copy_to(self, path: Path | str) -> None:
        """Make the journal of an empty store at `path` a copy of this one. Raises DiskError, StoreError."""
        self._table.checkout_latest()
        clone(self._table, self._table.version, path)

    def num_groups(self) -> int:
        self._reader.refresh()
        return self._reader.count()

    def _read(self, condition: str) -> list[RolloutGroup]:
        self._reader.refresh()
        rows = self._reader.rows(filter=condition, columns=["record"])
        records = [RolloutGroup.model_validate_json(record) for record in rows["record"].to_pylist()]
        return sorted(records, key=lambda group: (group.lineage, group.created_s))


def _row(group: RolloutGroup) -> dict[str, Any]:
    oldest, newest = group.versions
    return {
        "group_id": group.id,
        "lineage": group.lineage,
        "step": group.step,
        "slot": group.slot,
        "problem_id": group.problem.id,
        "family": group.problem.family,
        "drawn": group.context.drawn,
        "kind": group.context.kind,
        "lesson_ids": list(group.context.lesson_ids),
        "rewards": list(group.rewards),
        "oldest_step": oldest.step,
        "newest_step": newest.step,
        "record": group.model_dump_json().encode(),
    }
