"""The kinds of answers, as types. `parsing` decides which one a text is, `equality` which are equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from pipeline.rewards.math.tokens import Token
from pipeline.rewards.math.units import Quantity

Tokens: TypeAlias = Sequence[Token]
_TURNED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


class Value(NamedTuple):
    """One value; `quantity` has its unit apart. `rounded`: what was added behind "approximately"."""

    tokens: Tokens
    quantity: Quantity
    rounded: Shape | None = None


class Words(NamedTuple):
    text: str


class Choice(NamedTuple):
    """One of several offered answers, and what was written beside its letter. A letter alone, not `is_marked` as in
    `(A)`, may be a name as well, and then its case counts."""

    letter: str
    rest: Shape | None = None
    is_marked: bool = True


class Group(NamedTuple):
    r"""Items in brackets: a tuple, an interval, or (in `\{`) a set."""

    opening: str
    closing: str
    items: tuple[Shape | None, ...]


class Listing(NamedTuple):
    """Items in no order, joined by commas, "and", "or" or a union."""

    items: tuple[Shape | None, ...]


class Matrix(NamedTuple):
    rows: tuple[tuple[Shape | None, ...], ...]
    bars: bool


class Relation(NamedTuple):
    sides: tuple[Tokens, ...]
    signs: tuple[str, ...]

    def turned(self) -> Relation:
        """The same, read from right to left."""
        signs = tuple(_TURNED.get(sign, sign) for sign in reversed(self.signs))
        return Relation(tuple(reversed(self.sides)), signs)


class NamedValue(NamedTuple):
    """A value with what it is the value of. `is_name`: a plain name, not `a + b` or `3 + 4`."""

    name: str
    is_name: bool
    value: Shape | None
    relation: Relation

    @property
    def is_region(self) -> bool:
        """Whether inequalities say what the values are."""
        return not {*self.relation.signs} <= {"=", "∈"}


class Assigned(NamedTuple):
    """Values of several names."""

    values: dict[str, Shape | None]


Shape: TypeAlias = Value | Words | Choice | Group | Listing | Matrix | Relation | NamedValue | Assigned
