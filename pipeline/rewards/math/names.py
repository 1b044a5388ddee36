"""What the tokens of an answer are names of: variables, points, angles, ratios, quantities in words; and how tokens are
split outside of brackets."""

from __future__ import annotations

import itertools

from pipeline.rewards.math.answer_types import Tokens
from pipeline.rewards.math.expressions import CONSTANTS, names_in, readable
from pipeline.rewards.math.tokens import Token, words, written

OPENING, CLOSING = (
    frozenset(("(", "[", "{", r"\{", r"\langle", r"\begin")),
    frozenset((")", "]", "}", r"\}", r"\rangle", r"\end")),
)
STEPS = dict.fromkeys(OPENING, 1) | dict.fromkeys(CLOSING, -1)
_OPERATORS = frozenset(("+", "-", "*", "/", "^", "!", "±", "∓"))
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
    if not tokens:
        return ""
    if len(ratio := split(tokens, frozenset((":",)))[0]) == 2:
        return written(tokens) if all(map(name_of, ratio)) else ""
    capitals = [token.text for token in tokens if token.kind in ("letter", "word") and token.text.isupper()]
    others = {token.text for token in tokens} - {*capitals}
    if len("".join(capitals)) >= 4 and others and others <= {r"\frac", "{", "}", "/"}:
        return written(tokens)  # AB/CD
    if any(token.text in _OPERATORS for token in tokens):
        return ""
    if len(tokens) > 1 and tokens[0].text in (r"\Delta", r"\delta", "d") and is_variable(tokens[1:]):
        return written(tokens)
    if is_variable(tokens):
        return written(tokens)
    words = [token.text.lower() for token in tokens if token.kind == "word"]
    if words:
        is_plain = all(token.kind in ("word", "letter") for token in tokens) and not NEGATIONS & set(words)
        return written(tokens) if is_plain else ""
    texts = [token.text for token in tokens if token.text != "'"]
    inner = set(texts[2:-1])
    if len(texts) > 3 and tokens[0].kind == "letter" and (texts[1], texts[-1]) == ("(", ")"):
        is_called = texts[0] not in inner and not inner & {"(", ")"}
        return written(tokens) if is_called else ""
    if texts[0] == "(" and texts[-1] == ")" and "," in texts:
        return written(tokens) if all(token.kind == "letter" or token.text in "(),_{}" for token in tokens) else ""
    if len(texts) > 2 and texts[0] == texts[-1] == "|" and all(text.isupper() for text in texts[1:-1]):
        return written(tokens)  # |S|
    geometry = {r"\angle", r"\triangle", r"\overline", r"\measuredangle", r"\vec", "{", "}", "|"}
    letters = [token.text for token in tokens if token.kind == "letter"]
    is_geometric = bool(letters) and all(token.kind == "letter" or token.text in geometry for token in tokens)
    is_upper = all(letter.isupper() or letter == "m" for letter in letters) and len(letters) >= 2
    return written(tokens) if is_geometric and (is_upper or r"\angle" in texts) else ""
