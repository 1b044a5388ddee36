"""No lesson of a problem that is evaluated: an entry of such a problem in the pool would be its answer key (promise 15)."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import DataError
from pipeline.experience.pool import Pool
from pipeline.types import Task

NUM_NAMED = 5


def check_pool(pool: Pool, tasks: Sequence[Task]) -> None:
    """Raise DataError that names entries of the pool made from problems among `tasks` (same normalised text, numbers included)."""
    by_hash = {task.problem.text_hash: task.problem.id for task in tasks}
    found = [(by_hash[entry.problem_hash], entry.id) for entry in pool.of_texts(by_hash)]
    if not found:
        return
    named = ", ".join(f"{problem} (entry {entry})" for problem, entry in found[:NUM_NAMED])
    more = f" and {len(found) - NUM_NAMED} more" if len(found) > NUM_NAMED else ""
    raise DataError(
        f"the pool holds lessons of problems that are to be evaluated: {named}{more}; evaluate other problems, or use a pool that "
        "never saw them (`pool export`, take these entries out, `pool import` into another run)"
    )
