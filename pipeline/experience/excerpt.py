"""What is shown of a text that is too long.

A chain of thought begins with what it sets out to do and ends with what it came to; in between it wanders, and takes
back much of what it says. So a third of the characters are of its beginning and the rest of its end, both cut between
lines or sentences where one is near, with the number of characters that are left out in between. Where the final answer
was stated in what is left out (a model that goes on after its answer), the line that states it is kept too."""

from __future__ import annotations

import re

from pipeline.rewards.extraction import extract_answer

HEAD_SHARE = 1 / 3
MAX_STATEMENT_CHARS = 200
MIN_MARKED_CHARS = 200
"""Below this many a mark would take the place of what it stands for."""
MARK_CHARS = 48
_BREAK = re.compile(r"\n|(?<=[.!?]) ")


def shortened(text: str, max_chars: int) -> str:
    """`text`, or of one that is longer than `max_chars` its beginning, its end, and its final answer."""
    if len(text) <= max_chars:
        return text
    if max_chars < MIN_MARKED_CHARS:
        head = max(0, max_chars - 3) // 3
        return f"{text[:head]} … {text[len(text) - max(0, max_chars - 3 - head) :]}"
    budget = max_chars - MARK_CHARS
    head, tail = int(budget * HEAD_SHARE), budget - int(budget * HEAD_SHARE)
    if statement := _statement(text[: len(text) - tail], text[len(text) - tail :], min(MAX_STATEMENT_CHARS, tail // 2)):
        tail -= len(statement) + MARK_CHARS
    beginning, end = _until_break(text[:head]), _from_break(text[len(text) - tail :])
    num_left_out = len(text) - len(beginning) - len(end) - len(statement)
    middle = f"\n{statement}\n[…]" if statement else ""
    return f"{beginning}\n[… {num_left_out} characters are left out …]{middle}\n{end}"


def _statement(before: str, end: str, max_chars: int) -> str:
    """The last line of `before` that states the final answer of the whole text, cut around it; empty where `end` states
    it."""
    answer = extract_answer(f"{before}{end}")
    if not answer or answer in end or (place := before.rfind(answer)) < 0:
        return ""
    line_begin = before.rfind("\n", 0, place) + 1
    line = before[line_begin:].partition("\n")[0]
    begin = max(0, place - line_begin + len(answer) - max_chars)
    return line[begin : begin + max_chars].strip()


def _until_break(text: str) -> str:
    """`text` up to its last break, where that costs no more than a fifth of it."""
    ends = [found.start() for found in _BREAK.finditer(text, len(text) - len(text) // 5)]
    return text[: ends[-1]] if ends else text


def _from_break(text: str) -> str:
    found = _BREAK.search(text, 0, max(1, len(text) // 5))
    return text[found.end() :] if found else text
