"""The schema of the pool's table, and entries as its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.types import Experience, Origin
from prompts.schemas import Lesson

TABLE = "pool"


def schema() -> Any:
    """Arrow schema: the fields of Experience, lesson and origin as JSON; `id` is the unenforced primary key (of
    merges)."""
    import pyarrow as pa

    def required(name: str, kind: Any, **metadata: str) -> Any:
        return pa.field(name, kind, nullable=False, metadata=metadata or None)

    return pa.schema(
        [
            required("id", pa.string(), **{"lance-schema:unenforced-primary-key": "true"}),
            required("problem_id", pa.string()),
            required("problem_text", pa.string()),
            required("problem_hash", pa.string()),
            required("family", pa.string()),
            required("split", pa.string()),
            required("lesson", pa.string()),
            required("template_hash", pa.string()),
            # Null in the tables of runs that began before it was kept.
            pa.field("origin", pa.string()),
            required("lineage", pa.int32()),
            required("policy_version", pa.int32()),
            required("step", pa.int32()),
            required("reward", pa.float32()),
            required("kind", pa.string()),
            required("rollout_id", pa.string()),
            required("created_s", pa.float64()),
            required("num_retrieved", pa.int64()),
            required("num_rollouts", pa.int64()),
            required("reward_sum", pa.float64()),
        ]
    )


def table_of(entries: Sequence[Experience]) -> Any:
    """Arrow table of `entries`, with the schema's metadata: a list of dicts would lose the primary key's."""
    import pyarrow as pa

    rows = [
        {
            **entry.model_dump(exclude={"lesson", "origin"}),
            "lesson": entry.lesson.model_dump_json(),
            "origin": entry.origin.model_dump_json(),
        }
        for entry in entries
    ]
    return pa.Table.from_pylist(rows, schema=schema())


def entry_of(row: dict[str, Any]) -> Experience:
    """The entry in a row of the table."""
    known = {name: row[name] for name in Experience.model_fields if name != "origin"}
    origin = Origin.model_validate_json(row["origin"]) if row.get("origin") else Origin()
    return Experience.model_validate({**known, "lesson": Lesson.model_validate_json(row["lesson"]), "origin": origin})
