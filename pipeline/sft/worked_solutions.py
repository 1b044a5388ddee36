"""Worked solutions of tasks, and solutions with one seeded mistake: the material of SFT seeding.

A procedural task's solution is a few equations, one per line, as short as they come: a small model pays for every
token. One that its source wrote keeps its words. Every equation that a solution has as a step is true and the last one
gives the gold answer, both checked here; a task for which no solution with reasoning can be had has none."""

from __future__ import annotations

import ast
import operator
import random
import re
from dataclasses import dataclass, replace
from fractions import Fraction

from pipeline.rewards.extraction import boxes
from pipeline.sft.written_solutions import thinking_and_shown, written_solution
from pipeline.text import strip_think
from pipeline.types import Task

_OPERATORS = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.floordiv),
}
_EQUATION = re.compile(r"(?<![\d.)])(\d+(?:\.\d+)?(?:\s*[-+*/]\s*\d+(?:\.\d+)?)+)\s*=\s*(-?\d+(?:\.\d+)?)(?![\d./*])")
_NOT_OF_AN_EQUATION = (
    (r"(?<=\d),(?=\d{3})", ""),
    ("\u00f7", "/"),
    ("\u00d7|(?<![A-Za-z])x(?![A-Za-z])", "*"),
    (r"(\d+(?:\.\d+)?)%", r"\1 / 100"),
    (r"/?[A-Za-z][A-Za-z'\u2019-]*(?:/[A-Za-z]+)*", " "),
    (r"[$\u20ac\u00a3]", ""),
    (r"(?<=\d)\.0+(?!\d)", ""),
)
"""What stands around the equations of a prose, and what it becomes, in this order."""
_SLIPS = (-10, -2, -1, 1, 2, 10)
MAX_STEPS = 12


@dataclass(frozen=True)
class Step:
    """One equation: `left` = `value`."""

    left: str
    value: str

    @property
    def text(self) -> str:
        return f"{self.left} = {self.value}"


@dataclass(frozen=True)
class Solution:
    """Steps and final answer; `prose` is the whole of it where its source wrote it.

    `wrong_step` is the index of the mistake, `len(steps)` for the final answer, None for no mistake. A program has
    neither steps nor answer: nothing of it was checked.
    """

    steps: tuple[Step, ...]
    answer: str
    wrong_step: int | None = None
    prose: str = ""
    expression: str = ""
    """What the steps compute, where they are those of one expression in the order of its evaluation."""
    opening: str = ""
    """A line before the steps."""
    is_cut: bool = False
    """Whether it ends before its answer."""

    @property
    def text(self) -> str:
        box = "" if self.is_cut else f"\\boxed{{{self.answer}}}"
        lines = [self.opening, *(step.text for step in self.steps), box]
        return self.prose or "\n".join(line for line in lines if line)

    def opened(self, line: str) -> Solution:
        return replace(self, opening=line)

    @property
    def attempt(self) -> str:
        """`text` as somebody who reads it as an attempt is shown it: without its thinking."""
        return strip_think(self.text)


def solve(task: Task) -> Solution | None:
    """The worked solution of `task`, by its family's solver or its source; None where there is none with reasoning."""
    metadata = task.label.entry.get("metadata", {})
    match task.problem.family:
        case "chain_sum" | "basic_arithmetic":
            return solve_expression(str(metadata.get("expression", "")), task.label.answer)
        case "gsm_symbolic":
            return _solve_prose(str(metadata.get("answer_cot", "")), task.label.answer)
    if not (prose := written_solution(task)):
        return None
    # Of what an attempt shows: a critique says nothing of equations that only its thinking has.
    checked = _solve_prose(thinking_and_shown(prose)[1], task.label.answer)
    return Solution(checked.steps if checked else (), task.label.answer, prose=prose)


def answer_only(task: Task) -> Solution:
    return Solution(steps=(), answer=task.label.answer)


def with_mistake(solution: Solution, rng: random.Random) -> Solution:
    """`solution` with one mistake: mostly in a step, whose value the later steps then build on, else in the final
    answer.
    """
    if solution.prose:
        return _prose_with_mistake(solution, rng)
    if solution.steps and rng.random() < 0.75:
        index = rng.randrange(len(solution.steps)) if solution.expression else len(solution.steps) - 1
        slip = rng.choice(_SLIPS)
        try:
            steps = (
                _steps(solution.expression, (index, slip))
                if solution.expression
                else _last_step_slipped(solution.steps, slip)
            )
        except ValueError:  # the wrong value cannot be carried on, for example by a division
            pass
        else:
            return replace(solution, steps=steps, answer=steps[-1].value, wrong_step=index)
    return replace(solution, answer=_other_answer(solution.answer, rng), wrong_step=len(solution.steps))


def cut_off(solution: Solution, rng: random.Random) -> Solution:
    """`solution` as the token limit would leave it: its first steps and no answer. Needs two steps."""
    return replace(solution, steps=solution.steps[: rng.randrange(1, len(solution.steps))], is_cut=True)


