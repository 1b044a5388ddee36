"""Matrices, systems and cases of an answer: rows of cells, perhaps times a number that stands before them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.rewards.math.answer_types import Group, Matrix, NamedValue, Shape, Tokens
from pipeline.rewards.math.expressions import readable
from pipeline.rewards.math.names import split
from pipeline.rewards.math.tokens import Token, words

BRACKETS = [Token("mark", "("), Token("mark", ")")]
_KINDS = words("cases pmatrix bmatrix Bmatrix matrix smallmatrix array vmatrix Vmatrix")
_CONDITIONS = words("if for when where")
_Reader = Callable[[Tokens], Shape | None]
_Joiner = Callable[[Sequence[NamedValue], Sequence[str]], Shape | None]


def matrix(tokens: Tokens, single: _Reader, all_named: _Joiner) -> Shape | None:
    """The matrix, the system or the cases that `tokens` are; None for anything else. `single` reads a cell, `all_named`
    a system."""
    start = next((number for number, token in enumerate(tokens) if token.text == r"\begin"), 0)
    start -= start > 0 and tokens[start - 1].text in ("(", "[", "|")
    factor, inner, bars = _factor(tokens[:start]), list(tokens[start:]), False
    if inner[0].text in ("(", "[", "|") and len(inner) > 2 and inner[1].text == r"\begin":
        inner, bars = inner[1:-1], inner[0].text == "|"
    if factor is None or inner[0].text != r"\begin" or len(inner) < 8 or inner[-4].text != r"\end":
        return None
    kind = inner[2].text
    if kind not in _KINDS:
        return None
    body = [token for token in inner[4:-4] if token.text != r"\hline"]
    if factor and (bars or kind[0] in "cvV" or any(token.text == r"\begin" for token in body)):
        return None
    if kind == "array" and body and body[0].text == "{":
        end = next((number for number, token in enumerate(body) if token.text == "}"), -1)
        body = body[end + 1 :]
    rows = _rows(body, kind, factor)
    cells = tuple(tuple(map(single, row)) for row in rows)
    if kind != "cases":
        return Matrix(cells, bars or kind in ("vmatrix", "Vmatrix"))
    named = [row[0] for row in cells if len(row) == 1 and isinstance(row[0], NamedValue)]
    if len(named) == len(cells) > 1 and all(each.is_name and not each.is_region for each in named):
        return all_named(named, [","])
    return Group(r"\{", kind, tuple(Group("(", ")", row) for row in cells))


def _rows(body: Tokens, kind: str, factor: Tokens) -> list[list[Tokens]]:
    rows, _ = split(body, frozenset((r"\\",)))
    if rows and not rows[-1]:
        rows.pop()
    if kind == "cases":
        rows = [[token for token in row if token.text not in _CONDITIONS | {","}] for row in rows]
    texts = [split(row, frozenset(("&",)))[0] for row in rows]
    return [[[*factor, BRACKETS[0], *cell, BRACKETS[1]] if factor else cell for cell in row] for row in texts]


def _factor(tokens: Tokens) -> list[Token] | None:
    """What every entry is multiplied by, with the sign for it; None for what is no factor."""
    if not tokens:
        return []
    kept = [*tokens[:-1]] if tokens[-1].text == "*" else [*tokens]
    if kept and kept[-1].text == "-":
        kept.append(Token("number", "1"))
    tree = readable(kept)
    return None if tree is None or tree[0] == "+" else [*kept, Token("mark", "*")]
