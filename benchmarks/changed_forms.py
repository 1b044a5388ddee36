r"""Gold answers with one change that makes them unequal, by text alone.

What is changed is a value for certain: digits that stand below a power of 1 or of a sign, within a command's name or an
index, and the like, are left alone."""

from __future__ import annotations

import random
import re
from fractions import Fraction

from benchmarks.gold_text import FORMULA, FRACTION, NUMBER, Rewriting, is_sum, parts

_NOT_A_VALUE = re.compile(
    r"\\(?:text|mathrm|mathbf|operatorname|begin|pm|mp|equiv|mod|bmod|pmod|infty|approx|frac\d|sqrt\d)"
)


def _digits(text: str) -> list[re.Match[str]]:
    """Digits whose change changes the value of a formula."""
    fixed = r"(?<![_\d])(?<!_\{)(?<!\d[.,])(?<!frac)(?<!sqrt)(?<!1\^)(?<!1\^\{)(?<!1\)\^)(?<!1\)\^\{)(?<![a-zA-Z])"
    return list(re.finditer(rf"{fixed}[1-9](?!\d*\s*(?:\^|!|\\circ))(?![^_]*_\{{)", text))


def digit(text: str, rng: random.Random) -> str | None:
    """Another digit at the head of a number."""
    places = _digits(text)
    if not _is_plain(text) or not places:
        return None
    place = rng.choice(places)
    return f"{text[: place.start()]}{int(place[0]) % 9 + 1}{text[place.end() :]}"


def _is_plain(text: str) -> bool:
    """Whether a change of one sign of `text` cannot be made good by the rest: no sets, signs for both, words."""
    return (
        bool(FORMULA.fullmatch(text))
        and not _NOT_A_VALUE.search(text)
        and not re.search(r"[&|'!=]|\b0|\\(?:sin|cos|tan)", text)
    )


def sign(text: str, rng: random.Random) -> str | None:
    if not is_sum(text) or not _is_plain(text):
        return None
    return (
        text[1:].strip()
        if text.startswith("-") and len(parts(text, "+-")) == 1
        else (f"-{text}" if len(parts(text, "+-")) == 1 else None)
    )


def plus_for_minus(text: str, rng: random.Random) -> str | None:
    terms = parts(text, "+-")
    if not is_sum(text) or not _is_plain(text) or len(terms) < 2:
        return None
    last = terms[-1]
    return "".join(terms[:-1]) + ("-" if last[0] == "+" else "+") + last[1:]


def one_more(text: str, rng: random.Random) -> str | None:
    return f"{text} + 1" if is_sum(text) and _is_plain(text) else None


def twice(text: str, rng: random.Random) -> str | None:
    return rf"2\left({text}\right)" if is_sum(text) and _is_plain(text) else None


def rounded(text: str, rng: random.Random) -> str | None:
    found = FRACTION.fullmatch(text)
    if not found:
        return None
    sign, top, bottom = found.group(1, 2, 3) if found[2] else found.group(4, 5, 6)
    value = Fraction(int(top), int(bottom) or 1)
    return f"{sign}{float(value):.3f}" if (value * 1000).denominator > 1 else None


def bracket(text: str, rng: random.Random) -> str | None:
    """An interval with another bracket."""
    found = re.fullmatch(r"(\(|\[)([^()\[\]]*,[^()\[\],]*)(\)|\])", text)
    if not found or (found[1], found[3]) == ("(", ")") or "infty" in found[2].split(",")[0]:
        return None
    return ("[" if found[1] == "(" else "(") + found[2] + found[3]


def swapped(text: str, rng: random.Random) -> str | None:
    """A pair in the other order."""
    found = re.fullmatch(rf"\(\s*({NUMBER})\s*,\s*({NUMBER})\s*\)", text)
    return f"({found[2]}, {found[1]})" if found and float(found[1]) != float(found[2]) else None


def item_less(text: str, rng: random.Random) -> str | None:
    items = [item.lstrip(",").strip() for item in parts(text, ",")]
    if (
        len(set(items)) < 2
        or not all(re.fullmatch(NUMBER, item) for item in items)
        or re.fullmatch(r"-?\d{1,3}(,\d{3})+", text)
    ):
        return None
    return ", ".join(items[1:])


def item_more(text: str, rng: random.Random) -> str | None:
    return f"{text}, {rng.randint(10**6, 10**7)}" if re.fullmatch(rf"{NUMBER}(, ?{NUMBER})*", text) else None


