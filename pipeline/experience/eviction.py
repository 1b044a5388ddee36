"""Eviction: chooses which entries of a problem go when there are too many, by pure functions of what the pool knows of
them.

Ours: the paper caps a problem's entries and lets the oldest go; the other policies are for comparison. Whatever the
policy, of equals the oldest goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from rapidfuzz import fuzz

from pipeline.config.experience import EvictionPolicy


class Holding(NamedTuple):
    """One entry of a problem, as a policy sees it. `usefulness` is the mean reward of the rollouts that saw it, None if
    none."""

    id: str
    created_s: float
    reward: float
    text: str
    usefulness: float | None


Rank = Callable[[Sequence[Holding]], list[float]]
"""How much each entry is worth keeping."""


def _least_useful(holdings: Sequence[Holding]) -> list[float]:
    """An entry that nobody has seen yet is worth the mean of those that were seen."""
    known = [holding.usefulness for holding in holdings if holding.usefulness is not None]
    prior = sum(known) / len(known) if known else 0.0
    return [prior if holding.usefulness is None else holding.usefulness for holding in holdings]


def _most_redundant(holdings: Sequence[Holding]) -> list[float]:
    """The nearer an entry's text is to that of another, the less it is worth."""
    return [
        -max((fuzz.ratio(holding.text, other.text) for other in holdings if other.id != holding.id), default=0.0)
        for holding in holdings
    ]


POLICIES: Mapping[EvictionPolicy, Rank] = {
    "oldest": lambda holdings: [0.0] * len(holdings),
    "worst": lambda holdings: [holding.reward for holding in holdings],
    "least_useful": _least_useful,
    "most_redundant": _most_redundant,
}


def evicted(holdings: Sequence[Holding], max_entries: int, policy: EvictionPolicy) -> list[str]:
    """The ids that go so that `max_entries` are left, the least valuable first."""
    left, gone = list(holdings), []
    while len(left) > max_entries:
        worth = POLICIES[policy](left)
        index = min(range(len(left)), key=lambda i: (worth[i], left[i].created_s, left[i].id))
        gone.append(left.pop(index).id)
    return gone
