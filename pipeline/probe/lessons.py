"""Lessons that the probe shows: the rule of an operator, mistaken ones, and text without content of equal length."""

from __future__ import annotations

import random
import re
from collections.abc import Collection
from typing import NamedTuple

from pipeline.experience.excerpt import shortened
from pipeline.hashing import seed_of
from pipeline.problems.operator_rules import Rule
from pipeline.types import Context
from prompts.schemas import MAX_FLOW_CHARS, Lesson

FILLERS = {
    1: ("a",),
    2: ("so", "as", "it", "we"),
    3: ("may", "yet", "all", "see"),
    4: ("well", "kind", "calm", "wise"),
    5: ("think", "quiet", "happy", "fresh"),
    6: ("always", "steady", "gentle", "bright"),
    7: ("perhaps", "careful", "serious", "someday"),
    8: ("patience", "pleasant", "humility", "practice"),
    9: ("attention", "sometimes", "certainly", "diligence"),
    10: ("everything", "reasonable", "remarkable", "confidence"),
    11: ("comfortable", "considerate", "interesting", "imagination"),
    12: ("nevertheless", "satisfaction", "appreciation", "particularly"),
}
"""Words by their length that say nothing of any method."""
LONGEST = max(FILLERS)


class Taught(NamedTuple):
    """A lesson, and the problem that it is said to be drawn from."""

    lesson: Lesson
    source: str

    @property
    def context(self) -> Context:
        return Context(
            drawn="inter", kind="inter", lessons=(self.lesson,), lesson_ids=("probe",), sources=(self.source,)
        )


def rule_lesson(name: str, rule: Rule, wording: int, source: str) -> Taught:
    """What an attempt that follows `rule` teaches of the operator `name`."""
    principle = f"For {name}, {rule.words(wording)}."
    return Taught(Lesson(flow_of_thought=f"The rule of {name} has two steps.", principles=(principle,)), source)


def mistaken_sums(source: str) -> Taught:
    """A wrong lesson about sums of several terms."""
    lesson = Lesson(flow_of_thought="Every sign in a sum means the same.", principles=("Take every minus as a plus.",))
    return Taught(lesson, source)


def content_free(taught: Taught, keep: Collection[str] = ()) -> Taught:
    """`taught` with each word but those of `keep` replaced by one of as many characters that says nothing: as many
    words and characters as before."""
    rng = random.Random(seed_of("content-free", taught.lesson.model_dump_json()))
    kept = {word.lower() for word in keep}

    def emptied(text: str) -> str:
        return re.sub(r"\w+", lambda found: found[0] if found[0].lower() in kept else _filler(found[0], rng), text)

    lesson = taught.lesson
    free = Lesson(
        flow_of_thought=shortened(emptied(lesson.flow_of_thought), MAX_FLOW_CHARS),
        principles=tuple(map(emptied, lesson.principles)),
        pitfalls=tuple(map(emptied, lesson.pitfalls)),
    )
    return Taught(free, taught.source)


def _filler(word: str, rng: random.Random) -> str:
    length, filler = len(word), ""
    while length > LONGEST:
        filler += rng.choice(FILLERS[LONGEST])
        length -= LONGEST
    filler += rng.choice(FILLERS[length]) if length else ""
    return filler.capitalize() if word[0].isupper() else filler
