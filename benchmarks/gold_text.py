"""Gold answers as text: their terms and items, and what may be rewritten in them.

Nothing of the grader that is measured is used."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

Rewriting = Callable[[str, random.Random], str | None]
"""A form of a gold answer; None where it does not apply."""

NUMBER = r"-?\d+(?:\.\d+)?"
FRACTION = re.compile(r"(-?)\\[dt]?frac\{(\d{1,6})\}\{(\d{1,6})\}|(-?)(\d{1,6})/(\d{1,6})")
FORMULA = re.compile(r"(?:[-+*/^=<>|!,.;:()\[\]{}\d\s&]|\\[A-Za-z]+|\\[{},;! ]|(?<![A-Za-z\\])[a-zA-Z](?![a-zA-Z]))+")
"""Signs, commands and single letters: no words, whose change need not change a value."""
_NOT_A_SUM = re.compile(
    r"[=<>,;:&]|\\(?:[lg]eq?|neq?|in|cup|cap|setminus|pm|mp|left|quad|approx|c?dots|ldots|mathbb|mathrm|mbox|mid|prime)"
    r"(?![a-zA-Z])|\\\{|[-+*/^_]\s*$|\d \d|\d\.(?!\d)"
)
_OPENING, _CLOSING = "([{", ")]}"


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


def is_balanced(text: str) -> bool:
    return all(text.count(one) == text.count(two) for one, two in zip(_OPENING, _CLOSING, strict=True))


def is_sum(text: str) -> bool:
    """Whether `text` is one expression of signs and letters, so that its terms may change places."""
    is_choice = re.fullmatch(r"[A-Z]", text) is not None
    return bool(FORMULA.fullmatch(text)) and not is_choice and not _NOT_A_SUM.search(text)


def rewritten(gold: str, kinds: dict[str, Rewriting], rng: random.Random) -> Iterator[tuple[str, str]]:
    """Every form of `gold` that applies, with its kind. Only golds of one line in maths mode: no dollar signs."""
    if "$" in gold or "\n" in gold or not is_balanced(gold):
        return
    for kind, rewriting in kinds.items():
        form = rewriting(gold, rng)
        if form is not None and (form != gold or kind == "as it is"):
            yield kind, form
