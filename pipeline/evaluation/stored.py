"""The problems of answers that are stored: loaded again, and matched with what was asked.

Invariant: an answer is matched with a problem of its id only where its prompt shows that problem's text: another
problem of the id would judge it by a gold answer that is none of its. What counts as right may be read otherwise than
when it was asked; that is why it is judged anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.evaluation.benchmarks import HELD_OUT
from pipeline.evaluation.folder import Answered
from pipeline.evaluation.plan import PlannedCell
from pipeline.problems.benchmark_items import find_benchmark, tasks_of
from pipeline.problems.dataset import load_problems
from pipeline.types import Task
from prompts.filling import neutralised

_FILE = "file "
"""How the source of a benchmark begins that is a file (`pipeline.problems.benchmark.source_of`)."""


class StoredTasks:
    """The problems of the benchmarks in `cells`, by benchmark and id."""

    def __init__(self, tasks: Mapping[str, Mapping[str, Task]]) -> None:
        self._tasks = tasks

    @classmethod
    def of(
        cls,
        cells: Sequence[PlannedCell],
        config: Config,
        *,
        given: Sequence[str] = (),
        registry: Path | None = None,
        data: Path | None = None,
        warn: Callable[[str], None],
    ) -> StoredTasks:
        """Blocking. `given` are benchmarks as the user names them now, files among them; one that cannot be had is
        warned of, and its answers match nothing."""
        wanted = {cell.benchmark: cell for cell in cells}
        found: dict[str, dict[str, Task]] = {}
        for name in (*given, *wanted):
            if name in found:
                continue
            try:
                own_name, tasks = _loaded(name, wanted.get(name), config, registry, data)
            except UserError as error:
                warn(f"{name}: its problems cannot be had, so its answers stay as they were judged: {error}")
                continue
            found[own_name] = {task.problem.id: task for task in tasks}
        return cls(found)

    def find(self, answer: Answered) -> Task | None:
        """The problem that was asked; None where it cannot be had any more."""
        task = self._tasks.get(answer.benchmark, {}).get(answer.problem_id)
        if task is None:
            return None
        asked = answer.inferred.turns[0].messages[-1].content
        return task if neutralised(task.problem.text) in asked else None


def _loaded(
    name: str, cell: PlannedCell | None, config: Config, registry: Path | None, data: Path | None
) -> tuple[str, list[Task]]:
    """The name of a benchmark in plans, and its problems. Raises ConfigError, DataError."""
    if name == HELD_OUT:
        return name, load_problems(config.problems, config.run.seed, config.reward.code.packages).heldout
    source = str(cell.settings.get("source", "")) if cell else ""
    place = source.removeprefix(_FILE)
    if registry is None and source.startswith(_FILE) and Path(place).is_file():
        name = place
    benchmark = find_benchmark(name, registry)
    return benchmark.name, tasks_of(benchmark, data, len(cell.wanted) if cell else 0)
