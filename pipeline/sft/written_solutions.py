r"""Worked solutions as sources write them (GSM8K's answers, MATH's solutions, replies of a chat, reference programs),
made the target of SFT.

Invariants: the reasoning stays as it was written, but for a calculator's marks; the target ends in the form that the
prompt asks for, and the verifier reads the gold answer from it. What is put in or taken out is outside of thinking
(<think>…</think>). A text that only states the answer is no solution, and neither is one that concludes something else,
or has the answer nowhere."""

from __future__ import annotations

import ast
import re

from pipeline.problems.gold import is_marked
from pipeline.rewards.code.extraction import extract_code
from pipeline.rewards.extraction import boxes, conclusion
from pipeline.rewards.math import same_quickly
from pipeline.text import strip_think
from pipeline.types import Label, Task

MIN_WORDS = 4
"""Words, numbers and signs beside the answer's own statement, or it is no reasoning: `3 + 4 = 7` has five."""
_CALCULATOR = re.compile(r"<<[^<>\n]*>>")
_TAGS = re.compile(r"</?answer>", re.IGNORECASE)
_HASHED = re.compile(r"\n?^[ \t]*####[ \t]*([^\n]*)$|[ \t]*####[ \t]*([^\n]*)\Z", re.MULTILINE)
_STATES = re.compile(
    r"\b(?:we|are|done|so|thus|hence|therefore|the|our|my|final|correct|answer|is|solution|reasoning|step)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"\\?\w+|[-+*/=<>^×÷]")


def written_solution(task: Task) -> str:
    """The target that the source's solution of `task` makes; empty where it makes none."""
    text = _CALCULATOR.sub("", task.solution).strip()
    if not text:
        return ""
    return _program(text, task.label) if task.problem.form == "code" else _boxed(text, task.label)


def _boxed(text: str, label: Label) -> str:
    concluded = conclusion(strip_think(text)) if is_marked(text) else None
    if not (_has_any(text, label) if concluded is None else _is_gold(concluded, label)):
        return ""
    answer, (thinking, shown) = label.answer, thinking_and_shown(text)
    if found := boxes(shown):
        answer, target = shown[found[-1].inner : found[-1].end], text
    else:
        body = _without_hashes(_TAGS.sub("", shown), label).rstrip()
        target = f"{thinking}{body}\n\\boxed{{{answer}}}"
    read = conclusion(strip_think(target))
    if read is None or not _is_gold(read, label) or not _reasons(target, {answer, *label.answers}):
        return ""
    return target


def thinking_and_shown(text: str) -> tuple[str, str]:
    """`text` in two: up to the end of its last thinking, and what a user is shown."""
    thinking, tag, shown = text.rpartition("</think>")
    return thinking + tag, shown


def _has_any(text: str, label: Label) -> bool:
    """Whether a gold answer stands in `text` as a word of its own."""
    return any(re.search(rf"(?<!\w){re.escape(gold)}(?!\w)", text, re.IGNORECASE) for gold in label.answers)


def _without_hashes(text: str, label: Label) -> str:
    """`text` up to the last line that gives the answer behind ####, if there is one."""
    ends = [line.start() for line in _HASHED.finditer(text) if _is_gold(line[1] or line[2] or "", label)]
    return text[: ends[-1]] if ends else text


def _is_gold(answer: str, label: Label) -> bool:
    return any(gold == answer.strip() or same_quickly(gold, answer) for gold in label.answers)


def _reasons(target: str, answers: set[str]) -> bool:
    """Whether more stands there than the statement of the answer."""
    rest = target.replace("**", "")
    for box in reversed(boxes(target)):
        rest = rest[: box.start] + rest[box.end + 1 :]
    lines = [_STATES.sub(" ", line) for line in rest.splitlines()]
    words = [word for line in lines if line.strip(" .:$*") not in answers for word in _WORD.findall(line)]
    return len(words) >= MIN_WORDS


def _program(text: str, label: Label) -> str:
    """A reference program in the fence that answers are asked for; empty where it is none of the function tested."""
    entry_point = label.entry["entry_point"]  # none of a program that reads and prints
    code = extract_code(text, entry_point) if "```" in text else text
    try:
        tree = ast.parse(code or "")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    defined = {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    if code is None or (entry_point and entry_point not in defined):
        return ""
    return text if "```" in text else f"```python\n{code.strip()}\n```"
