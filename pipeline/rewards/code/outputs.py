"""Whether what a program printed is what was expected. Pure functions of text."""

from __future__ import annotations

import math
from typing import Literal

Whitespace = Literal["lines", "tokens", "exact"]
"""What of blanks counts: that words stand on the same lines (blank lines at the end left out), only the order of words,
or every character."""
RELATIVE, ABSOLUTE = 1e-6, 1e-9
"""Error that a number with a point may have where a problem states none."""


def same_output(expected: str, printed: str, whitespace: Whitespace = "lines", tolerance: float | None = None) -> bool:
    """Whether `printed` is right. A word of `expected` that is a number with a point allows an error: `tolerance`,
    relative or absolute, where one is stated, for whole numbers, too; else little. All other words are the same."""
    if whitespace == "exact":
        return printed == expected
    wanted, found = _words(expected, whitespace), _words(printed, whitespace)
    return len(wanted) == len(found) and all(
        len(one) == len(other) and all(_same_word(*pair, tolerance) for pair in zip(one, other, strict=True))
        for one, other in zip(wanted, found, strict=True)
    )


def _words(text: str, whitespace: Whitespace) -> list[list[str]]:
    if whitespace == "tokens":
        return [text.split()]
    return [line.split() for line in text.strip().splitlines()]


def _same_word(expected: str, printed: str, tolerance: float | None) -> bool:
    if expected == printed:
        return True
    if tolerance is None and not any(sign in expected for sign in ".eE"):
        return False
    try:
        wanted, found = float(expected), float(printed)
    except ValueError:
        return False
    if not (math.isfinite(wanted) and math.isfinite(found)) or "_" in printed or not printed.isascii():
        return False
    relative, absolute = (RELATIVE, ABSOLUTE) if tolerance is None else (tolerance, tolerance)
    return math.isclose(wanted, found, rel_tol=relative, abs_tol=absolute)
