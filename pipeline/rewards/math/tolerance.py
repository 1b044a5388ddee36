"""Decides whether an answer lies within the error that its problem allows, as some problems of OlympiadBench do. Values
only: of anything else equality decides alone (`pipeline.rewards.math.equality`)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction

from pipeline.rewards.math.answer_types import Assigned, Group, Listing, NamedValue, Relation, Shape, Value
from pipeline.rewards.math.evaluation import begin_verdict, is_less
from pipeline.rewards.math.expressions import TooLargeError, Tree, readable
from pipeline.rewards.math.parsing import shape_of
from pipeline.rewards.math.tokens import tokens_of

SLACK = Fraction(101, 100)
"""OlympiadBench's own judge allows a hundredth more than the stated error."""
MAX_VALUES = 20


def within(gold: str, answer: str, tolerances: Sequence[float]) -> bool:
    """Whether each value of `gold` has a value of `answer` of its own that differs by its tolerance at most, or by the
    only one.

    Raises TooLargeError."""
    begin_verdict()
    wanted, given = ([*_values(shape_of(tokens_of(text)))] for text in (gold, answer))
    if not wanted or len(wanted) != len(given) or None in wanted or None in given:
        return False
    if len(wanted) > MAX_VALUES:
        raise TooLargeError(f"more than {MAX_VALUES} values are not compared")
    if len(tolerances) not in (1, len(wanted)):
        return False
    for value, bound in zip(wanted, itertools.cycle(tolerances), strict=False):
        near = next((other for other in given if _is_near(value, other, bound)), None)
        if near is None:
            return False
        given.remove(near)
    return True


def _is_near(value: Tree | None, other: Tree | None, tolerance: float) -> bool:
    return is_less(("call", "abs", ("+", other, ("-", value))), ("number", Fraction(tolerance) * SLACK))


def _values(shape: Shape | None) -> Iterator[Tree | None]:
    """The values that a shape is made of; None for each part that is none."""
    match shape:
        case Listing(items=items) | Group(items=items):
            yield from itertools.chain.from_iterable(map(_values, items))
        case Assigned(values=values):
            yield from itertools.chain.from_iterable(map(_values, values.values()))
        case NamedValue(value=value):
            yield from _values(value)
        case Relation(sides=sides, signs=signs) if {*signs} <= {"=", "≈"}:
            yield from _values(shape_of(sides[-1]))
        case Value(quantity=quantity):
            yield readable(quantity.tokens)
        case _:
            yield None