def hedged(text: str, rng: random.Random) -> str | None:
    return f"{text} or {rng.randint(10**6, 10**7)}" if re.fullmatch(NUMBER, text) else None


def other_letter(text: str, rng: random.Random) -> str | None:
    """Another choice."""
    found = re.fullmatch(r"(\\text\{)?\(?([A-E])\)?\}?", text)
    return rng.choice([letter for letter in "ABCDE" if letter != found[2]]) if found else None


def other_word(text: str, rng: random.Random) -> str | None:
    found = re.fullmatch(r"\\text\{\s*([A-Za-z]{4,})\s*\}|([A-Za-z]{4,})", text)
    return rf"\text{{{rng.choice(('Zacharias', 'ninefold', 'un' + (found[1] or found[2])))}}}" if found else None


def in_an_equation(text: str, rng: random.Random) -> str | None:
    """Another digit on one side."""
    sides = text.split("=")
    if len(sides) != 2 or not re.search("[a-zA-Z]", text) or not all(map(is_sum, map(str.strip, sides))):
        return None
    changed = digit(sides[1], rng)
    return f"{sides[0]}={changed}" if changed else None


def entry(text: str, rng: random.Random) -> str | None:
    """A matrix, a tuple or an interval with another number."""
    places = list(re.finditer(r"(?<=[&\\(\[, }])-?\d+(?=\s*(?:&|\\\\|\\end|,|\)|\]))", text))
    if not re.match(r"\\begin\{[pb]matrix\}|[(\[]", text) or not places or "|" in text:
        return None
    place = rng.choice(places)
    return f"{text[: place.start()]}{int(place[0]) + rng.randint(1, 7)}{text[place.end() :]}"


def percent(text: str, rng: random.Random) -> str | None:
    """A share, and as many hundredths of it."""
    found = re.fullmatch(r"(\d{1,3})\s*\\%", text)
    return f"0.{int(found[1]):02}\\%" if found and int(found[1]) % 100 else None


def other_unit(text: str, rng: random.Random) -> str | None:
    found = re.fullmatch(r"(.*\d)\s*\\(?:text|mathrm|mbox)\{\s*[a-z]+\s*\}", text)
    return rf"{found[1]} \text{{ furlongs}}" if found and "unit" not in text and "approx" not in text else None


def other_name(text: str, rng: random.Random) -> str | None:
    """A formula of one letter in another letter."""
    letters = {*re.findall(r"(?<![a-zA-Z\\])[a-zA-Z](?![a-zA-Z])", text)} - {"e", "i", "d"}
    if not is_sum(text) or not _is_plain(text) or len(letters) != 1 or "_" in text:
        return None
    (letter,) = letters
    other = "w" if letter != "w" else "u"
    return re.sub(rf"(?<![a-zA-Z\\]){letter}(?![a-zA-Z])", other, text)


UNEQUAL: dict[str, Rewriting] = {
    "another digit": digit,
    "another sign": sign,
    "plus for minus": plus_for_minus,
    "plus 1": one_more,
    "twice": twice,
    "rounded": rounded,
    "another bracket": bracket,
    "a pair turned": swapped,
    "an item less": item_less,
    "an item more": item_more,
    "two values": hedged,
    "another letter": other_letter,
    "another word": other_word,
    "in an equation": in_an_equation,
    "an entry": entry,
    "percent of percent": percent,
    "another unit": other_unit,
    "another name": other_name,
}


def any_digit(text: str, rng: random.Random) -> str | None:
    """Another digit somewhere, within a matrix or a sentence as well."""
    places = list(re.finditer(r"(?<![\d_{])[2-9](?!\d)", text))
    if not places:
        return None
    place = rng.choice(places)
    return f"{text[: place.start()]}{int(place[0]) % 9 + 1}{text[place.end() :]}"


def any_sign(text: str, rng: random.Random) -> str | None:
    found = re.search(r"(?<=[\w})]) ?([+-]) ?(?=[\w\\({])", text)
    return f"{text[: found.start()]}{'-' if found[1] == '+' else '+'}{text[found.end() :]}" if found else None


ANYWHERE: dict[str, Rewriting] = {"another digit": any_digit, "another sign": any_sign}
"""Changes of what can be a text, so that nothing tells whether its value changes, as a rule it does."""
