"""The analysis block that opens a reply under lessons or an earlier attempt, and where the solution behind it begins.

A model that thinks first writes the block behind its `<think>` sections, the first of which its chat template may have
opened. They belong to what comes before the solution: they are thoughts about lessons or the attempt as well."""

from __future__ import annotations

import re

OPENING, CLOSING = "<analysis>", "</analysis>"
_BLOCK = re.compile(rf"\s*{OPENING}(.*?){CLOSING}\s*", re.DOTALL)
_SECTION = re.compile(r"\s*<think>.*?</think>", re.DOTALL)
_OPENED_IN_THE_PROMPT = re.compile(r"(?:(?!<think>).)*?</think>", re.DOTALL)
_VERDICT = re.compile(r"^Verdict: (right|wrong)\.?\s*$", re.MULTILINE)


def block(analysis: str) -> str:
    """`analysis` as the block that a solution may follow."""
    return f"{OPENING}\n{analysis.strip()}\n{CLOSING}\n"


def span_before_solution(reply: str) -> tuple[int, int] | None:
    """Where the block ends, behind its closing tag, and where the solution begins, with blanks between the two at most;
    None where no block opens `reply`, or where nothing follows it.

    Whoever cuts at a token boundary takes the last one within this span: the blanks before a solution may be part of
    its first token (" The"), and the closing tag's last token may hold some of them (">\\n")."""
    found = _found(reply)
    if found is None or found.end() == len(reply):
        return None
    return found.end(1) + len(CLOSING), found.end()


def end_of_analysis(reply: str) -> int | None:
    """Index of the first character of the solution behind the block; None where no block opens `reply`, or where
    nothing follows it."""
    span = span_before_solution(reply)
    return span and span[1]


def analysis_of(reply: str) -> str:
    """What stands in the block that opens `reply`; empty where there is none."""
    found = _found(reply)
    return found[1].strip() if found else ""


def without_analysis(reply: str) -> str:
    """`reply` without the block that opens it, and without thoughts before that; as it is where there is none, or
    nothing else."""
    return reply[end_of_analysis(reply) or 0 :]


def verdict_of(reply: str) -> bool | None:
    """Whether the analysis of a reply upholds the attempt, by its last verdict; None where it gives none."""
    found = _VERDICT.findall(analysis_of(reply))
    return found[-1] == "right" if found else None


def _found(reply: str) -> re.Match[str] | None:
    """The block, with the blanks around it; group 1 is what stands in it."""
    opened_before = _OPENED_IN_THE_PROMPT.match(reply)
    position = opened_before.end() if opened_before else 0
    while section := _SECTION.match(reply, position):
        position = section.end()
    return _BLOCK.match(reply, position)
