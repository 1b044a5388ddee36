"""The problems that a probe measures on, each with what grades an answer.

| ground | problems | what it is for |
|---|---|---|
| operators | an invented operator whose rule no problem tells | only a lesson can help: follow, summarise |
| stated | the same with its rule in the problem's own words | solvable without a lesson: ignore, inspect |
| chain_sum | sums of reasoning-gym | the same, in another domain |
| any other name | a benchmark or a file of the user's, as `eval` reads it | the same on what matters to the user |

Nothing here is trained on: the operators are those of the problems, never those of practice, and their held-out
problems."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from pipeline.config import Config
from pipeline.config.problems import FamilySettings, ProblemsSection
from pipeline.errors import DataError
from pipeline.evaluation.modes import Search
from pipeline.evaluation.plan import BenchmarkTasks
from pipeline.hashing import seed_of
from pipeline.probe.lessons import Taught, mistaken_sums, rule_lesson
from pipeline.problems import operators as source
from pipeline.problems.operator_rules import NUM_WORDINGS, RULES, WITH_RULE, Rule
from pipeline.problems.operators import Operator
from pipeline.rewards.extraction import extract_answer
from pipeline.rewards.math import fraction_of
from pipeline.rewards.verifier import Verifier
from pipeline.text import text_hash
from pipeline.types import Task

OPERATORS, STATED, SUMS = "operators", "stated", "chain_sum"
BUILT_IN = (OPERATORS, STATED, SUMS)
ROUND = 1024
"""Problems are drawn so many at a time: below that, more of them are the same ones and others."""
SUM_FAMILY = FamilySettings(name="chain_sum", params={"min_terms": 3, "max_terms": 4, "min_digits": 1, "max_digits": 1})


class Graded(NamedTuple):
    """`answer` is what was taken for the answer."""

    answer: str | None
    correct: bool


Grade = Callable[[str, Task], Awaitable[Graded]]


def whole_number(text: str) -> int | None:
    """The whole number that an answer ends with."""
    value = fraction_of(extract_answer(text) or "")
    return int(value) if value is not None and value.denominator == 1 else None


async def grade_number(text: str, task: Task) -> Graded:
    value = whole_number(text)
    return Graded(None if value is None else str(value), value is not None and str(value) == task.label.answer)


def grade_by(verifier: Verifier) -> Grade:
    """Grades with the scorer of the user's problems."""

    async def grade(text: str, task: Task) -> Graded:
        verdict = await verifier.verify(text, task)
        return Graded(verdict.answer, verdict.correct)

    return grade


class Ground(NamedTuple):
    """Problems on which lessons are to be ignored and attempts inspected. `wrong` is a lesson that would mislead who
    follows it, None where nobody knows one; `search` finds lessons of a pool."""

    benchmark: BenchmarkTasks
    grade: Grade
    irrelevant: Callable[[Task], Taught]
    wrong: Callable[[Task], Taught | None] = lambda task: None
    search: Search | None = None

    @property
    def name(self) -> str:
        return self.benchmark.name


