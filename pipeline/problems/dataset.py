"""The problems of a run, from a generator, files, the hub or a user's function, split into training and held-out ones.

Invariants: no training problem equals a held-out problem (normalised text, numbers included), nor, unless
`problems.drop_near_duplicates` is off, is a near-duplicate of one; ids are unique and stable
(a row's own id, else `<source>-<hash of the prompt>`); the held-out problems do not depend on the run's seed, except
where a source has only one file, whose end they are. The order of training problems is a function of the seed and an
index, so a resume needs no state."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path

from pipeline.config.problems import ColumnsSection, ProblemsSection
from pipeline.errors import ConfigError, DataError
from pipeline.problems.duplicates import keys_apart, keys_of, keys_of_all
from pipeline.problems.rows import Row, hub_rows, jsonl_rows, plugin_rows
from pipeline.problems.tasks import RowFormat, asks_for_program, column, parse_row, with_all_columns
from pipeline.rewards.code.preflight import with_imports
from pipeline.runtime.plugins import is_plugin, load_function
from pipeline.text import text_hash
from pipeline.types import Split, Task

SOURCES = "'reasoning_gym', 'operators', 'procedural_code', 'jsonl', 'hub' or 'module:function'"


@dataclass(frozen=True)
class ProblemSet:
    """Disjoint splits. `num_dropped` training rows repeated another one or equalled a held-out problem, `num_near` were
    near-duplicates of one."""

    train: list[Task]
    heldout: list[Task]
    num_dropped: int = 0
    num_near: int = 0
    drops_near: bool = True
    """Whether near-duplicates of held-out problems are kept out: of training, and of the pool."""

    @property
    def heldout_hashes(self) -> frozenset[str]:
        return frozenset(task.problem.text_hash for task in self.heldout)

    @cached_property
    def heldout_keys(self) -> frozenset[str]:
        """What is kept apart from the held-out problems."""
        return keys_apart(self.heldout, near=self.drops_near)


class ProblemStream:
    """Training problems without end: epoch after epoch, each in a seeded order of its own."""

    def __init__(self, tasks: list[Task], seed: int) -> None:
        """`tasks` must not be empty."""
        if not tasks:
            raise ValueError("a stream needs at least one problem")
        self._tasks = tasks
        self._seed = seed
        # Few: the epoch at hand, the one before, and those that replacements of a problem are drawn from.
        self._order_of = lru_cache(maxsize=8)(self._order)

    def problem_at(self, index: int) -> Task:
        """Problem number `index` (from 0) of the run; the same for the same tasks, seed and index."""
        epoch, position = divmod(index, len(self._tasks))
        return self._tasks[self._order_of(epoch)[position]]

    def _order(self, epoch: int) -> list[int]:
        # A seed given as text is hashed, so neighbouring seeds and epochs share nothing.
        return random.Random(f"order:{self._seed}:{epoch}").sample(range(len(self._tasks)), len(self._tasks))


def load_problems(settings: ProblemsSection, seed: int, packages: Sequence[str] = ()) -> ProblemSet:
    """Problems of both splits. `seed` (the run's) draws the training problems of a procedural source; those that ask
    for programs say which `packages` may be imported.

    Raises ConfigError for a bad setting and DataError for bad, unreachable or too little data; both name the remedy.
    """
    found = _loaded(settings, seed)
    train, heldout = with_imports(found.train, packages), with_imports(found.heldout, packages)
    return replace(found, train=train, heldout=heldout, drops_near=settings.drop_near_duplicates)


def _loaded(settings: ProblemsSection, seed: int) -> ProblemSet:
    match settings.source:
        case "reasoning_gym":
            from pipeline.problems.reasoning_gym import generate

            heldout, train = generate(settings, seed)
            return ProblemSet(train=train, heldout=heldout)
        case "operators":
            from pipeline.problems import operators

            heldout, train = operators.generate(settings, seed)
            return ProblemSet(train=train, heldout=heldout)
        case "procedural_code":
            from pipeline.problems import procedural_code

            heldout, train = procedural_code.generate(settings, seed)
            return ProblemSet(train=train, heldout=heldout)
        case "jsonl":
            return _from_files(settings)
        case "hub":
            return _from_hub(settings)
        case source if is_plugin(source):
            return _from_function(settings)
    raise ConfigError(f"problems.source = {settings.source!r} is unknown; use {SOURCES}")


def _from_files(settings: ProblemsSection) -> ProblemSet:
    if not settings.train_file:
        raise ConfigError(
            "problems.train_file = '': problems.source = 'jsonl' needs it; give a file with one JSON object per line"
        )
    name = Path(settings.train_file).stem
    train_rows = list(jsonl_rows(settings.train_file, "problems.train_file"))
    if not settings.heldout_file:
        return _split_end(train_rows, name, settings)
    heldout_rows = jsonl_rows(settings.heldout_file, "problems.heldout_file")
    return _assemble(train_rows, heldout_rows, name, settings)


def _from_hub(settings: ProblemsSection) -> ProblemSet:
    if not settings.dataset:
        raise ConfigError(
            "problems.dataset = '': problems.source = 'hub' needs it; give an id, for example openai/gsm8k"
        )
    name = settings.dataset.rpartition("/")[2]
    return _assemble(_hub_rows(settings, "train_split"), _hub_rows(settings, "heldout_split"), name, settings)


def _hub_rows(settings: ProblemsSection, field: str) -> Iterator[Row]:
    split = getattr(settings, field)
    return hub_rows(
        settings.dataset,
        settings.dataset_config,
        split,
        f"problems.dataset = {settings.dataset!r} (problems.dataset_config = {settings.dataset_config!r}, "
        f"problems.{field} = {split!r})",
        "Check the names, or without a hub set problems.source = 'jsonl' with problems.train_file and "
        'problems.heldout_file: files with {"question": …, "answer": …} on each line',
    )


def _from_function(settings: ProblemsSection) -> ProblemSet:
    function = load_function(settings.source, "problems.source")
    rows = list(plugin_rows(settings.source, function()))
    name = settings.source.partition(":")[0].rpartition(".")[2]
    if all("split" not in row.values for row in rows):
        return _split_end(rows, name, settings)
    by_split: dict[str, list[Row]] = {"train": [], "heldout": []}
    for row in rows:
        split = row.values.get("split", "train")
        if split not in by_split:
            raise DataError(f"{row.where}: split = {split!r}; use 'train' or 'heldout', or leave it out of every item")
        by_split[split].append(row)
    return _assemble(by_split["train"], by_split["heldout"], name, settings)


def _split_end(rows: list[Row], name: str, settings: ProblemsSection) -> ProblemSet:
    """The last `num_heldout` rows are held out."""
    if len(rows) <= settings.num_heldout:
        raise DataError(
            f"{settings.train_file or settings.source} has {len(rows)} problems, too few to hold out the last "
            f"problems.num_heldout = {settings.num_heldout} of them; lower it (and eval.num_problems), or add problems"
        )
    return _assemble(rows[: -settings.num_heldout], rows[-settings.num_heldout :], name, settings)


def _assemble(train: Iterable[Row], heldout: Iterable[Row], name: str, settings: ProblemsSection) -> ProblemSet:
    heldout_tasks, num_repeated = _distinct(
        islice(heldout, settings.num_heldout), "heldout", name, frozenset(), settings.columns
    )
    if len(heldout_tasks) + num_repeated < settings.num_heldout:
        raise DataError(
            f"only {len(heldout_tasks)} held-out problems, but problems.num_heldout = {settings.num_heldout}; "
            "lower it (and eval.num_problems), or add problems"
        )
    hashes = frozenset(task.problem.text_hash for task in heldout_tasks)
    train_tasks, num_dropped = _distinct(train, "train", name, hashes, settings.columns)
    num_distinct = len(train_tasks)
    if settings.drop_near_duplicates:
        near = keys_of_all(heldout_tasks)
        train_tasks = [task for task in train_tasks if near.isdisjoint(keys_of(task))]
    if not train_tasks:
        raise DataError(
            f"{name}: no training problem is left beside the {len(heldout_tasks)} held-out ones, of which "
            f"{num_distinct} were near-duplicates (problems.drop_near_duplicates); add problems"
        )
    _check_ids([*heldout_tasks, *train_tasks])
    tasks = with_all_columns([*heldout_tasks, *train_tasks])
    num = len(heldout_tasks)
    num_near = num_distinct - len(train_tasks)
    return ProblemSet(tasks[num:], tasks[:num], num_dropped=num_dropped + num_repeated, num_near=num_near)


def _distinct(
    rows: Iterable[Row], split: Split, name: str, taken: frozenset[str], columns: ColumnsSection
) -> tuple[list[Task], int]:
    """The rows as tasks, without repetitions and without texts whose hash is `taken`; and how many were left out."""
    tasks: dict[str, Task] = {}
    num_dropped = 0
    fmt = RowFormat(**{f"{field}_column": name for field, name in columns.named.items()})
    for row in rows:
        _check_columns(row, columns)
        parsed = parse_row(row, fmt)
        task = parsed.task(parsed.own_id or f"{name}-{text_hash(parsed.text)}", split)
        task = task.with_row(row.values)
        key = task.problem.text_hash
        if key in tasks or key in taken:
            num_dropped += 1
        else:
            tasks[key] = task
    return list(tasks.values()), num_dropped


def _check_columns(row: Row, columns: ColumnsSection) -> None:
    """Raise DataError where a row lacks a column that the configuration names: another one would be read instead."""
    needed = {name: key for name, key in columns.named.items() if name in ("question", "answer")}
    if asks_for_program(row.values):
        needed.pop("answer", None)
    for name, key in needed.items():
        if key not in row.values and column(row.values, key) is None:
            raise DataError(
                f"{row.where}: problems.columns.{name} = {key!r}: there is no such column; there are "
                f"{', '.join(map(repr, row.values))}"
            )


def _check_ids(tasks: list[Task]) -> None:
    seen: dict[str, str] = {}
    for task in tasks:
        other = seen.setdefault(task.problem.id, task.problem.text)
        if other != task.problem.text:
            raise DataError(
                f"id {task.problem.id!r} names two problems ({other[:60]!r} and {task.problem.text[:60]!r}); "
                "make the ids unique, or leave them out"
            )
