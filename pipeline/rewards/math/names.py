"""What the tokens of an answer are names of: variables, points, angles, ratios, quantities in words; and how tokens are
split outside of brackets."""

from __future__ import annotations

import itertools
import re

from pipeline.rewards.math.answer_types import Tokens
from pipeline.rewards.math.expressions import CONSTANTS, names_in, readable
from pipeline.rewards.math.tokens import Token, words, written

OPENING, CLOSING = (
    frozenset(("(", "[", "{", r"\{", r"\langle", r"\begin")),
    frozenset((")", "]", "}", r"\}", r"\rangle", r"\end")),
)
STEPS = dict.fromkeys(OPENING, 1) | dict.fromkeys(CLOSING, -1)
_OPERATORS = frozenset(("+", "-", "*", "/", "^", "!", "±", "∓"))
_RATIO = re.compile(r"\\frac\{[A-Z]{2,}\}\{[A-Z]{2,}\}|[A-Z]{2,}/[A-Z]{2,}")
_FIGURE = r"\\(?:triangle|overline|measuredangle|vec)|[{}|]"
_NAME = re.compile(
    r"([A-Za-z])'*\((?!.*\1)[^()]+\)'*|\((?=.*,)[A-Za-z,_{}()]+\)|\|[A-Z]+\|"
    rf"|(?=(?:.*[A-Zm]){{2}})(?:{_FIGURE}|[A-Zm])+|(?:{_FIGURE}|[A-Za-z])*\\angle(?:{_FIGURE}|[A-Za-z])+"
)
"""`f(x)`, `(x, y)`, `|S|`, `\\triangle ABC`, `AB`, `\\angle x`."""
NEGATIONS = words("not either neither maybe perhaps possibly probably less more least most fewer never nor without")


def depths(tokens: Tokens) -> list[int]:
    """How many brackets are open behind each token."""
    return [*itertools.accumulate([STEPS.get(token.text, 0) for token in tokens])]


def split(tokens: Tokens, marks: frozenset[str]) -> tuple[list[list[Token]], list[str]]:
    """`tokens` between `marks` that stand outside of brackets, and these marks."""
    parts: list[list[Token]] = [[]]
    found: list[str] = []
    level = 0
    for token in tokens:
        level += STEPS.get(token.text, 0)
        text = token.text.lower() if token.kind == "word" else token.text
        if level == 0 and text in marks and token.text not in CLOSING:
            parts.append([])
            found.append(text)
        else:
            parts[-1].append(token)
    return parts, found


def variables(tokens: Tokens) -> set[str]:
    letters = {token.text for token in tokens if token.kind == "letter"} - CONSTANTS
    return letters | {token.text for token in tokens} & {r"\theta", r"\alpha", r"\beta", r"\lambda"}


def is_variable(tokens: Tokens) -> bool:
    tree = readable(tokens)
    return tree is not None and tree[0] == "name"


def is_constant(tokens: Tokens) -> bool:
    tree = readable(tokens)
    return tree is not None and not names_in(tree)


def name_of(tokens: Tokens) -> str:
    """The name that `tokens` are: a variable, `f(x)`, `(x, y)`, `\\angle ABC`, `AB`, words; "" when they are none."""
    text, ratio = "".join(token.text for token in tokens), split(tokens, frozenset((":",)))[0]
    if len(ratio) == 2:
        is_name = all(map(name_of, ratio))
    elif not tokens or _RATIO.fullmatch(text):
        is_name = bool(tokens)
    elif any(token.text in _OPERATORS for token in tokens):
        is_name = False
    elif is_variable(tokens) or (tokens[0].text in (r"\Delta", r"\delta", "d") and is_variable(tokens[1:])):
        is_name = True
    elif words := {token.text.lower() for token in tokens if token.kind == "word"}:
        is_name = {token.kind for token in tokens} <= {"word", "letter"} and not NEGATIONS & words
    else:
        is_name = _NAME.fullmatch(text) is not None
    return written(tokens) if is_name else ""
