"""Decides whether an answer only repeats what its problem asks to compute: `12 + 5` to "What is 12 + 5?", whose gold
answer is 17, or the equation that is to be solved. It is equal to the gold answer, and no answer.

An echo is made of the numbers and names of one expression of the problem, in any order and brackets, and still has
something to compute that the gold answer has not. What is written as the gold answer is none, nor another order of what
the gold answer is made of: "Simplify x + 1" may be answered by 1 + x. A bare number, or a fraction in its lowest terms,
is one only where the problem has no other ("Write 3/8 as a decimal"). By signs alone, whatever the language."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from pipeline.rewards.math.answer_types import Matrix, NamedValue, Relation, Shape, Tokens, Value
from pipeline.rewards.math.expressions import TooLargeError, Tree, nodes, readable
from pipeline.rewards.math.names import OPENING, STEPS, split
from pipeline.rewards.math.parsing import SIGNS, shape_of
from pipeline.rewards.math.tokens import Token, tokens_of, written

MAX_CHARS = 20_000
_BETWEEN = frozenset(',;:?.$"\u3002\u3001\u060c\u061f\u0964\u201c\u201d\u201e\u00ab\u00bb\u300c\u300d')
_GAPS = re.compile(r"\\(?:left|right|[,;:! ])|[\s${}*]|(?<=\\)[dt](?=frac)")
_NUMBER = re.compile(r"[\s$]*-?[\d,]*\.?\d+[\s$.]*")
_NEUTRAL = frozenset((0, 1))


def is_echo(problem: str, gold: str, answer: str) -> bool:
    """Whether `answer`, which is equal to `gold`, repeats an expression of `problem` unevaluated."""
    if not problem or len(problem) + len(gold) + len(answer) > MAX_CHARS or not _may_repeat(problem, gold, answer):
        return False
    try:
        mine, theirs = shape_of(tokens_of(answer)), shape_of(tokens_of(gold))
        if isinstance(mine, Matrix) and not answer.strip(" $").startswith(r"\begin"):  # times a number
            copied = re.escape(written(tokens_of(answer)))
            return re.search(rf"(?<![\d.]){copied}", written(tokens_of(problem))) is not None
        if isinstance(theirs, NamedValue | Relation) and _made_of(_relation(mine)) == _made_of(_relation(theirs)):
            return False
        one, two = _tree(mine), _relation(theirs) if isinstance(mine, Relation) else _tree(theirs)
        if one is None or two is None or (made := _made_of(one)) == (of_gold := _made_of(two)):
            return False
        given = [tree for part in _parts(problem) for tree in _trees(part)]
        if not _is_computed(one):
            numbers = [tree for tree in given if any(kind == "number" for kind, *_ in nodes(tree))]
            return [one] == numbers or (one in numbers and one[0] == "number" and _is_computed(two))
        (leaves, signs), others = made, map(_made_of, given)
        return any(other == leaves and (leaves != of_gold[0] or of_other == signs) for other, of_other in others)
    except TooLargeError:
        return False


def _may_repeat(problem: str, gold: str, answer: str) -> bool:
    """A quick no: for what is written as the gold answer, for whole numbers and decimals of both, and where the problem
    has not the digits."""
    if _GAPS.sub("", gold) == _GAPS.sub("", answer) or (_NUMBER.fullmatch(gold) and _NUMBER.fullmatch(answer)):
        return False
    return all(answer.count(digit) <= problem.count(digit) for digit in "23456789")


def _tree(shape: Shape | None) -> Tree | None:
    match shape:
        case NamedValue(value=value):
            return _tree(value)
        case Value(quantity=quantity):
            return readable(quantity.tokens)
    return _relation(shape)


def _relation(shape: Shape | None) -> Tree | None:
    """The relation that a shape is, or was read from."""
    relation = shape.relation if isinstance(shape, NamedValue) else shape
    return _joined([*map(readable, relation.sides)]) if isinstance(relation, Relation) else None


def _joined(sides: Sequence[Tree | None]) -> Tree | None:
    return None if None in sides else ("=", *sides)


def _trees(part: Tokens) -> Iterator[Tree]:
    """The expressions on the sides of a relation, and the relation itself."""
    sides = [readable(side) for side in split(part, SIGNS)[0]]
    yield from filter(None, [*sides, _joined(sides) if len(sides) > 1 else None])


def _is_computed(tree: Tree) -> bool:
    """Whether something is left to compute: more than a number, a name, or a fraction in its lowest terms."""
    match tree:
        case ("number" | "name" | "constant", _):
            return False
        case "-", operand:
            return _is_computed(operand)
        case "/", ("number", top), ("number", bottom) if bottom > 1:
            return bool((top / bottom).denominator != bottom)
    return True


def _made_of(tree: Tree | None) -> tuple[Counter[object], Counter[str]]:
    """The numbers and names of `tree`, and what joins them; without signs, and without 0 and 1."""
    leaves, signs = Counter[object](), Counter[str]()
    for kind, *parts in nodes(tree) if tree else ():
        if kind in ("number", "name", "constant"):
            leaves[parts[0]] += parts[0] not in _NEUTRAL
        elif kind != "-":
            signs[f"{kind} {parts[0]}" if kind == "call" else kind] += 1
    return +leaves, signs


def _parts(problem: str) -> Iterator[list[Token]]:
    """What stands between words, and between punctuation outside of brackets."""
    part: list[Token] = []
    level = 0
    for token in [*tokens_of(problem), Token("word", "")]:
        level += STEPS.get(token.text, 0)
        if token.kind == "word" or (token.text in _BETWEEN and level == 0):
            if part and part[-1].text in OPENING:  # a bracket that words stand in: `12 + 5 (in metres)`
                part.pop()
            if part:
                yield part
            part, level = [], 0
        else:
            part.append(token)
