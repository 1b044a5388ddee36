"""The items of a benchmark: its rows from the hub, a file, a package or a user's function, or those of a generator.

Invariants: all items are there, repeated texts too, but those outside of the benchmark's own id range; a number that is
not the expected one is an error; ids are unique and do not depend on what was sampled; the sample of a smaller limit is
part of that of a larger one."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.config.problems import FamilySettings, ProblemsSection
from pipeline.errors import ConfigError, DataError, UserError
from pipeline.problems.benchmark import SHIPPED, Benchmark, name_key, registry, validated
from pipeline.problems.rows import CONVERSION, OTHER_FORMATS, TEXT_LINE, Row, hub_rows, jsonl_rows, plugin_rows
from pipeline.problems.tasks import CODE_LINE, asks_for_program, parse_row, with_all_columns
from pipeline.runtime.plugins import load_function
from pipeline.text import did_you_mean
from pipeline.types import Task

GENERATED = "reasoning_gym:"
SUFFIXES = (".jsonl", ".jsonl.gz")
NUM_GENERATED = 200


def find_benchmark(name: str, extra: Path | None = None) -> Benchmark:
    """The benchmark called `name`, in the registry or in the user's TOML `extra`; a JSONL file by its path; a family by
    `reasoning_gym:FAMILY`. Raises ConfigError for an unknown name, DataError for a file that cannot be read."""
    if name.endswith(SUFFIXES):
        return _of_file(name)
    if name.lower().removesuffix(".gz").endswith(OTHER_FORMATS):
        raise ConfigError(
            f"benchmark {name!r}: only JSONL files are read; convert it, one JSON object a line such as {TEXT_LINE}, "
            f"and name the file so that it ends in .jsonl ({CONVERSION})"
        )
    known = registry(extra)
    found = {name_key(each): each for each in known}
    if name_key(name) in found and not name.startswith(GENERATED):
        return known[found[name_key(name)]]
    if name.startswith(GENERATED):
        family = name.removeprefix(GENERATED)
        return validated(
            name, {"source": "reasoning_gym", "dataset": family, "title": f"reasoning-gym: {family}"}, SHIPPED
        )
    raise ConfigError(
        f"benchmark {name!r} is unknown{did_you_mean(name, known, num=3, cutoff=0.5)}; there are {', '.join(known)}, "
        f"{GENERATED}FAMILY, and files that end in .jsonl"
    )


def _of_file(path: str) -> Benchmark:
    """A JSONL file as a benchmark of its own; each of its rows says whether it asks for a program."""
    name = Path(path).name.removesuffix(".gz").removesuffix(".jsonl")
    programs = [asks_for_program(row.values) for row in jsonl_rows(path, "benchmark")]
    if not programs:
        raise DataError(f"{path}: is empty; expected lines such as {TEXT_LINE} or {CODE_LINE}")
    table: dict[str, Any] = {"source": "file", "file": path, "title": path}
    return validated(name, table | ({"form": "code", "verifier": "code"} if all(programs) else {}), Path(path))


def tasks_of(benchmark: Benchmark, data: Path | None = None, min_generated: int = 0) -> list[Task]:
    """All items in the source's order; those of a folder `data` with a `NAME.jsonl` (or `.jsonl.gz`) in place of the
    source.

    A generator whose number is not stated makes `min_generated`, where that is more than its default. Raises
    ConfigError and DataError."""
    if benchmark.source == "reasoning_gym":
        return _generated(benchmark, min_generated)
    tasks: dict[str, Task] = {}
    for position, row in enumerate(_rows_of(benchmark, data)):
        parsed = parse_row(row, benchmark)
        task = parsed.task(f"{benchmark.name}-{parsed.own_id or f'{position:04d}'}", "heldout", benchmark.name)
        task = task.with_row(row.values)
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
            f"benchmark {benchmark.name!r}: {len(tasks)} items in {_place(benchmark, data)}, but {benchmark.num_items} "
            f"are expected; fetch the whole of it, or set num_items = {len(tasks)} for [{benchmark.name}] in your "
            "registry"
        )
    return with_all_columns(list(tasks.values()))


def sampled(tasks: list[Task], name: str, limit: int | None, seed: int) -> list[Task]:
    """Of `tasks` the `limit` that rank first by a hash of seed, name and id, in the order given; all of them for
    None."""
    if limit is None:
        return tasks

    def rank(index: int) -> str:
        return hashlib.sha256(f"{seed}:{name}:{tasks[index].problem.id}".encode()).hexdigest()

    return [tasks[index] for index in sorted(heapq.nsmallest(limit, range(len(tasks)), key=rank))]


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
    where = f"benchmark {benchmark.name!r}"
    match benchmark.source:
        case "hub":
            what = (
                f"{where}: data set {benchmark.dataset!r} (config {benchmark.config!r}, split {benchmark.split!r}, "
                f"revision {benchmark.revision!r})"
            )
            remedy = f"Without a hub {_provide(benchmark)}"
            return hub_rows(benchmark.dataset, benchmark.config, benchmark.split, what, remedy, benchmark.revision)
        case "file":
            return jsonl_rows(benchmark.file, f"{where}: file")
        case "package":
            return jsonl_rows(str(_package_file(benchmark)), f"{where}: file")
    return plugin_rows(benchmark.source, load_function(benchmark.source, f"{where}: source")(), f"{where}: source")


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


def _package_file(benchmark: Benchmark) -> Path:
    try:
        found = Path(str(metadata.distribution(benchmark.dataset).locate_file(benchmark.file)))
    except metadata.PackageNotFoundError:
        found = None
    if found is None or not found.is_file():
        what = "which is not installed" if found is None else f"whose installation has no {benchmark.file}"
        raise DataError(
            f"benchmark {benchmark.name!r} comes with the package {benchmark.dataset}, {what}; `pip install "
            f"{benchmark.dataset}`, or with its file {Path(benchmark.file).name} at hand {_provide(benchmark)}"
        )
    return found


def _generated(benchmark: Benchmark, min_generated: int) -> list[Task]:
    """Drawn as a run draws its held-out problems with the default seed: none is a training problem of a run with this
    one family, the same parameters, and as many held-out problems or more. Of other runs it may be one."""
    from pipeline.problems.reasoning_gym import check_family, heldout_tasks

    where = f"benchmark {benchmark.name!r}"
    check_family(benchmark.dataset, f"{where}: dataset")
    family = FamilySettings(name=benchmark.dataset, params=benchmark.params)
    num = benchmark.num_items or max(NUM_GENERATED, min_generated)
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
        f"provide {name}.jsonl with {benchmark.num_items or 'its'} lines like {line}, and pass --benchmark "
        f"path/{name}.jsonl; "
        f"or, with the source's own columns too, put it into the folder of data files, or set file = "
        f'"path/{name}.jsonl" for [{name}] in your registry'
    )
