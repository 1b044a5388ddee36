"""The analysis block that opens a reply under lessons or an earlier attempt, and where the solution behind it begins.

Whoever cuts the block off at a token boundary takes the first boundary at or behind `end_of_analysis`: a token that
reaches over it may hold blanks only, which is what stands there."""

from __future__ import annotations

import re

OPENING, CLOSING = "<analysis>", "</analysis>"
_BLOCK = re.compile(rf"\s*{OPENING}(.*?){CLOSING}\s*", re.DOTALL)
_VERDICT = re.compile(r"^Verdict: (right|wrong)\.?\s*$", re.MULTILINE)


def block(analysis: str) -> str:
    """`analysis` as the block that a solution may follow."""
    return f"{OPENING}\n{analysis.strip()}\n{CLOSING}\n"


def end_of_analysis(reply: str) -> int | None:
    """Index of the first character of the solution behind the block; None where no block opens `reply`, or where
    nothing follows it."""
    found = _BLOCK.match(reply)
    return found.end() if found and found.end() < len(reply) else None


def analysis_of(reply: str) -> str:
    """What stands in the block that opens `reply`; empty where there is none."""
    found = _BLOCK.match(reply)
    return found[1].strip() if found else ""


def without_analysis(reply: str) -> str:
    """`reply` without the block that opens it; as it is where there is none, or nothing else."""
    return reply[end_of_analysis(reply) or 0 :]


def verdict_of(reply: str) -> bool | None:
    """Whether the analysis of a reply upholds the attempt, by its last verdict; None where it gives none."""
    found = _VERDICT.findall(analysis_of(reply))
    return found[-1] == "right" if found else None
