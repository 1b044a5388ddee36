r"""Gold answers as sources write them, reduced to the answer itself.

A source may wrap its answer in what a response would wrap it in. Its thinking (<think>…</think>) is none of it. What is
reduced, over and over until nothing is left to take away: the last \boxed{…}, the line behind ####,
<answer>…</answer>, a last sentence "the answer is …" without what follows a value, a list of texts with one item, $…$,
quotes around the whole, a leading "=". Anything else stays as it is: a gold answer may be a sentence.

Invariant: a gold answer in a box is that gold answer to the verifier (`check`); no answer would earn anything else."""

from __future__ import annotations

import ast
import json
import math
import re
from typing import Any

from pipeline.rewards.extraction import boxed, conclusion
from pipeline.rewards.math import same_answer
from pipeline.text import strip_think

MAX_WRAPPINGS = 5
_GROUPED = re.compile(r"-?\d{1,3}(,\d{3})+(\.\d+)?")
_DOLLAR = re.compile(r"(?<!\\)\$")
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.IGNORECASE | re.DOTALL)
_ANNOUNCED = re.compile(
    r"(?:^|[.!?:]\s+)[\s*_]*(?:(?:so|thus|hence|therefore),?\s+)?(?:(?:the|our|my)\s+)?(?:(?:final|correct)\s+)?"
    r"(?:answer\s+is\s*:?|answer\s*[:=])[\s*_]*(\S.*)$",
    re.IGNORECASE,
)
_ANNOUNCES_THE_NEXT_LINE = re.compile(r"\b(?:answer\s+is|answer)\s*[:=]?[\s*_]*$", re.IGNORECASE)
_FURTHER = re.compile(
    r"(?<=[\d)\]}$%])[.!]\s+(?=[A-Z]).*|[.!]\s+(?:so|therefore|thus|hence|this|that|these|we|i hope)\b.*", re.IGNORECASE
)
"""What follows the sentence that states an answer. A full stop alone may be that of a name."""
_QUOTED = re.compile(r"""(["'`]|\*\*)(?!\s)((?:(?!\1).)+)(?<!\s)\1""", re.DOTALL)
_PLAIN = re.compile(r"[\w .,+-]*\w")


class GoldError(ValueError):
    """A value that holds no gold answer; the message follows the name of its column."""


def gold_answers(value: Any) -> tuple[str, ...]:
    """The gold answers that `value` holds, each once: one of a text or number, those of a list. Raises GoldError."""
    parts = value if isinstance(value, list | tuple) else [value]
    for part in parts:
        if isinstance(part, bool) or not isinstance(part, str | int | float):
            raise GoldError("is neither text nor number; write the answer as a text, several as a list of texts")
        if isinstance(part, float) and not math.isfinite(part):
            raise GoldError("is no finite number; write the answer as a text")
    answers = tuple(dict.fromkeys(reduced(str(part)) for part in parts))
    if not answers or not all(answers):
        raise GoldError("holds no answer")
    return answers


def reduced(text: str) -> str:
    """`text` without what wraps or announces its answer; empty where it holds none."""
    answer = strip_think(text)
    for _ in range(MAX_WRAPPINGS):
        before, answer = answer, _unwrapped(answer)
        if answer == before:
            break
    return answer


def is_marked(text: str) -> bool:
    """Whether `text` marks or announces its answer, so that what stands before it is not part of it."""
    text = strip_think(text)
    return bool(boxed(text)) or "####" in text or bool(_TAGGED.search(text)) or _announced(text) is not None


def check(answers: tuple[str, ...]) -> None:
    """Raise GoldError where the verifier does not know an answer again when it stands in a box."""
    for answer in answers:
        if _PLAIN.fullmatch(answer):
            continue
        shown = conclusion(f"\\boxed{{{answer}}}")
        try:
            if shown is None or not same_answer(answer, shown):
                raise GoldError(
                    f"is read as {answer!r}, which does not match itself in a \\boxed{{}}, so that no response could "
                    "be right; write the bare answer"
                )
        except ValueError as error:
            raise error if isinstance(error, GoldError) else GoldError(f"is too large to be judged ({error})") from None


def _unwrapped(text: str) -> str:
    """`text` with one wrapping less; itself where there is none."""
    if "####" in text:
        behind = text.rpartition("####")[2].strip()
        line, _, further = behind.partition("\n")
        return behind if further and boxed(further) else line.strip()
    if boxed(text) or _TAGGED.search(text):
        return (conclusion(text) or "").strip()
    if (item := _only_item(text)) is not None:
        return item.strip()
    if (announced := _announced(text)) is not None:
        return announced.rstrip(". ")
    if quoted := _QUOTED.fullmatch(text):
        return quoted[2]
    if text.startswith("=") and not text.startswith("=="):
        return text[1:].lstrip()
    if len(_DOLLAR.findall(text)) % 2 == 0:
        # Signs that open and close mathematics; a single one is a currency's.
        text = _DOLLAR.sub("", text).strip()
    return text.replace(",", "") if _GROUPED.fullmatch(text) else text


def _only_item(text: str) -> str | None:
    """The text in a written list of one text, as JSON or Python has it. `[8]` is none: it may be mathematics."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            items = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return items[0] if isinstance(items, list) and len(items) == 1 and isinstance(items[0], str) else None
    return None


def _announced(text: str) -> str | None:
    """What the last line announces as the answer, or is by the announcement of the line before it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    if len(lines) > 1 and _ANNOUNCES_THE_NEXT_LINE.search(lines[-2]):
        return lines[-1]
    found = _ANNOUNCED.search(lines[-1])
    return _FURTHER.sub("", found[1]) if found else None
