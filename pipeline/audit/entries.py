"""Measures of one entry of the pool beside its source; `pipeline.audit.effects` has what it does.

Pure functions of texts and counts. The heuristics are ours, and crude: what they call problem-specific is what repeats
numbers, names or runs of words of the problem that an entry came from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pydantic import BaseModel

from pipeline.audit.effects import Effect
from pipeline.experience.leakage import gives_answer_away
from pipeline.statistics import cohen_kappa
from pipeline.types import Experience, Record
from prompts.render import render_lessons

NGRAM = 5
MOST_OVERLAP = 0.3
"""Share of a lesson's word 5-grams that may stand in its source before it counts as copied."""
COMMON_NUMBERS = frozenset({"0", "1", "2", "10", "100"})
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]{2,}")
_WORD = re.compile(r"\w+")


class AuditedEntry(Record):
    """One entry, looked at beside its source."""

    entry: Experience
    trajectory: str
    numbers: tuple[str, ...] = ()
    """Numbers of the source problem that the lesson repeats."""
    names: tuple[str, ...] = ()
    overlap: float = 0.0
    """Share of the lesson's word 5-grams that stand in the problem or the trajectory."""
    leaks: bool = False
    copy_of: str = ""
    num_retrieved: int = 0
    num_rollouts: int = 0
    mean_reward: float | None = None
    effect: Effect | None = None
    """Reward with the entry in context minus reward from scratch, in this run; None without groups to compare."""
    age_steps: int = 0
    verdict: str = ""
    """A judge's: 'transferable' or 'specific'; empty without a judge, 'unreadable' for a reply that is neither."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Signs that it is about its own problem. Without any, a lesson need be neither true nor of use elsewhere."""
        known = {
            "gives the answer away": self.leaks,
            f"numbers of the problem: {', '.join(self.numbers)}": self.numbers,
            f"names of the problem: {', '.join(self.names)}": self.names,
            f"{self.overlap:.0%} of its word runs are copied": self.overlap > MOST_OVERLAP,
        }
        return tuple(reason for reason, holds in known.items() if holds)

    @property
    def contradictory(self) -> bool:
        """Whether it warns of what it advises."""
        lesson = self.entry.lesson
        return not {text.lower() for text in lesson.principles}.isdisjoint(text.lower() for text in lesson.pitfalls)

    @property
    def without_details(self) -> bool:
        """Whether no sign was found that it tells details of its own problem."""
        return not self.reasons


def look(entry: Experience, trajectory: str, answer: str | None) -> AuditedEntry:
    """What the heuristics say of `entry` beside its problem and the trajectory that it was made from."""
    text = render_lessons((entry.lesson,))
    return AuditedEntry(
        entry=entry,
        trajectory=trajectory,
        numbers=tuple(sorted(_numbers(text) & _numbers(entry.problem_text) - COMMON_NUMBERS)),
        names=tuple(sorted(set(_NAME.findall(entry.problem_text)) & set(re.findall(r"[A-Z][a-z]{2,}", text)))),
        overlap=overlap(
            (entry.lesson.flow_of_thought, *entry.lesson.principles, *entry.lesson.pitfalls),
            f"{entry.problem_text}\n{trajectory}",
        ),
        leaks=answer is not None and gives_answer_away(text, answer),
    )


def _numbers(text: str) -> set[str]:
    return {number.replace(",", "") for number in _NUMBER.findall(text)}


def overlap(texts: Iterable[str], source: str) -> float:
    """Share of the word n-grams of `texts` that `source` holds; 0 where each is shorter than one."""
    mine = set().union(*map(_ngrams, texts))
    return len(mine & _ngrams(source)) / len(mine) if mine else 0.0


def _ngrams(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text.lower())
    return {tuple(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)}


class JudgeAgreement(BaseModel):
    """Of a judge and the heuristics, over the entries that the judge could read."""

    num: int
    share: float
    kappa: float | None
    """Cohen's: agreement beyond chance; None where one of them always says the same."""


def agreement(entries: Sequence[AuditedEntry]) -> JudgeAgreement | None:
    pairs = [
        (s.without_details, s.verdict == "transferable") for s in entries if s.verdict in ("transferable", "specific")
    ]
    if not pairs:
        return None
    share = sum(a == b for a, b in pairs) / len(pairs)
    counts = [pairs.count(pair) for pair in ((True, True), (False, True), (False, False), (True, False))]
    return JudgeAgreement(num=len(pairs), share=share, kappa=cohen_kappa(*counts))