class Operators:
    """Held-out problems on operators whose rules only a lesson can tell, and lessons about them."""

    def __init__(self, config: Config, num: int) -> None:
        """`num` problems, fewer where the dials of a run allow no more. Raises ConfigError."""
        own = config.problems if config.problems.source == "operators" else None
        settings = own or ProblemsSection(source="operators", families=())
        self.params = source.params_of(settings)
        self.tasks = _heldout(settings, num)
        self._all = [one for group in source.operators(self.params) for one in group]
        self._by_name = {one.name: one for one in self._all}

    def operator(self, task: Task) -> Operator:
        return self._by_name[task.label.entry["metadata"]["operator"]]

    def numbers(self, task: Task) -> tuple[int, int]:
        metadata = task.label.entry["metadata"]
        return metadata["left"], metadata["right"]

    def twin(self, task: Task) -> Task:
        """Another problem of the same operator."""
        operator, rng = self.operator(task), random.Random(seed_of("twin", task.problem.id))
        while (numbers := source.operands(self.params, rng)) == self.numbers(task):
            pass
        return source.task_of(operator, *numbers, "heldout", task.problem.family)

    def lesson(self, task: Task, rule: Rule, wording: int) -> Taught:
        """That the operator of `task` follows `rule`, drawn from another problem of it."""
        return rule_lesson(self.operator(task).name, rule, wording, self.twin(task).problem.text)

    def irrelevant(self, task: Task) -> Taught:
        """A lesson about another operator than that of `task`, if it has one."""
        rng = random.Random(seed_of("irrelevant", task.problem.id))
        own = task.label.entry.get("metadata", {}).get("operator", "")
        operator = rng.choice([one for one in self._all if one.name != own])
        text = operator.question(*source.operands(self.params, rng))
        return rule_lesson(operator.name, operator.rule, rng.randrange(NUM_WORDINGS), text)

    def stated(self) -> list[Task]:
        """The problems, each with a rule in its text: of all rules one after the other, in every wording."""
        return [self.stated_one(task, number) for number, task in enumerate(self.tasks)]

    def stated_one(self, task: Task, number: int) -> Task:
        rule = RULES[number % len(RULES)]
        words = rule.words((number // len(RULES) + number) % NUM_WORDINGS)
        text = WITH_RULE.format(question=task.problem.text, name=self.operator(task).name, words=words)
        problem = task.problem.model_copy(update={"text": text, "id": f"stated-{text_hash(text)}", "family": STATED})
        metadata = {**task.label.entry["metadata"], "rule": rule.name}
        answer = str(rule.value(*self.numbers(task)))
        label = task.label.model_copy(
            update={"problem_id": problem.id, "answer": answer, "entry": {"metadata": metadata}}
        )
        return Task(problem=problem, label=label)

    def contradicting(self, task: Task) -> Taught:
        """A lesson that contradicts the rule in the text of a `stated` problem."""
        rng = random.Random(seed_of("contradicting", task.problem.id))
        rule = rng.choice([one for one in RULES if one.name != task.label.entry["metadata"]["rule"]])
        operator = self.operator(task)
        text = operator.question(*source.operands(self.params, rng))
        return rule_lesson(operator.name, rule, rng.randrange(NUM_WORDINGS), text)


def stated_ground(operators: Operators, max_tokens: int) -> Ground:
    tasks = BenchmarkTasks(STATED, operators.stated(), max_tokens, "math", STATED, len(operators.tasks))
    return Ground(tasks, grade_number, operators.irrelevant, operators.contradicting)


def sums_ground(operators: Operators, num: int, max_tokens: int) -> Ground:
    """Sums, those that the quickstart holds out among them. Raises ConfigError, DataError."""
    from pipeline.problems.reasoning_gym import heldout_tasks

    settings = ProblemsSection(families=(SUM_FAMILY,), num_heldout=_rounded(num))
    drawn = heldout_tasks(settings)
    before = {task.problem.id: drawn[number - 1].problem.text for number, task in enumerate(drawn)}
    benchmark = BenchmarkTasks(SUMS, drawn[:num], max_tokens, "math", SUMS, len(drawn))
    return Ground(benchmark, grade_number, operators.irrelevant, lambda task: mistaken_sums(before[task.problem.id]))


def own_ground(operators: Operators, benchmark: BenchmarkTasks, verifier: Verifier, num: int) -> Ground:
    """The user's problems, the first `num` of them."""
    return Ground(benchmark._replace(tasks=benchmark.tasks[:num]), grade_by(verifier), operators.irrelevant)


def _heldout(settings: ProblemsSection, num: int) -> list[Task]:
    wanted = [_rounded(num), settings.num_heldout]
    for num_heldout in wanted:
        try:
            drawn = settings.model_copy(update={"num_heldout": num_heldout, "num_train": 1})
            return source.generate(drawn, 0)[0][:num]
        except DataError:
            if num_heldout == wanted[-1]:
                raise
    raise AssertionError("unreachable")


def _rounded(num: int) -> int:
    return ROUND * -(-num // ROUND)
