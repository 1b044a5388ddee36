"""Exercises on operators of practice names, for SFT on the source `operators`: no name, rule that is held out, or
result of a problem is among them."""

from __future__ import annotations

import random
from typing import NamedTuple

from pipeline.problems.operator_rules import COMMON, HELDOUT_WORDING, RARE, WITH_RULE, Rule
from pipeline.problems.operators import (
    PRACTICE_FAMILY,
    Operator,
    OperatorParams,
    operands,
    practice_operator,
    prior_rule,
    task_of,
)
from pipeline.sft.methods import Method
from pipeline.sft.worked_solutions import Solution, solve_expression
from pipeline.types import Task

TRAINED_RULES = COMMON + RARE
TOLD_SHARE = 0.3
"""Of the problems, those that tell the rule themselves, so that no lesson is needed."""


class Exercise(NamedTuple):
    """A problem with the solution by its operator's rule, and that rule as a lesson would tell it."""

    operator: Operator
    task: Task
    solution: Solution
    method: Method
    is_told: bool
    """Whether the problem tells the rule."""


def exercise(params: OperatorParams, rng: random.Random) -> Exercise:
    """A new operator with one problem; all rules are equally likely, so that a lesson on it must be read."""
    operator = practice_operator(params, rng, TRAINED_RULES)
    left, right = operands(params, rng)
    words = some_words(operator.rule, rng)
    is_told = rng.random() < TOLD_SHARE
    asked = operator._replace(phrasing=with_rule(operator, words)) if is_told else operator
    task = task_of(asked, left, right, "train", PRACTICE_FAMILY)
    return Exercise(operator, task, worked(operator, words, left, right), method_of(operator), is_told)


def with_rule(operator: Operator, words: str) -> str:
    """The phrasing of a problem that tells its rule."""
    return WITH_RULE.format(question=operator.phrasing, name=operator.name, words=words)


def guess(name: str, left: int, right: int, params: OperatorParams, rng: random.Random) -> Solution:
    """How a problem is solved by who knows no rule of its operator: by one that the prior has."""
    rule = prior_rule(params, rng)
    return worked(Operator(name, rule, ""), some_words(rule, rng), left, right)


def worked(operator: Operator, words: str, left: int, right: int) -> Solution:
    """The solution by its rule, which is stated first: whoever reads it knows what was done."""
    rule = operator.rule
    solution = solve_expression(rule.expression(left, right), str(rule.value(left, right)))
    assert solution is not None
    return solution.opened(rule_line(operator.name, words))


def rule_line(name: str, words: str) -> str:
    """The rule of an operator, as notes, lessons and solutions tell it: behind its name, by which it is found."""
    return f"For {name}, {words}."


def some_words(rule: Rule, rng: random.Random) -> str:
    """A wording that is not held out."""
    return rule.words(rng.randrange(HELDOUT_WORDING))


def method_of(operator: Operator) -> Method:
    words = tuple(f"for {operator.name}, {operator.rule.words(w)}" for w in range(HELDOUT_WORDING + 1))
    return Method(operator.name, words)


def another_question(operator: Operator, params: OperatorParams, rng: random.Random) -> str:
    """A problem of the same operator, as the source of a lesson."""
    return operator.question(*operands(params, rng))
