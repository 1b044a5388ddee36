"""Small programming problems without a hub: seeded, distinct, split (their families:
`pipeline/problems/code_families.toml`).

The label has the tests, with expected values that a reference made here and now; the reference itself is in neither
problem nor label. A draw whose tests a constant, or a copy of an argument, would pass is skipped."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from pipeline.config.problems import FamilySettings, ProblemsSection
from pipeline.errors import ConfigError
from pipeline.problems.code_families import FAMILIES, Exercise
from pipeline.problems.drawing import draw_splits
from pipeline.text import nearest, text_hash
from pipeline.types import Label, Problem, Split, Task


def generate(settings: ProblemsSection, seed: int) -> tuple[list[Task], list[Task]]:
    """Held-out and training tasks, in this order, families mixed. Raises ConfigError and DataError."""
    return draw_splits(settings, _families(settings), seed, _stream, " or the family's weight, or name more families")


def _families(settings: ProblemsSection) -> tuple[FamilySettings, ...]:
    """Those of the settings, all where they name none."""
    for position, family in enumerate(settings.families):
        if family.name not in FAMILIES:
            close = nearest(family.name, FAMILIES, num=3, cutoff=0.5)
            raise ConfigError(
                f"problems.families[{position}].name = {family.name!r} is no family of problems.source = "
                f"'procedural_code'; use [] for all, or of {', '.join(close or FAMILIES)}"
            )
        if family.params:
            raise ConfigError(
                f"problems.families[{position}].params = {family.params!r}: families of programs take none; leave "
                "it out"
            )
    return settings.families or tuple(FamilySettings(name=name) for name in FAMILIES)


def _stream(family: FamilySettings, split: Split, seed: int, num_draws: int, taken: set[str]) -> Iterator[Task]:
    # A seed given as text is hashed, so neighbouring seeds share nothing.
    rng = random.Random(f"code:{split}:{seed}:{family.name}")
    for _ in range(num_draws):
        exercise = FAMILIES[family.name](rng)
        expected = results(exercise)
        if text_hash(exercise.question) not in taken and tells_apart(exercise.cases, expected):
            yield _task(exercise, expected, family.name, split)


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
    label = Label(problem_id=problem.id, answer="", entry=entry)
    return Task(problem=problem, label=label, solution=exercise.reference)
