r"""Reads what stands around a number: units, currencies, percent and degree signs.

`split` cuts them off as one canonical text, in which `cm^2`, `square centimeters` and `\text{ cm}^{2}` are equal. Words
that change what the number says ("and a half", "or", "less", "squared") are no unit.
"""

from __future__ import annotations

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
_RATES = {"mph": "mi h^-1", "kph": "km h^-1", "kmph": "km h^-1"}
_BESIDE_UNITS = frozenset(("{", "}", "(", ")", "*", ".", "^", r"\frac"))
_SQUARE = {"square": 2, "sq": 2, "cubic": 3}


class Quantity(NamedTuple):
    """The tokens of a number, times what "million" adds, and the canonical text of its unit."""

    tokens: Sequence[Token]
    unit: str = ""
    is_name: bool = False
    """Whether the unit is a single letter that may be a factor as well: `4 s`."""


def split(tokens: Sequence[Token]) -> Quantity | None:
    """`tokens` as a number and its unit; None when what stands around it is no unit."""
    texts = [token.text for token in tokens[:3]]
    at = texts[:1] == ["-"]  # -$5
    if texts[at : at + 1] in (["US"], ["USD"]):
        tokens = [
            *tokens[:at],
            *(() if texts[at + 1 : at + 2] == [r"\$"] else [Token("mark", r"\$")]),
            *tokens[at + 1 :],
        ]
    currency = _SIGNS.get(tokens[at].text, "") if len(tokens) > at and tokens[at].text != "%" else ""
    if currency:
        tokens = [*tokens[:at], *tokens[at + 1 :]]
    start = _where_unit_begins(tokens)
    number, rest = [*tokens[:start]], [*tokens[start:]]
    power = 0
    while rest and rest[0].text.lower() in _MULTIPLES:
        power += _MULTIPLES[rest.pop(0).text.lower()]
    unit = _canonical(rest)
    is_name = bool(rest) and rest[0].kind == "letter" and not rest[0].styled
    if is_name and (unit is None or not _is_amount(number)):
        return Quantity(tokens)
    if unit is None or not number:
        return None
    if currency and unit != currency:
        unit = f"{currency} {unit}".strip()
    if power:
        number = [Token("mark", "("), *number, Token("mark", ")"), Token("mark", "*"), Token("number", str(10**power))]
    return Quantity(number, unit, is_name)


def _is_amount(tokens: Sequence[Token]) -> bool:
    """Whether a number without letters, sums and an open factor stands there, so that a letter behind it may be a
    unit."""
    is_sum = any(token.text in ("+", "-") for token in tokens[1:])
    return not is_sum and tokens[-1].text not in "+-*/" and all(token.kind != "letter" for token in tokens)


def fits(gold: str, answer: str) -> bool:
    """Whether the unit of an answer does not contradict gold's; percent apart."""
    if ("unit" in gold) != ("unit" in answer) and gold and answer:  # of no name: `units^2` are any squares
        one, two = (sum(int(part.partition("^")[2] or 1) for part in unit.split()) for unit in (gold, answer))
        return one == two
    goes_on = answer.startswith(gold + " ") and "^" not in answer[len(gold) :]
    return not gold or not answer or gold == answer or goes_on


def _where_unit_begins(tokens: Sequence[Token]) -> int:
    level = 0
    applies_function = any(token.text in FUNCTIONS - {r"\sqrt"} for token in tokens)
    for index, (token, after) in enumerate(zip(tokens, [*tokens[1:], Token("mark", "")], strict=False)):
        level += (token.text in ("{", "(", "[")) - (token.text in ("}", ")", "]"))
        if index and level == 1 and token.text == "(" and after.kind == "word":
            return index
        if index == 0 or level:
            continue
        is_fraction = token.text == r"\frac" and any(each.styled for each in tokens[index + 2 : index + 3])
        is_degree = token.text == "^" and after.text == r"\circ" and not applies_function
        ends = after.text in ("", "/", "^") or after.kind == "word" or after.styled
        is_letter = token.text in _LETTERS and (token.spaced or token.styled) and ends
        is_sign = token.kind == "mark" and token.text in _SIGNS
        if token.kind == "word" or is_sign or is_letter or is_fraction or is_degree:
            return index
    return len(tokens)


def _canonical(tokens: Sequence[Token]) -> str | None:
    """One text for a unit; None for what is none."""
    powers: dict[str, int] = {}
    name, pending, sign, before = "", 1, 1, ""
    if sum(token.kind == "word" for token in tokens) > MAX_WORDS:
        return None
    for number, token in enumerate(tokens):
        text = token.text if len(token.text) == 1 else token.text.lower()
        if token.kind == "number" and name and before in ("^", "-") and text.isdigit() and len(text) <= 2:
            powers[name] *= int(text) * (-1 if before == "-" else 1)
        elif text in ("/", "per") or (text == "{" and tokens[number - 1].text == "}"):
            sign = -1
        elif text in ("squared", "cubed") and name:
            powers[name] *= 2 if text == "squared" else 3
        elif text in _SQUARE:
            pending = _SQUARE[text]
        elif text == "in" and tokens[number + 1 : number + 2] and tokens[number + 1].text in ("total", "all"):
            pass  # no inches
        elif text not in _BESIDE_UNITS and not (text == "-" and powers):
            is_sign = text in _SIGNS or text == r"\circ"
            if text in _NO_UNIT or token.kind == "number" or (token.kind in ("command", "mark") and not is_sign):
                return None
            name = DEGREE if text == r"\circ" else _SIGNS.get(text) or _singular(text)
            powers[name], pending = powers.get(name, 0) + sign * pending, 1
        before = before if text in ("{", "}", "(", ")", "*") else text
    named = {name: power for name, power in powers.items() if name not in _NEUTRAL or {name} == {*powers} == {"unit"}}
    return " ".join(f"{name}^{power}" if power != 1 else name for name, power in named.items())


def _singular(word: str) -> str:
    if word not in _SAME_UNIT and len(word) > 2 and word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    return _RATES.get(word) or _SAME_UNIT.get(word, word)
