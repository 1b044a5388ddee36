"""Gold answers in other forms that are equal, by text alone."""

from __future__ import annotations

import random
import re
from fractions import Fraction

from benchmarks.gold_text import FRACTION, NUMBER, Rewriting, is_sum, parts

_INTEGER = re.compile(r"-?\d{1,9}")
_DECIMAL = re.compile(r"-?\d{1,6}\.\d{1,6}")
_SIGNS = {"pi": "π", "leq?": "≤", "geq?": "≥", "infty": "∞", "cup": "∪", "cdot": r"\\times"}


def larger_fraction(text: str, rng: random.Random) -> str | None:
    if not (found := re.fullmatch(r"(-?)\\[dt]?frac\{(\d{1,6})\}\{(\d{1,6})\}", text)):
        return None
    by = rng.randint(2, 9)
    return rf"{found[1]}\dfrac{{{by * int(found[2])}}}{{{by * int(found[3])}}}"


def slashed(text: str, rng: random.Random) -> str | None:
    found = re.fullmatch(r"(-?)\\[dt]?frac\{(\d{1,6})\}\{(\d{1,6})\}", text)
    return f"{found[1]}{found[2]}/{found[3]}" if found else None


def as_fraction(text: str, rng: random.Random) -> str | None:
    if _DECIMAL.fullmatch(text):
        value = Fraction(text)
        return rf"{'-' * (value < 0)}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"
    if _INTEGER.fullmatch(text):
        by = rng.randint(2, 9)
        return rf"\frac{{{by * int(text)}}}{{{by}}}"
    return None


def as_decimal(text: str, rng: random.Random) -> str | None:
    if _INTEGER.fullmatch(text):
        return text + "." + "0" * rng.randint(1, 3)
    if not (found := FRACTION.fullmatch(text)):
        return None
    sign, top, bottom = found.group(1, 2, 3) if found[2] else found.group(4, 5, 6)
    value = Fraction(int(top), int(bottom) or 1)
    digits = next((n for n in range(1, 8) if (value * 10**n).denominator == 1), None)
    return f"{sign}{float(value):.{digits}f}" if digits and int(bottom) else None


def grouped(text: str, rng: random.Random) -> str | None:
    if not re.fullmatch(r"-?\d{4,12}", text):
        return None
    return f"{int(text):,}".replace(",", rng.choice((",", "{,}", r"\,", r"\!,\!")))


def terms_reversed(text: str, rng: random.Random) -> str | None:
    terms = parts(text, "+-")
    if (
        not is_sum(text)
        or len(terms) < 2
        or "|" in text
        or re.search(r"\de[+-]", text)
        or any(not term.strip("+- ") or term.rstrip()[-1] in "^_*/(" for term in terms)
    ):
        return None
    signed = [term if term.lstrip()[0] in "+-" else "+" + term for term in reversed(terms)]
    return "".join(signed).removeprefix("+")


def scaled(text: str, rng: random.Random) -> str | None:
    by = rng.randint(2, 9)
    return rf"\frac{{{by}\left({text}\right)}}{{{by}}}" if is_sum(text) and len(parts(text, "+-")) > 1 else None


def plus_nothing(text: str, rng: random.Random) -> str | None:
    return rf"{text} + 0" if is_sum(text) and not re.search(r"\\circ|\\text|!$", text) else None


def items_reversed(text: str, rng: random.Random) -> str | None:
    inner = re.fullmatch(r"\\\{(.*)\\\}", text, re.DOTALL)
    body = inner[1] if inner else text
    items = [item.lstrip(",").strip() for item in parts(body, ",")]
    if len(items) < 2 or not all(
        re.fullmatch(rf"{NUMBER}|\\frac\{{\d+\}}\{{\d+\}}|-?\d*\\sqrt\{{\d+\}}", i) for i in items
    ):
        return None
    if re.fullmatch(r"-?\d{1,3}(,\d{3})+", body):
        return None
    turned = ", ".join(reversed(items))
    return rf"\{{{turned}\}}" if inner else turned


def joined_by_and(text: str, rng: random.Random) -> str | None:
    items = [item.lstrip(",").strip() for item in parts(text, ",")]
    is_plain = len(items) > 1 and all(re.fullmatch(NUMBER, item) for item in items)
    if not is_plain or re.fullmatch(r"-?\d{1,3}(,\d{3})+", text):
        return None
    return ", ".join(items[:-1]) + r" \text{ and } " + items[-1]


def named(text: str, rng: random.Random) -> str | None:
    return f"{rng.choice('xyn')} = {text}" if re.fullmatch(rf"{NUMBER}|-?\\frac\{{\d+\}}\{{\d+\}}", text) else None


