r"""Gold answers in other forms that are equal, and with one change that makes them unequal. By text alone: nothing of
the grader that is measured is used.

A rewriting returns None where it does not apply. What an unequal one changes is a value for certain: digits that stand
below a power of 1 or of a sign, within a command's name or an index, and the like, are left alone."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from fractions import Fraction

Rewriting = Callable[[str, random.Random], str | None]

_NUMBER = r"-?\d+(?:\.\d+)?"
_INTEGER = re.compile(r"-?\d{1,9}")
_DECIMAL = re.compile(r"-?\d{1,6}\.\d{1,6}")
_FRACTION = re.compile(r"(-?)\\[dt]?frac\{(\d{1,6})\}\{(\d{1,6})\}|(-?)(\d{1,6})/(\d{1,6})")
_SIMPLE = re.compile(r"[-+\d.a-zA-Z{}()\\^ ]*")
_FORMULA = re.compile(r"(?:[-+*/^=<>|!,.;:()\[\]{}\d\s&]|\\[A-Za-z]+|\\[{},;! ]|(?<![A-Za-z\\])[a-zA-Z](?![a-zA-Z]))+")
"""Signs, commands and single letters: no words, whose change need not change a value."""
_NOT_A_VALUE = re.compile(
    r"\\(?:text|mathrm|mathbf|operatorname|begin|pm|mp|equiv|mod|bmod|pmod|infty|approx|frac\d|sqrt\d)"
)
_NOT_A_SUM = re.compile(
    r"[=<>,;:&]|\\(?:[lg]eq?|neq?|in|cup|cap|setminus|pm|mp|left|quad|approx|c?dots|ldots|mathbb|mathrm|mbox|mid|prime)"
    r"(?![a-zA-Z])|\\\{|[-+*/^_]\s*$|\d \d|\d\.(?!\d)"
)
_OPENING, _CLOSING = "([{", ")]}"
_SIGNS = {"pi": "π", "leq?": "≤", "geq?": "≥", "infty": "∞", "cup": "∪", "cdot": r"\\times"}


def parts(text: str, marks: str) -> list[str]:
    """`text` between those of `marks` that stand outside of brackets; a mark begins the next part."""
    found, level = [""], 0
    for index, sign in enumerate(text):
        is_command = index > 0 and text[index - 1] == "\\" and sign not in _OPENING + _CLOSING
        level += (sign in _OPENING) - (sign in _CLOSING)
        if level == 0 and sign in marks and not is_command and found[-1].strip():
            found.append("")
        found[-1] += sign
    return found


def _is_balanced(text: str) -> bool:
    return all(text.count(one) == text.count(two) for one, two in zip(_OPENING, _CLOSING, strict=True))


def _is_sum(text: str) -> bool:
    """Whether `text` is one expression of signs and letters, so that its terms may change places."""
    is_choice = re.fullmatch(r"[A-Z]", text) is not None
    return bool(_FORMULA.fullmatch(text)) and not is_choice and not _NOT_A_SUM.search(text)


# --- equal


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
    if not (found := _FRACTION.fullmatch(text)):
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
        not _is_sum(text)
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
    return rf"\frac{{{by}\left({text}\right)}}{{{by}}}" if _is_sum(text) and len(parts(text, "+-")) > 1 else None


def plus_nothing(text: str, rng: random.Random) -> str | None:
    return rf"{text} + 0" if _is_sum(text) and not re.search(r"\\circ|\\text|!$", text) else None


def items_reversed(text: str, rng: random.Random) -> str | None:
    inner = re.fullmatch(r"\\\{(.*)\\\}", text, re.DOTALL)
    body = inner[1] if inner else text
    items = [item.lstrip(",").strip() for item in parts(body, ",")]
    if len(items) < 2 or not all(
        re.fullmatch(rf"{_NUMBER}|\\frac\{{\d+\}}\{{\d+\}}|-?\d*\\sqrt\{{\d+\}}", i) for i in items
    ):
        return None
    if re.fullmatch(r"-?\d{1,3}(,\d{3})+", body):
        return None
    turned = ", ".join(reversed(items))
    return rf"\{{{turned}\}}" if inner else turned


def joined_by_and(text: str, rng: random.Random) -> str | None:
    items = [item.lstrip(",").strip() for item in parts(text, ",")]
    is_plain = len(items) > 1 and all(re.fullmatch(_NUMBER, item) for item in items)
    if not is_plain or re.fullmatch(r"-?\d{1,3}(,\d{3})+", text):
        return None
    return ", ".join(items[:-1]) + r" \text{ and } " + items[-1]


def named(text: str, rng: random.Random) -> str | None:
    return f"{rng.choice('xyn')} = {text}" if re.fullmatch(rf"{_NUMBER}|-?\\frac\{{\d+\}}\{{\d+\}}", text) else None


def unnamed(text: str, rng: random.Random) -> str | None:
    found = re.fullmatch(rf"[a-zA-Z]\s*=\s*({_NUMBER}|-?\\frac\{{\d+\}}\{{\d+\}})", text)
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
    return changed if changed != text and _is_sum(text) else None


def fractions_with_slashes(text: str, rng: random.Random) -> str | None:
    changed = re.sub(r"(?<![\d\s\])}a-z])\\[dt]?frac\{([^{}]+)\}\{([^{}]+)\}(?!\s*[\d^(])", r"((\1)/(\2))", text)
    return changed if changed != text and _is_sum(text) and "^" not in text else None


def other_brackets(text: str, rng: random.Random) -> str | None:
    changed = text.replace("{pmatrix}", "{bmatrix}")
    return changed if changed != text else None


def sides_swapped(text: str, rng: random.Random) -> str | None:
    sides = text.split("=")
    is_equation = len(sides) == 2 and all(map(_is_sum, map(str.strip, sides))) and "|" not in text
    return f"{sides[1].strip()} = {sides[0].strip()}" if is_equation else None


def sides_scaled(text: str, rng: random.Random) -> str | None:
    sides, by = text.split("="), rng.randint(2, 9)
    is_equation = (
        len(sides) == 2 and all(map(_is_sum, map(str.strip, sides))) and not re.search(r"\\log|d ?[xtv]\b|\+C", text)
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


# --- unequal


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
        bool(_FORMULA.fullmatch(text))
        and not _NOT_A_VALUE.search(text)
        and not re.search(r"[&|'!=]|\b0|\\(?:sin|cos|tan)", text)
    )


def sign(text: str, rng: random.Random) -> str | None:
    if not _is_sum(text) or not _is_plain(text):
        return None
    return (
        text[1:].strip()
        if text.startswith("-") and len(parts(text, "+-")) == 1
        else (f"-{text}" if len(parts(text, "+-")) == 1 else None)
    )


def plus_for_minus(text: str, rng: random.Random) -> str | None:
    terms = parts(text, "+-")
    if not _is_sum(text) or not _is_plain(text) or len(terms) < 2:
        return None
    last = terms[-1]
    return "".join(terms[:-1]) + ("-" if last[0] == "+" else "+") + last[1:]


def one_more(text: str, rng: random.Random) -> str | None:
    return f"{text} + 1" if _is_sum(text) and _is_plain(text) else None


def twice(text: str, rng: random.Random) -> str | None:
    return rf"2\left({text}\right)" if _is_sum(text) and _is_plain(text) else None


def rounded(text: str, rng: random.Random) -> str | None:
    found = _FRACTION.fullmatch(text)
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
    found = re.fullmatch(rf"\(\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\)", text)
    return f"({found[2]}, {found[1]})" if found and float(found[1]) != float(found[2]) else None


def item_less(text: str, rng: random.Random) -> str | None:
    items = [item.lstrip(",").strip() for item in parts(text, ",")]
    if (
        len(set(items)) < 2
        or not all(re.fullmatch(_NUMBER, item) for item in items)
        or re.fullmatch(r"-?\d{1,3}(,\d{3})+", text)
    ):
        return None
    return ", ".join(items[1:])


def item_more(text: str, rng: random.Random) -> str | None:
    return f"{text}, {rng.randint(10**6, 10**7)}" if re.fullmatch(rf"{_NUMBER}(, ?{_NUMBER})*", text) else None


def hedged(text: str, rng: random.Random) -> str | None:
    return f"{text} or {rng.randint(10**6, 10**7)}" if re.fullmatch(_NUMBER, text) else None


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
    if len(sides) != 2 or not re.search("[a-zA-Z]", text) or not all(map(_is_sum, map(str.strip, sides))):
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
    if not _is_sum(text) or not _is_plain(text) or len(letters) != 1 or "_" in text:
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


def rewritten(gold: str, kinds: dict[str, Rewriting], rng: random.Random) -> Iterator[tuple[str, str]]:
    """Every form of `gold` that applies, with its kind. Only golds of one line in maths mode: no dollar signs."""
    if "$" in gold or "\n" in gold or not _is_balanced(gold):
        return
    for kind, rewriting in kinds.items():
        form = rewriting(gold, rng)
        if form is not None and (form != gold or kind == "as it is"):
            yield kind, form
