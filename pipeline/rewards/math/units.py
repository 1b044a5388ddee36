r"""Reads what stands around a number: units, currencies, percent and degree signs.

`split` cuts them off as one canonical text, in which `cm^2`, `square centimeters` and `\text{ cm}^{2}` are equal. Words
that change what the number says ("and a half", "or", "less", "squared") are no unit.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.rewards.math.tokens import FUNCTIONS, Token, words

PERCENT, DEGREE = "percent", "degree"
MAX_WORDS = 8
_MULTIPLES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SIGNS = {r"\$": "dollar", "$": "dollar", "€": "euro", "£": "pound", "¥": "yen", "₹": "rupee", "%": PERCENT}
_SAME_UNIT = {
    name: unit
    for unit, names in {
        "m": "meter metre", "cm": "centimeter centimetre", "mm": "millimeter millimetre", "km": "kilometer kilometre kms",
        "g": "gram gm", "kg": "kilogram kilo kgs", "mg": "milligram", "s": "second sec secs", "min": "minute mins", "h": "hour hr hrs",
        "l": "L liter litre", "ml": "mL milliliter millilitre", "ft": "foot feet", "inch": "in inche", "mi": "mile", "yd": "yard yds",
        "pound": "lb lbs", "oz": "ounce", "dollar": "usd buck", "euro": "eur", "cent": "¢", PERCENT: "pct percentage",
        DEGREE: "deg", "c": "C celsius centigrade", "f": "F fahrenheit", "k": "K kelvin", "n": "N newton", "j": "J joule",
        "w": "W watt", "v": "V volt", "hz": "Hz hertz", "people": "person", "child": "children",
    }.items()
    for name in names.split()
}  # fmt: skip
_LETTERS = words("m g s h L l J N W V K")
"""Units of one letter, when a blank or \text sets them off from the number."""
_NEUTRAL = words("unit total all altogether whole the a an of each exactly")
_NO_UNIT = words(
    "or and not to than but if when unless either neither maybe perhaps possibly probably is are was were be "
    "plus minus times divided over squared cubed factorial mod modulo base half halves third thirds quarter "
    "quarters fourth fourths fifth fifths sixth sixths seventh sevenths eighth eighths ninth ninths tenth "
    "tenths hundredth hundredths thousandth thousandths th st nd rd remainder more less fewer greater above "
    "below under least most fewer wait wrong incorrect error false no none cannot approximately about root "
    "zero one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty sixty "
    "seventy eighty ninety dozen dozens score scores e i k M B x y z except without before after instead rather "
    "however would could might should",
)
_LEAD = words(
    "the final answer is a an total of exactly only about approximately roughly just therefore thus hence indeed "
    "simply then clearly"
)
_RATES = {"mph": "mi h^-1", "kph": "km h^-1", "kmph": "km h^-1"}
_SQUARE = {"square": 2, "sq": 2, "cubic": 3}


class Quantity(NamedTuple):
    r"""The tokens of a number, and the canonical text of its unit; `power_of_ten` is what "million" adds."""

    tokens: Sequence[Token]
    unit: str = ""
    power_of_ten: int = 0
    is_name: bool = False
    """Whether the unit is a single letter that may be a factor as well: `4 s`."""


def split(tokens: Sequence[Token]) -> Quantity | None:
    """`tokens` as a number and its unit; None when what stands around it is no unit."""
    currency = ""
    tokens = _without_lead(tokens)
    negative = (
        list(tokens[:1]) if tokens and tokens[0].text == "-" and len(tokens) > 1 and tokens[1].text in _SIGNS else []
    )
    tokens = tokens[len(negative) :]
    if tokens and tokens[0].text in ("US", "USD") and len(tokens) > 1:
        tokens = tokens[1:] if tokens[1].text in _SIGNS else [Token("mark", r"\$"), *tokens[1:]]
    if tokens and tokens[0].text in _SIGNS and tokens[0].text != "%":
        currency, tokens = _SIGNS[tokens[0].text], tokens[1:]
    start = _where_unit_begins(tokens)
    number, rest = [*negative, *tokens[:start]], list(tokens[start:])
    if not number:
        return None
    power = 0
    while rest and rest[0].text.lower() in _MULTIPLES:
        power += _MULTIPLES[rest.pop(0).text.lower()]
    unit = _canonical(rest)
    is_name = bool(rest) and rest[0].kind == "letter" and not rest[0].styled
    if is_name and (unit is None or not _is_amount(number)):
        return Quantity([*negative, *tokens])
    if unit is None:
        return None
    if currency and unit != currency:
        unit = f"{currency} {unit}".strip()
    return Quantity(number, unit, power, is_name)


def _is_amount(tokens: Sequence[Token]) -> bool:
    """Whether a number without letters, sums and an open factor stands there, so that a letter behind it may be a
    unit."""
    is_sum = any(token.text in ("+", "-") for token in tokens[1:])
    return (
        not is_sum and tokens[-1].text not in ("+", "-", "*", "/") and all(token.kind != "letter" for token in tokens)
    )


def fits(gold: str, answer: str) -> bool:
    """Whether the unit of an answer does not contradict gold's; percent apart."""
    if ("unit" in gold) != ("unit" in answer) and gold and answer:  # of no name: `units^2` are any squares
        return _dimension(gold) == _dimension(answer)
    return (
        not gold or not answer or gold == answer or (answer.startswith(gold + " ") and "^" not in answer[len(gold) :])
    )


