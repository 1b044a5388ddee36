"""The items of a benchmark: its rows from the hub, a file, a package or a user's function, or those of a generator.

No row is dropped but those outside of the benchmark's own id range; a number that is not the expected one is an error."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.problems import FamilySettings, ProblemsSection
from pipeline.errors import ConfigError, DataError, UserError
from pipeline.problems.benchmark_rows import CODE_LINE, TEXT_LINE, task_of_row
from pipeline.problems.rows import Row, hub_rows, jsonl_rows, plugin_rows
from pipeline.runtime.plugins import load_function
from pipeline.types import Task

if TYPE_CHECKING:
    from pipeline.problems.benchmark import Benchmark

SUFFIXES = (".jsonl", ".jsonl.gz")
NUM_GENERATED = 200


def tasks_of(benchmark: Benchmark, data: Path | None = None, num_wanted: int = 0) -> list[Task]:
    """All items in the source's order, of a generator at least `num_wanted`; `data` as for `pipeline.problems.benchmark.items`.

    Raises ConfigError and DataError."""
    if benchmark.source == "reasoning_gym":
        return _generated(benchmark, num_wanted)
    tasks: dict[str, Task] = {}
    for position, row in enumerate(_rows_of(benchmark, data)):
        task = task_of_row(benchmark, row, position)
        if task.problem.id in tasks:
            raise DataError(
                f"{row.where}: id {task.problem.id!r} names an earlier row too; make the ids unique, or leave them out"
            )
        tasks[task.problem.id] = task
    if not tasks:
        raise DataError(
            f"benchmark {benchmark.name!r} has no items in {_place(benchmark, data)}; {_provide(benchmark)}"
        )
    if benchmark.num_items and len(tasks) != benchmark.num_items:
        raise DataError(
            f"benchmark {benchmark.name!r}: {len(tasks)} items in {_place(benchmark, data)}, but {benchmark.num_items} are "
            f"expected; fetch the whole of it, or set num_items = {len(tasks)} for [{benchmark.name}] in your registry"
        )
    return list(tasks.values())


def first_row(file: str) -> Row:
    """Raises DataError for a file that cannot be read, or that is empty."""
    row = next(jsonl_rows(file, "benchmark"), None)
    if row is None:
        raise DataError(f"{file}: is empty; expected lines such as {TEXT_LINE} or {CODE_LINE}")
    return row


def _rows_of(benchmark: Benchmark, data: Path | None) -> list[Row]:
    rows = list(_source_rows(benchmark, data))
    if benchmark.id_range is None:
        return rows
    first, last = benchmark.id_range
    return [row for row in rows if first <= _number(benchmark, row) <= last]


def _number(benchmark: Benchmark, row: Row) -> int:
    value = row.values.get(benchmark.id_column)
    if isinstance(value, bool) or not isinstance(value, int):
        raise DataError(
            f"{row.where}: {benchmark.id_column} = {value!r}; benchmark {benchmark.name!r} is the rows from "
            f"{benchmark.id_range}, so each needs a whole number there"
        )
    return value


def _source_rows(benchmark: Benchmark, data: Path | None) -> Iterator[Row]:
    if (local := _local(benchmark, data)) is not None:
        return jsonl_rows(str(local), "data")
    match benchmark.source:
        case "hub":
            return _hub_rows(benchmark)
        case "file":
            return jsonl_rows(benchmark.file, f"benchmark {benchmark.name!r}: file")
        case "package":
            return jsonl_rows(str(_package_file(benchmark)), f"benchmark {benchmark.name!r}: file")
    return _function_rows(benchmark)


def _local(benchmark: Benchmark, data: Path | None) -> Path | None:
    """The file of the folder `data` that is read in place of the source, where there is one."""
    if data is None:
        return None
    if not data.is_dir():
        raise ConfigError(f"data = {str(data)!r}: there is no such folder; give one with {benchmark.name}.jsonl in it")
    paths = [data / f"{benchmark.name}{suffix}" for suffix in SUFFIXES]
    return next((path for path in paths if path.is_file()), None)


def _place(benchmark: Benchmark, data: Path | None) -> str:
    return str(_local(benchmark, data) or benchmark.file or benchmark.dataset or benchmark.source)


def _hub_rows(benchmark: Benchmark) -> Iterator[Row]:
    def unreachable(error: Exception) -> DataError:
        return DataError(
            f"benchmark {benchmark.name!r}: data set {benchmark.dataset!r} (config {benchmark.config!r}, split "
            f"{benchmark.split!r}, revision {benchmark.revision!r}) cannot be loaded: {type(error).__name__}: "
            f"{str(error)[:300]}. Without a hub {_provide(benchmark)}"
        )

    return hub_rows(benchmark.dataset, benchmark.config, benchmark.split, unreachable, benchmark.revision)


def _package_file(benchmark: Benchmark) -> Path:
    try:
        found = Path(str(metadata.distribution(benchmark.dataset).locate_file(benchmark.file)))
    except metadata.PackageNotFoundError:
        found = None
    if found is None or not found.is_file():
        what = "which is not installed" if found is None else f"whose installation has no {benchmark.file}"
        raise DataError(
            f"benchmark {benchmark.name!r} comes with the package {benchmark.dataset}, {what}; "
            f"`pip install {benchmark.dataset}`, or with its file {Path(benchmark.file).name} at hand {_provide(benchmark)}"
        )
    return found


def _function_rows(benchmark: Benchmark) -> Iterator[Row]:
    field = f"benchmark {benchmark.name!r}: source"
    return plugin_rows(benchmark.source, load_function(benchmark.source, field)(), field)


def _generated(benchmark: Benchmark, num_wanted: int) -> list[Task]:
    """Drawn as a run draws its held-out problems with the default seed: none is a training problem of a run with this one family,
    the same parameters, and as many held-out problems or more. Of other runs it may be one."""
    from pipeline.problems.reasoning_gym import check_family, heldout_tasks

    where = f"benchmark {benchmark.name!r}"
    check_family(benchmark.dataset, f"{where}: dataset")
    family = FamilySettings(name=benchmark.dataset, params=benchmark.params)
    num = benchmark.num_items or max(NUM_GENERATED, num_wanted)
    try:
        return heldout_tasks(ProblemsSection(families=(family,), num_heldout=num))
    except UserError as error:
        raise type(error)(
            f"{where} (its num_items stands for problems.num_heldout, its params for those of the family): {error}"
        ) from error


def _provide(benchmark: Benchmark) -> str:
    """What to do where the source cannot be had."""
    name, line = benchmark.name, CODE_LINE if benchmark.form == "code" else TEXT_LINE
    return (
        f"provide {name}.jsonl with {benchmark.num_items or 'its'} lines like {line}, and pass --benchmark path/{name}.jsonl; "
        f"or, with the source's own columns too, put it into the folder of data files, or set file = "
        f'"path/{name}.jsonl" for [{name}] in your registry'
    )