def unnamed(text: str, rng: random.Random) -> str | None:
    found = re.fullmatch(rf"[a-zA-Z]\s*=\s*({NUMBER}|-?\\frac\{{\d+\}}\{{\d+\}})", text)
    return found[1] if found else None


def spelled(text: str, rng: random.Random) -> str | None:
    r"""Another spelling of the same signs, as \dfrac for \frac."""
    changes = [
        *((rf"\\{name}(?![a-zA-Z])", other) for name, other in _SIGNS.items()),
        (r"\\frac(?=\{)", r"\\dfrac"), (r"\\dfrac(?=\{)", r"\\frac"), (r"\\sqrt(?=\{\d+\})", "√"), (r"\^\\circ", "°"),
        (r"\\text(?=\{)", r"\\mathrm"), (r"-", "−"), (r"\\left(?![a-z])|\\right(?![a-z])", ""),
        (r"(?<=[\d})]) (?=[+-])", r"\\,"), (r"\((?=[^()]*\)$)", r"\\left( "),
    ]  # fmt: skip
    rng.shuffle(changes)
    for pattern, other in changes:
        changed = re.sub(pattern, other, text)
        if changed != text and not (other == r"\\mathrm" and re.search(r"\\text\{[^}]* ", text)):
            return changed.replace(")", r" \right)") if other == r"\\left( " else changed
    return None


def spaced(text: str, rng: random.Random) -> str | None:
    changed = re.sub(r"\s*([=+<>,])\s*", r" \1 ", text)
    has_words = re.search(r"\\(?:text|begin|mathrm|mbox)|[a-zA-Z]{2}(?<!\\[a-zA-Z]{2})[a-zA-Z]* [a-zA-Z]{2}", text)
    is_grouped = re.search(r"\d(?:,|\{,\})\s*(?:\\!)?\s*\d{3}|\\[,;!]", text)
    return changed if changed != text and not has_words and not is_grouped else None


def root_as_power(text: str, rng: random.Random) -> str | None:
    changed = re.sub(r"\\sqrt\{([\w+ -]+)\}(?!\s*\^)", r"(\1)^{1/2}", text)
    return changed if changed != text and is_sum(text) else None


def fractions_with_slashes(text: str, rng: random.Random) -> str | None:
    changed = re.sub(r"(?<![\d\s\])}a-z])\\[dt]?frac\{([^{}]+)\}\{([^{}]+)\}(?!\s*[\d^(])", r"((\1)/(\2))", text)
    return changed if changed != text and is_sum(text) and "^" not in text else None


def other_brackets(text: str, rng: random.Random) -> str | None:
    changed = text.replace("{pmatrix}", "{bmatrix}")
    return changed if changed != text else None


def sides_swapped(text: str, rng: random.Random) -> str | None:
    sides = text.split("=")
    is_equation = len(sides) == 2 and all(map(is_sum, map(str.strip, sides))) and "|" not in text
    return f"{sides[1].strip()} = {sides[0].strip()}" if is_equation else None


def sides_scaled(text: str, rng: random.Random) -> str | None:
    sides, by = text.split("="), rng.randint(2, 9)
    is_equation = (
        len(sides) == 2 and all(map(is_sum, map(str.strip, sides))) and not re.search(r"\\log|d ?[xtv]\b|\+C", text)
    )
    if not is_equation or any(
        re.fullmatch(r"(?:d )?\\?[a-zA-Z]+", side.strip()) for side in sides
    ):  # what is solved is scaled to what is not
        return None
    return rf"{by}\left({sides[0].strip()}\right) = {by}\left({sides[1].strip()}\right)"


EQUAL: dict[str, Rewriting] = {
    "as it is": lambda text, rng: text,
    "another spelling": spelled,
    "blanks": spaced,
    "a fraction that can be reduced": larger_fraction,
    "a slash": slashed,
    "as a fraction": as_fraction,
    "as a decimal": as_decimal,
    "digits in groups": grouped,
    "terms in another order": terms_reversed,
    "times n, over n": scaled,
    "plus 0": plus_nothing,
    "a list in another order": items_reversed,
    "joined by and": joined_by_and,
    "a root as a power": root_as_power,
    "fractions with slashes": fractions_with_slashes,
    "a matrix in other brackets": other_brackets,
    "sides exchanged": sides_swapped,
    "both sides times n": sides_scaled,
    "with a name": named,
    "without its name": unnamed,
}

MARKS: dict[str, str] = {
    "box": "So we get $\\boxed{%s}$.",
    "box in a display": "Therefore\n\\[\n\\boxed{%s}\n\\]",
    "answer is": "We have computed it.\n\nThe answer is $%s$.",
    "final answer": "Work.\n\n**Final Answer:** $%s$",
    "hashes": "Work.\n#### %s",
    "tag": "Work.\n<answer>%s</answer>",
}