def _dimension(unit: str) -> int:
    return sum(int(part.partition("^")[2] or 1) for part in unit.split())


def _without_lead(tokens: Sequence[Token]) -> Sequence[Token]:
    """Without "the answer is", "exactly", "approximately" … before the value."""
    return [*itertools.dropwhile(lambda token: token.kind == "word" and token.text.lower() in _LEAD, tokens)]


def _where_unit_begins(tokens: Sequence[Token]) -> int:
    level = 0
    applies_function = any(token.text in FUNCTIONS - {r"\sqrt"} for token in tokens)
    for index, token in enumerate(tokens):
        level += (token.text in ("{", "(", "[")) - (token.text in ("}", ")", "]"))
        after = tokens[index + 1] if index + 1 < len(tokens) else Token("mark", "")
        if index and level == 1 and token.text == "(" and after.kind == "word":
            return index
        if index == 0 or level:
            continue
        if token.kind == "word" or (token.kind == "mark" and token.text in _SIGNS):
            return index
        ends = after.text in ("", "/", "^") or after.kind == "word" or after.styled
        if token.kind == "letter" and token.text in _LETTERS and (token.spaced or token.styled) and ends:
            return index
        if token.text == r"\frac" and (after.text, tokens[min(index + 2, len(tokens) - 1)].styled) == ("{", True):
            return index
        if token.text == "^" and after.text == r"\circ" and not applies_function:
            return index
    return len(tokens)


def _canonical(tokens: Sequence[Token]) -> str | None:
    """One text for a unit; None for what is none."""
    names: list[str] = []
    powers: list[int] = []
    pending, sign = 1, 1
    tokens = _without_brackets(tokens)
    if sum(token.kind == "word" for token in tokens) > MAX_WORDS:
        return None
    for before, token in zip([Token("mark", ""), *tokens], tokens, strict=False):
        text = token.text if len(token.text) == 1 else token.text.lower()
        if text == "^" or (text == "-" and before.text == "^"):
            continue
        if token.kind == "number":
            if before.text not in ("^", "-") or not names or not text.isdigit() or len(text) > 2:
                return None
            powers[-1] *= int(text) * (-1 if before.text == "-" else 1)
        elif text in ("/", "per"):
            sign = -1
        elif text in ("squared", "cubed") and names:
            powers[-1] *= 2 if text == "squared" else 3
        elif text in _SQUARE:
            pending = _SQUARE[text]
        elif text == "-":
            continue
        elif (
            (token.kind == "command" and text != r"\circ")
            or text in _NO_UNIT
            or (token.kind == "mark" and text not in _SIGNS)
        ):
            return None
        else:
            names.append(DEGREE if text == r"\circ" else _SIGNS[text] if token.kind == "mark" else _singular(text))
            powers.append(sign * pending)
            pending = 1
    units = [
        f"{name}^{power}" if power != 1 else name
        for name, power in zip(names, powers, strict=True)
        if name not in _NEUTRAL or (name == "unit" and len(names) == 1)
    ]
    return " ".join(units)


def _without_brackets(tokens: Sequence[Token]) -> list[Token]:
    r"""Without what only groups; a fraction of units becomes one with a slash."""
    kept: list[Token] = []
    for before, token in zip([Token("mark", ""), *tokens], tokens, strict=False):
        if before.text == "in" and token.text in ("total", "all") and kept:
            kept.pop()  # no inches
        if token.text == "{" and before.text == "}":
            kept.append(Token("mark", "/"))
        if token.text not in ("{", "}", "(", ")", "*", ".", r"\frac"):
            kept.append(token)
    return kept


def _singular(word: str) -> str:
    if word in _RATES:
        return _RATES[word]
    if word in _SAME_UNIT or len(word) < 3:
        return _SAME_UNIT.get(word, word)
    if word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    return _SAME_UNIT.get(word, word)
