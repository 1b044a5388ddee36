"""What SFT pairs are made of: problems with solutions and the ways to them, of a run's own problems or of practice
operators."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from pipeline.config.problems import ProblemsSection
from pipeline.problems.operators import FAMILY, OperatorParams, params_of
from pipeline.sft.lessons import Shown, applicable, foreign
from pipeline.sft.methods import Method, ways
from pipeline.sft.operator_practice import another_question, exercise, guess
from pipeline.sft.worked_solutions import Solution
from pipeline.types import Task
from prompts.schemas import Lesson


class Material(NamedTuple):
    """One problem: its usual solution, the known ways to solve it (none where nothing can be said of them), and a
    problem that a lesson about it might be from."""

    task: Task
    solution: Solution
    ways: tuple[tuple[Method, Solution], ...]
    source: str
    is_determined: bool = True
    """Whether the problem alone determines its answer, so that a bare answer can be checked."""


class Ground(Protocol):
    """Yields material without end, and lessons that are about other things than it."""

    def material(self, rng: random.Random) -> Material: ...

    def applicable(self, method: Method, source: str, rng: random.Random) -> Shown: ...

    def foreign(self, material: Material, rng: random.Random) -> Shown: ...

    def unaided(self, material: Material, rng: random.Random) -> Solution:
        """How the problem is solved where no lesson tells the way."""
        ...

    def following(self, solution: Solution, lesson: Lesson) -> Solution:
        """The solution of who goes the way that `lesson` tells."""
        ...

    def conclusion(self, material: Material, solution: Solution, number: int | None) -> list[str]:
        """What an analysis ends with: of lesson `number`, or of none, `solution` has its way."""
        ...


class SolvedGround:
    """Problems with worked solutions, in one shuffled order after the other."""

    def __init__(self, solved: list[tuple[Task, Solution]], rng: random.Random) -> None:
        """`solved` must not be empty."""
        self._solved = solved
        self._order = self._endless(rng)

    def _endless(self, rng: random.Random) -> Iterator[tuple[Task, Solution]]:
        while True:
            yield from rng.sample(self._solved, len(self._solved))

    def material(self, rng: random.Random) -> Material:
        return self.about(*next(self._order), rng)

    def about(self, task: Task, solution: Solution, rng: random.Random) -> Material:
        other = rng.choice(self._solved)[0].problem
        source = other.query_text if other.family == task.problem.family and other.id != task.problem.id else ""
        return Material(task, solution, tuple(ways(task, solution)), source)

    def applicable(self, method: Method, source: str, rng: random.Random) -> Shown:
        return applicable(method, source, rng)

    def foreign(self, material: Material, rng: random.Random) -> Shown:
        return foreign("programs" if material.task.problem.form == "code" else material.task.problem.family, rng)

    def unaided(self, material: Material, rng: random.Random) -> Solution:
        return material.solution

    def following(self, solution: Solution, lesson: Lesson) -> Solution:
        return solution

    def conclusion(self, material: Material, solution: Solution, number: int | None) -> list[str]:
        return []  # of each lesson its own remark says whether it applies


class OperatorGround:
    """Operators of practice names: from scratch their rule is guessed, under lessons it is whatever a lesson says.

    An analysis says what each lesson is about, then the rule, then where it is from: two million parameters find a rule
    by the name before it, which is copying, long before they can tell whether two names are the same."""

    def __init__(self, params: OperatorParams) -> None:
        self._params = params

    def material(self, rng: random.Random) -> Material:
        found = exercise(self._params, rng)
        source = another_question(found.operator, self._params, rng)
        ways = ((found.method, found.solution),)
        return Material(found.task, found.solution, ways, source, is_determined=found.is_told)

    def applicable(self, method: Method, source: str, rng: random.Random) -> Shown:
        return applicable(method, source, rng)._replace(remark=f"is about {method.topic}.")

    def foreign(self, material: Material, rng: random.Random) -> Shown:
        other = self.material(rng)
        return self.applicable(other.ways[0][0], other.source, rng)

    def unaided(self, material: Material, rng: random.Random) -> Solution:
        if material.is_determined:
            return material.solution
        metadata = material.task.label.entry["metadata"]
        return guess(metadata["operator"], metadata["left"], metadata["right"], self._params, rng)

    def following(self, solution: Solution, lesson: Lesson) -> Solution:
        """Its rule is in the words of the lesson."""
        return solution.opened(lesson.principles[0])

    def conclusion(self, material: Material, solution: Solution, number: int | None) -> list[str]:
        if material.is_determined:
            source = "the problem tells it"
        else:
            source = f"lesson {number} tells it" if number else "a guess, no lesson tells it"
        return [f"{solution.opening.removesuffix('.')}: {source}."]


def is_practised(problems: ProblemsSection) -> bool:
    """Whether pairs are made of practice operators, and not of the problems themselves."""
    return problems.source == FAMILY


def practice(problems: ProblemsSection) -> OperatorGround:
    return OperatorGround(params_of(problems))