def _prose_with_mistake(solution: Solution, rng: random.Random) -> Solution:
    """The source's solution, its thinking left out, with another final answer wherever it states that, and another
    value in its last checked step where that can be found; as it is where its answer is no number, since nothing else
    would be a plausible mistake."""
    shown = thinking_and_shown(solution.prose)[1].lstrip()
    found = boxes(shown)
    if not found or not re.fullmatch(r"-?\d+(?:\.\d+)?", solution.answer):
        return solution
    wrong = _other_answer(solution.answer, rng)
    before, after = shown[: found[-1].inner], shown[found[-1].end :]
    steps, index, as_written = solution.steps, len(solution.steps), _as_written(solution.answer)
    stated = list(re.finditer(rf"(?<=[\d)])\s*=[\s$]*({as_written})(?!\d|[.,]\d)", before))
    begin = stated[-1].end(1) if stated else shown[: found[-1].start].rstrip(" \n$").rfind("\n") + 1
    if steps and stated and rng.random() < 0.75:
        begin = stated[-1].start(1)
        steps, index = (*steps[:-1], Step(steps[-1].left, wrong)), len(steps) - 1
    # What follows the step, or the last line of words, says the answer again: an attempt does not contradict itself.
    again = re.compile(rf"(?<![\d.])(?<!\d,){as_written}(?!\d|[.,]\d)")
    later, after = (again.sub(wrong, text) for text in (before[begin:], after))
    return Solution(steps, wrong, index, f"{before[:begin]}{later}{wrong}{after}")


def _as_written(number: str) -> str:
    """A pattern of a number, with or without commas between thousands."""
    grouped = f"{int(number):,}" if re.fullmatch(r"-?\d+", number) else number
    return f"(?:{re.escape(number)}|{re.escape(grouped)})"


def _other_answer(answer: str, rng: random.Random) -> str:
    if re.fullmatch(r"-?\d+", answer):
        return str(int(answer) + rng.choice(_SLIPS))
    if re.fullmatch(r"-?\d+\.\d+", answer):
        return f"{float(answer) + rng.choice(_SLIPS):g}"
    return f"not {answer}" if len(answer.split()) > 1 else answer + rng.choice("abc")


def _last_step_slipped(steps: tuple[Step, ...], slip: int) -> tuple[Step, ...]:
    return (*steps[:-1], Step(steps[-1].left, _shown(Fraction(steps[-1].value) + slip)))


def solve_expression(expression: str, answer: str) -> Solution | None:
    try:
        steps = _steps(expression)
        value = steps[-1].value if steps else str(int(expression))
    except ValueError:
        return None
    if value != answer or len(steps) > MAX_STEPS:
        return None
    return Solution(steps, answer, expression=expression)


def _steps(expression: str, slip: tuple[int, int] | None = None) -> tuple[Step, ...]:
    """The binary operations of an expression over whole numbers in the order of evaluation; `slip` (index, difference)
    makes that step wrong. Raises ValueError for anything else, inexact division included.
    """
    steps: list[Step] = []

    def value_of(node: ast.expr) -> int:
        match node:
            case ast.Constant(value=int(value)):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -value_of(operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                a, b = value_of(left), value_of(right)
                symbol, operation = _OPERATORS[type(op)]
                result = operation(a, b)
                if symbol != "/" or result * b == a:
                    if slip and slip[0] == len(steps):
                        result += slip[1]
                    steps.append(Step(f"{a} {symbol} {b}", str(result)))
                    return result
        raise ValueError("no whole numbers, or another operation")

    try:
        value_of(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, RecursionError, ZeroDivisionError) as error:
        raise ValueError(str(error)) from error
    return tuple(steps)


def _solve_prose(prose: str, answer: str) -> Solution | None:
    """The equations in a worded solution, if all are true and the last one gives the answer."""
    steps: list[Step] = []
    for line in prose.partition("####")[0].splitlines():
        for left, value in _EQUATION.findall(_bare(line)):
            step = Step(re.sub(r"\s*([-+*/])\s*", r" \1 ", left), _shown(Fraction(value)))
            if step not in steps:
                steps.append(step)
    if not steps or len(steps) > MAX_STEPS or steps[-1].value != answer:
        return None
    return Solution(tuple(steps), answer) if all(_is_true(step) for step in steps) else None


def _bare(line: str) -> str:
    """`line` without words, units, currency and thousands separators; × and ÷ as * and /."""
    for pattern, replacement in _NOT_OF_AN_EQUATION:
        line = re.sub(pattern, replacement, line)
    return line


def _is_true(step: Step) -> bool:
    """Whether the equation holds, exactly. `left` is numbers and operators, by the pattern that found it."""
    exact = re.sub(r"[\d.]+", r"Fraction('\g<0>')", step.left)
    try:
        return bool(eval(exact, {"Fraction": Fraction}) == Fraction(step.value))  # noqa: S307 - no names but this one
    except ZeroDivisionError:
        return False


def _shown(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{float(value):g}"
