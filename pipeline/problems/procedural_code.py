"""Small programming problems without a hub: seeded, distinct, split (their families:
`pipeline/problems/code_families.toml`).

The label has the tests, with expected values that a reference made here and now; the reference itself is in neither
problem nor label. A draw whose tests a constant, or a copy of an argument, would pass is skipped. Held-out problems are
drawn first, from `heldout_seed` alone; a training problem that equals one is skipped and another drawn in its place."""

from __future__ import annotations

import random
from typing import Any

from pipeline.config.problems import FamilySettings, ProblemsSection
from pipeline.errors import ConfigError, DataError
from pipeline.problems.code_families import FAMILIES, Exercise
from pipeline.problems.reasoning_gym import DRAWS_PER_PROBLEM, EXTRA_DRAWS, shares
from pipeline.text import nearest, text_hash
from pipeline.types import Label, Problem, Split, Task


def generate(settings: ProblemsSection, seed: int) -> tuple[list[Task], list[Task]]:
    """Held-out and training tasks, in this order, families mixed. Raises ConfigError and DataError."""
    families = _families(settings)
    taken: set[str] = set()
    heldout = _draw(families, "heldout", settings.heldout_seed, settings.num_heldout, taken)
    train = _draw(families, "train", seed, settings.num_train, taken)
    return heldout, train


def _families(settings: ProblemsSection) -> tuple[FamilySettings, ...]:
    """Those of the settings, all where they name none."""
    for position, family in enumerate(settings.families):
        if family.name not in FAMILIES:
            close = nearest(family.name, FAMILIES, num=3, cutoff=0.5)
            raise ConfigError(
                f"problems.families[{position}].name = {family.name!r} is no family of problems.source = 'procedural_code'; "
                f"use [] for all, or of {', '.join(close or FAMILIES)}"
            )
        if family.params:
            raise ConfigError(
                f"problems.families[{position}].params = {family.params!r}: families of programs take none; leave it out"
            )
    return settings.families or tuple(FamilySettings(name=name) for name in FAMILIES)


def _draw(families: tuple[FamilySettings, ...], split: Split, seed: int, num: int, taken: set[str]) -> list[Task]:
    """`num` distinct tasks whose text hashes are not in `taken`; adds theirs."""
    tasks = []
    for family, count in zip(families, shares([family.weight for family in families], num), strict=True):
        tasks += _draw_family(family.name, split, seed, count, taken)
    random.Random(f"mix:{split}:{seed}").shuffle(tasks)
    return tasks


def _draw_family(name: str, split: Split, seed: int, num: int, taken: set[str]) -> list[Task]:
    # A seed given as text is hashed, so neighbouring seeds share nothing.
    rng = random.Random(f"code:{split}:{seed}:{name}")
    tasks: list[Task] = []
    num_draws = DRAWS_PER_PROBLEM * num + EXTRA_DRAWS
    for _ in range(num_draws):
        if len(tasks) == num:
            return tasks
        exercise = FAMILIES[name](rng)
        key = text_hash(exercise.question)
        expected = results(exercise)
        if key not in taken and tells_apart(exercise.cases, expected):
            taken.add(key)
            tasks.append(_task(exercise, expected, name, split))
    setting = "problems.num_heldout" if split == "heldout" else "problems.num_train"
    raise DataError(
        f"family {name!r} made only {len(tasks)} of the {num} distinct {split} problems wanted (in {num_draws} draws); "
        f"lower {setting} or the family's weight, or name more families"
    )


def results(exercise: Exercise) -> list[Any]:
    """What the reference returns, case by case."""
    namespace: dict[str, Any] = {}
    exec(compile(exercise.reference, "<reference>", "exec"), namespace)  # noqa: S102 - text of our own
    return [namespace[exercise.name](*case) for case in exercise.cases]


def tells_apart(cases: list[tuple[Any, ...]], expected: list[Any]) -> bool:
    """Whether neither a constant nor a copy of one argument gives all the `expected`."""
    if all(value == expected[0] for value in expected):
        return False
    return all(
        any(case[place] != value for case, value in zip(cases, expected, strict=True)) for place in range(len(cases[0]))
    )


def _task(exercise: Exercise, expected: list[Any], family: str, split: Split) -> Task:
    problem = Problem(
        id=f"{family}-{text_hash(exercise.question)}", text=exercise.question, split=split, family=family, form="code"
    )
    tests = "".join(
        f"assert {exercise.name}({', '.join(map(repr, case))}) == {value!r}\n"
        for case, value in zip(exercise.cases, expected, strict=True)
    )
    entry = {"tests": tests, "entry_point": exercise.name}
    return Task(problem=problem, label=Label(problem_id=problem.id, answer="", entry=entry))
