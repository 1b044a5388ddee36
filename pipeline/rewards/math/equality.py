r"""Decides whether a model's answer is the gold answer: format does not matter, content does.

An answer is read into a shape, and shapes are compared part by part. What is one answer in two formats:

| gold | as good |
|---|---|
| a value | with its name before it (`x = 5`), with a unit where gold has none, or without where gold has one |
| a list or `\{…\}` | in any order, joined by commas, "and", "or"; each with its name; `\pm` for both signs |
| a tuple | with its names (`x = 3, y = 4`); its order and brackets count |
| an interval | as an inequality; `\cup` as "or" |
| an equation or inequality | multiplied by a constant, or turned around |
| a matrix | in any brackets but the bars of a determinant |
| a choice | `B`, `(B)`, `(b)`, `\textbf{(B)}\ 12`; where gold is the value, the value beside the letter |
| words | in any case and font; "no solution" is the empty set |

Percent: 25 is 25%, and so is 0.25; 0.25 is not 0.25%. Anything that hedges, rounds, or says more or less is another
answer. Linear-time but for the few expressions that need a value, which are bounded
(`pipeline.rewards.math.expressions`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from pipeline.rewards.math import units
from pipeline.rewards.math.answer_types import (
    Assigned,
    Choice,
    Group,
    Listing,
    Matrix,
    NamedValue,
    Relation,
    Shape,
    Value,
    Words,
)
from pipeline.rewards.math.evaluation import begin_verdict, proportional, rational, same_value
from pipeline.rewards.math.expressions import MAX_DEPTH, SUMS, TooLargeError, Tree, readable
from pipeline.rewards.math.names import depths, is_constant
from pipeline.rewards.math.parsing import CHOICES, bare, shape_of
from pipeline.rewards.math.tokens import NUMBERS, Token, tokens_of, written
from pipeline.rewards.math.units import Quantity

MAX_CHARS = 20_000
MAX_ITEMS = 60
MAX_QUICK_CHARS = 200
_ZERO_LED = re.compile(r",0\d")
_DECIMAL_COMMA = re.compile(r"(?<![\d.,(\[])(?<!\\\{)(0|\d{4,}),(\d+)(?![\d.,]|, ?\d)")
"""One that parts neither thousands nor, most likely, two numbers."""
_BOLD = re.compile(r"(?:(?<=[\s(=$:])|^)\*\*(?=\S)|(?<=\S)\*\*(?=$|[\s.,;:)$])")
_FRACTION = re.compile(r"([+-]?)\\[dt]?frac\{(\d+)\}\{(\d+)\}")
_NUMBER = re.compile(r"([+-]?)((?:[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.\d+)?)")


def same_answer(gold: str, answer: str) -> bool:
    """Whether `answer` says what `gold` says. Raises TooLargeError for what is too large to judge."""
    gold, answer = _undecorated(gold), _undecorated(answer)
    if gold == answer:
        return True
    begin_verdict()
    numbers = [_plain_number(text) for text in (gold, answer)]
    if None not in numbers:
        return numbers[0] == numbers[1]
    if max(len(gold), len(answer)) > MAX_CHARS:
        raise TooLargeError(f"an answer of more than {MAX_CHARS} characters is not judged")
    # A comma may group digits or separate numbers: any reading that both texts allow, but not two unusual ones.
    tried = []
    for commas in ((True, True), (False, True), (True, False)):
        if any(not grouped and _ZERO_LED.search(text) for grouped, text in zip(commas, (gold, answer), strict=True)):
            continue  # ",000" is no number of a list
        reading = tokens_of(gold, commas[0]), tokens_of(answer, commas[1])
        if reading not in tried and _same_reading(*reading):
            return True
        tried.append(reading)
        if "," not in gold and "," not in answer:
            break
    is_decimal = "." in gold and "," not in gold and _DECIMAL_COMMA.search(answer)
    return bool(is_decimal) and same_answer(gold, _DECIMAL_COMMA.sub(r"\1.\2", answer))


def same_quickly(gold: str, answer: str) -> bool:
    """`same_answer` where that takes milliseconds at most; False for what is long, too large, or a sum or
    integral."""
    if max(len(gold), len(answer)) > MAX_QUICK_CHARS:
        return False
    if any(token.text in SUMS for text in (gold, answer) for token in tokens_of(text)):
        return _undecorated(gold) == _undecorated(answer)
    try:
        return same_answer(gold, answer)
    except TooLargeError:
        return False


def fraction_of(text: str) -> Fraction | None:
    """The exact value of a number written in digits, or of a fraction of such numbers; None for anything else.
    Cheap."""
    if len(text) > MAX_QUICK_CHARS:
        return None
    if found := _FRACTION.fullmatch(text):
        text = f"{found[1]}{found[2]}/{found[3]}"
    if re.fullmatch(r"[+-]?\d+/0*[1-9]\d*", text):
        return Fraction(text)
    number = _plain_number(text)
    return Fraction(number) if number is not None else None


def _undecorated(text: str) -> str:
    """Without Markdown around it and the full stop behind it; dollar signs stay, for they may be a currency."""
    text = _BOLD.sub("", text)
    return text.strip().strip('*`"_ \t\n').rstrip(".,;: \t\n").strip('*`"_ \t\n')


def _plain_number(text: str) -> Decimal | None:
    found = _NUMBER.fullmatch(text)
    return Decimal(found[1] + found[2].replace(",", "")) if found else None


def _same_reading(gold: list[Token], answer: list[Token]) -> bool:
    gold, answer = bare(gold), bare(answer)
    for tokens in (gold, answer):
        if not tokens:
            return False
        if max(depths(tokens)) > MAX_DEPTH:
            raise TooLargeError(f"an answer nested deeper than {MAX_DEPTH} levels")
    if written(gold) == written(answer) or [token.text for token in gold] == [token.text for token in answer]:
        return True
    return same_shape(shape_of(gold), shape_of(answer))


def same_shape(gold: Shape | None, answer: Shape | None) -> bool:
    """Whether two shapes say the same. None is what could not be read: only its text can be compared."""
    match gold, answer:
        case Value(), Value():
            return _same_quantity(gold, answer)
        case (None, _) | (_, None):
            return False
        case Choice(letter, rest), Choice(other_letter, other_rest):
            return letter == other_letter and (rest is None or other_rest is None or same_shape(rest, other_rest))
        case Choice(letter, rest, is_marked), Value(tokens):
            return (is_marked and written(tokens).upper() == letter) or same_shape(rest, answer)
        case Choice(rest=rest), _:
            return same_shape(rest, answer)
        case _, Choice(rest=rest):
            return same_shape(gold, rest)
        case NamedValue(is_name=True, value=Value(tokens)), Relation() if is_constant(tokens):
            return False  # an equation that is still to be solved
        case NamedValue(), NamedValue():
            return _same_named(gold, answer)
        case (
            (Relation() as one, Relation() as two)
            | (NamedValue(relation=one), Relation() as two)
            | (Relation() as one, NamedValue(relation=two))
        ):
            return _same_relation(one, two)
        case NamedValue(is_name=is_name, value=value), _:
            return is_name and same_shape(value, answer)
        case _, NamedValue(value=value):
            return same_shape(gold, value)
        case Assigned(values), Assigned(others):
            names = sorted(values)
            return names == sorted(others) and all(same_shape(values[name], others[name]) for name in names)
        # `x = 3, y = 4` beside the tuple of its values in the order of the alphabet.
        case (Assigned(values), Group("(", ")", items)) | (Group("(", ")", items), Assigned(values)):
            return _same_in_order(items, tuple(values[name] for name in sorted(values)))
        case Assigned(values), Listing(items):
            return _same_in_order(tuple(values.values()), items)
        case (Assigned(), _) | (_, Assigned()):
            return False
        case Group("\\{", closing, items), Group("\\{", other_closing, other_items):
            has_sets, other_has = (any(isinstance(item, Group) for item in each) for each in (items, other_items))
            return closing == other_closing and has_sets == other_has and _same_members(items, other_items)
        case Group("\\{", "cases"), _:
            return False
        case _, Listing(items) if not isinstance(gold, Listing | Group):
            spellings = {written(item.tokens) for item in items if isinstance(item, Value)}
            return len(spellings) == len(items) and all(same_shape(gold, item) for item in items)
        case (Group("\\{", _, (item,)), Value() | Words()) | (Value() | Words(), Group("\\{", _, (item,))) if not (
            isinstance(item, Value) and is_constant(item.quantity.tokens)
        ):
            return False  # the fractional part of x, or the set of what is a set
        case Listing(items), Value(tokens) if CHOICES.issuperset(token.text for token in tokens):
            names = sorted(written(item.tokens) for item in items if isinstance(item, Value))
            return len(names) == len(items) and names == [token.text for token in tokens]  # A, C as AC
        case (Listing() | Group("\\{"), _) | (_, Listing() | Group("\\{")):
            return _same_members(_members(gold), _members(answer))
        case Group(opening, closing, items), Group(other_opening, other_closing, other_items):
            return (opening, closing) == (other_opening, other_closing) and _same_in_order(items, other_items)
        case (Matrix(rows, False), Group("(", ")", items)) | (Group("(", ")", items), Matrix(rows, False)):
            return all(len(row) == 1 for row in rows) and _same_in_order([row[0] for row in rows], items)
        case Matrix(rows, bars), Matrix(other_rows, other_bars):
            return bars == other_bars and len(rows) == len(other_rows) and all(map(_same_in_order, rows, other_rows))
        case (Words(text), Value(tokens)) | (Value(tokens), Words(text)):
            return _is_spelled(text, tokens)
        case Words(text), Words(other_text):
            return text == other_text
    return False


def _same_named(gold: NamedValue, answer: NamedValue) -> bool:
    is_computed = not gold.is_name and not answer.is_name
    if gold.name == answer.name or (is_computed and same_value(gold.relation.sides[0], answer.relation.sides[0])):
        return same_shape(gold.value, answer.value)
    if isinstance(gold.value, Listing) or isinstance(answer.value, Listing):
        name, other = (each.name.partition("_")[0] for each in (gold, answer))  # `x_1, x_2` are values of x
        return name == other and name in (gold.name, answer.name) and same_shape(gold.value, answer.value)
    return _same_relation(gold.relation, answer.relation)


def _members(shape: Shape | None) -> tuple[Shape | None, ...]:
    match shape:
        case Listing(items) | Group("\\{", _, items):
            return items
    return (shape,)


def _is_spelled(words: str, tokens: Sequence[Token]) -> bool:
    r"""Whether letters side by side are the word (`ACF` and \text{ACF}), or a number is (`8` and \text{eight})."""
    letters = [token.text for token in tokens]
    if words in NUMBERS:
        return letters == [str(NUMBERS.index(words))]
    return all(token.kind == "letter" for token in tokens) and "".join(letters).lower() == words.replace(" ", "")


def _same_in_order(gold: Sequence[Shape | None], answer: Sequence[Shape | None]) -> bool:
    return len(gold) == len(answer) and all(map(same_shape, gold, answer))


def _same_members(gold: Sequence[Shape | None], answer: Sequence[Shape | None]) -> bool:
    """Whether each has its own equal on the other side."""
    if len(gold) != len(answer):
        return False
    if len(gold) > MAX_ITEMS:
        raise TooLargeError(f"a list of more than {MAX_ITEMS} items is not compared in any order")
    left = list(answer)
    for item in gold:
        match = next((number for number, other in enumerate(left) if same_shape(item, other)), None)
        if match is None:
            return False
        del left[match]
    return True


def _same_relation(gold: Relation, answer: Relation) -> bool:
    """Equal sides in the same or in the turned order, or one a multiple of the other."""
    for turned in (answer, answer.turned()):
        if gold.signs == turned.signs and all(map(same_value, gold.sides, turned.sides)):
            return True
    for one, two in itertools.product((gold, gold.turned()), (answer, answer.turned())):
        if len(one.signs) == len(two.signs) == 1 and one.signs == two.signs and one.signs[0] in ("=", "!=", "<", "<="):
            first, second = _difference(one), _difference(two)
            if first is None or second is None:
                return False
            if proportional(first, second, positive=one.signs[0] in ("<", "<=")):
                return True
    return False


def _difference(relation: Relation) -> Tree | None:
    left, right = map(readable, relation.sides)
    return ("+", left, ("-", right)) if left and right else None


def _same_quantity(gold: Value, answer: Value) -> bool:
    if isinstance(answer.rounded, Value) and any("." in token.text for token in gold.tokens if token.kind == "number"):
        # "100/3, approximately 33.3" where gold is 33.3: the answer says both.
        return _same_quantity(gold, answer.rounded) or _same_quantity(gold, answer._replace(rounded=None))
    one, two = gold.quantity, answer.quantity
    if _are_points(one.tokens) and _are_points(two.tokens):
        return written(gold.tokens) == written(answer.tokens)
    if units.PERCENT in (one.unit, two.unit):
        return _same_percent(one, two)
    if units.fits(one.unit, two.unit) and same_value(one.tokens, two.tokens):
        return True
    return (one.is_name or two.is_name) and same_value(gold.tokens, answer.tokens)


def _are_points(tokens: Sequence[Token]) -> bool:
    """Whether three capital letters or more stand side by side: an angle, an order of people, and no product."""
    return len(tokens) > 2 and all(token.kind == "letter" and token.text.isupper() for token in tokens)


def _same_percent(gold: Quantity, answer: Quantity) -> bool:
    """25% is 25%; and 25 where gold is no share (above 1), else a hundredth of it."""
    if gold.unit == answer.unit:
        return same_value(gold.tokens, answer.tokens)
    if {gold.unit, answer.unit} - {units.PERCENT, ""}:
        return False
    percent, plain = (gold, answer) if gold.unit else (answer, gold)
    trees = readable(percent.tokens), readable(plain.tokens)
    one, two = (rational(tree) if tree else None for tree in trees)
    if one is None or two is None:
        return False
    return one == 100 * two if abs(two) <= 1 or (gold.unit and abs(two) < abs(one)) else one == two
