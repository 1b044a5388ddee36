"""Is the pool worth its room? Measures of one entry beside its source, and of many together (method.md, questions 3 and 5).

Pure functions of texts and counts. The heuristics are ours, and crude: what they call problem-specific is what repeats
numbers, names or runs of words of the problem that an entry came from."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pydantic import BaseModel

from pipeline.journal import Outcome
from pipeline.leaks import gives_answer_away
from pipeline.metrics import cohen_kappa
from pipeline.records import Experience, Record
from prompts.render import render_lessons

NGRAM = 5
MOST_OVERLAP = 0.3
"""Share of a lesson's word 5-grams that may stand in its source before it counts as copied."""
COMMON_NUMBERS = frozenset({"0", "1", "2", "10", "100"})
NUM_RESAMPLES = 2000
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]{2,}")
_WORD = re.compile(r"\w+")


class Sighting(Record):
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
    age_steps: int = 0
    verdict: str = ""
    """A judge's: 'transferable' or 'specific'; empty without a judge, 'unreadable' for a reply that is neither."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the heuristics call it problem-specific; none: transferable."""
        found = []
        if self.leaks:
            found.append("gives the answer away")
        if self.numbers:
            found.append(f"numbers of the problem: {', '.join(self.numbers)}")
        if self.names:
            found.append(f"names of the problem: {', '.join(self.names)}")
        if self.overlap > MOST_OVERLAP:
            found.append(f"{self.overlap:.0%} of its word runs are copied")
        return tuple(found)

    @property
    def contradictory(self) -> bool:
        """Whether it warns of what it advises."""
        lesson = self.entry.lesson
        return not {text.lower() for text in lesson.principles}.isdisjoint(text.lower() for text in lesson.pitfalls)

    @property
    def transferable(self) -> bool:
        return not self.reasons


def look(entry: Experience, trajectory: str, answer: str | None) -> Sighting:
    """What the heuristics say of `entry` beside its problem and the trajectory that it was made from."""
    text = render_lessons((entry.lesson,))
    return Sighting(
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


class Effect(NamedTuple):
    """Mean reward of groups that saw entries, minus that of groups from scratch; 95 % interval over groups."""

    difference: float
    low: float
    high: float
    num_with: int
    num_without: int


def effect(outcomes: Iterable[Outcome], entry_id: str | None = None, seed: int = 0) -> Effect | None:
    """What seeing `entry_id` (any entry, for None) went with; None without groups to compare.

    Groups of one family are compared with scratch groups of that family. The kind of a prompt is drawn at random, so over all
    entries the difference is an effect of being shown one; for a single entry the problems that it suits differ too, and
    it is an observation. Interval: bootstrap over groups, 2,000 resamples."""
    with_it: dict[str, list[float]] = defaultdict(list)
    without: dict[str, list[float]] = defaultdict(list)
    for outcome in outcomes:
        mean = sum(outcome.rewards) / len(outcome.rewards)
        if outcome.kind == "scratch":
            without[outcome.family].append(mean)
        elif outcome.kind == "inter" and (entry_id is None or entry_id in outcome.lesson_ids):
            with_it[outcome.family].append(mean)
    families = [family for family in with_it if without[family]]
    if not families:
        return None
    rng = random.Random(seed)
    strata = [(with_it[family], without[family]) for family in families]
    resampled = sorted(
        _difference([(rng.choices(a, k=len(a)), rng.choices(b, k=len(b))) for a, b in strata])
        for _ in range(NUM_RESAMPLES)
    )
    return Effect(
        _difference(strata),
        resampled[int(0.025 * NUM_RESAMPLES)],
        resampled[int(0.975 * NUM_RESAMPLES)],
        sum(len(a) for a, _ in strata),
        sum(len(b) for _, b in strata),
    )


def _difference(strata: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float:
    """Differences of the strata's means, weighted by the groups that saw an entry."""
    total = sum(len(a) for a, _ in strata)
    return sum(len(a) / total * (sum(a) / len(a) - sum(b) / len(b)) for a, b in strata)


class Agreement(BaseModel):
    """Of a judge and the heuristics, over the sightings that the judge could read."""

    num: int
    share: float
    kappa: float | None
    """Cohen's: agreement beyond chance; None where one of them always says the same."""


def agreement(sightings: Sequence[Sighting]) -> Agreement | None:
    pairs = [
        (s.transferable, s.verdict == "transferable") for s in sightings if s.verdict in ("transferable", "specific")
    ]
    if not pairs:
        return None
    share = sum(a == b for a, b in pairs) / len(pairs)
    counts = [pairs.count(pair) for pair in ((True, True), (False, True), (False, False), (True, False))]
    return Agreement(num=len(pairs), share=share, kappa=cohen_kappa(*counts))
