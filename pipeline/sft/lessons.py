"""Lessons for SFT, each with what a careful reader says of it: one that tells the way to go, ones about something else,
ones that are wrong (`lessons.toml`)."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.sft.critiques import remarks
from pipeline.sft.methods import Method
from pipeline.sft.worked_solutions import Solution
from prompts.schemas import Lesson, Summary

_FILE = Path(__file__).with_name("lessons.toml")
_SLIPPED = {
    "+": ("An addition comes out wrong.", "Check each addition again."),
    "-": ("A subtraction comes out wrong.", "Check each subtraction again."),
    "*": ("A product comes out wrong.", "Check each product again."),
    "/": ("A quotient comes out wrong.", "Check each quotient again."),
}
BARE_IDEAS = 0.3
_MISCOPIED = ("The last result is copied wrongly.", "Another number than the last result is given as the answer.")
_ENDED = ("It stops before the answer.", "No answer is given at the end.")


class Shown(NamedTuple):
    """A lesson as a prompt shows it: the problem that it is from ("" unknown), and what an analysis says of it, behind
    `Lesson 1`."""

    lesson: Lesson
    source: str
    remark: str


def applicable(method: Method, source: str, rng: random.Random) -> Shown:
    """A lesson that tells `method`; its idea may tell no more than what it is about."""
    principle = method.words(rng)
    flow = f"it is about {method.topic}" if rng.random() < BARE_IDEAS else method.words(rng)
    lesson = Lesson(flow_of_thought=sentence(flow), principles=(sentence(principle),))
    return Shown(lesson, source, f"is about {method.topic}. It applies: {principle}.")


def foreign(family: str, rng: random.Random) -> Shown:
    """A lesson about other things than problems of `family`."""
    names = [name for name in _about() if name != family]
    name = rng.choice(names)
    return Shown(rng.choice(_lessons()[name]), "", f"is about {_about()[name]}. It does not apply.")


def wrong(rng: random.Random) -> Shown:
    """A lesson that nobody should follow."""
    entry = rng.choice(_entries()["wrong"])
    return Shown(_lesson(entry), "", f"is wrong: {entry['because']}.")


def summary(method: Method, attempt: Solution, solution: Solution, rng: random.Random) -> Summary:
    """What there is to learn from `attempt`: its own way, and where it went wrong."""
    flow, principle = (sentence(words) for words in rng.sample(method.wordings[:-1], 2))
    pitfalls = () if (slipped := _mistake(attempt)) is None else (rng.choice(slipped),)
    lesson = Lesson(flow_of_thought=flow, principles=(principle,), pitfalls=pitfalls)
    return Summary(critique=remarks(attempt, solution), lesson=lesson)


def sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def all_lessons() -> list[Lesson]:
    """Those of the file, for the identity of what is trained."""
    return [lesson for lessons in _lessons().values() for lesson in lessons]


def _mistake(attempt: Solution) -> Sequence[str] | None:
    if attempt.is_cut:
        return _ENDED
    if attempt.wrong_step is None:
        return None
    if attempt.wrong_step >= len(attempt.steps):
        return _MISCOPIED
    sign = next((part for part in attempt.steps[attempt.wrong_step].left.split() if part in _SLIPPED), "+")
    return _SLIPPED[sign]


@cache
def _entries() -> dict[str, Any]:
    return tomllib.loads(_FILE.read_text(encoding="utf-8"))


@cache
def _lessons() -> dict[str, tuple[Lesson, ...]]:
    return {name: tuple(map(_lesson, entries)) for name, entries in _entries().items() if name != "about"}


def _about() -> dict[str, str]:
    about: dict[str, str] = _entries()["about"]
    return about


def _lesson(entry: dict[str, Any]) -> Lesson:
    return Lesson.model_validate({name: value for name, value in entry.items() if name != "because"})
