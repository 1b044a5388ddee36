"""Counts, from the journal, the rollouts that saw an entry of the pool, and their rewards.

An observation, not yet an effect: the problems that an entry is shown for are no random choice.
`pipeline.audit.effects` compares with rollouts from scratch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pipeline.run.lineage import Lineage
from pipeline.storage.journal import Journal
from pipeline.types import Experience


class Use(NamedTuple):
    """`num_groups` that saw an entry, their rollouts and the sum of their rewards."""

    num_groups: int = 0
    num_rollouts: int = 0
    reward_sum: float = 0.0

    def plus(self, other: Use) -> Use:
        return Use(
            self.num_groups + other.num_groups,
            self.num_rollouts + other.num_rollouts,
            self.reward_sum + other.reward_sum,
        )

    @property
    def mean_reward(self) -> float | None:
        return self.reward_sum / self.num_rollouts if self.num_rollouts else None


NEVER = Use()


def total_use(entry: Experience, here: Use) -> Use:
    """What `entry` came with from earlier runs, and its use in the one that it is in now."""
    return Use(entry.num_retrieved, entry.num_rollouts, entry.reward_sum).plus(here)


class Usefulness:
    """Uses by entry id. One writer, the scheduler; reads from other threads see whole values."""

    def __init__(self) -> None:
        self._uses: dict[str, Use] = {}

    def add(self, entry_ids: Iterable[str], rewards: Iterable[float]) -> None:
        """Count one group that saw the entries."""
        values = tuple(rewards)
        seen = Use(1, len(values), sum(values))
        for entry_id in entry_ids:
            self._uses[entry_id] = self._uses.get(entry_id, NEVER).plus(seen)

    def of(self, entry_id: str) -> Use:
        return self._uses.get(entry_id, NEVER)


def usefulness_in(journal: Journal, lineages: list[Lineage]) -> Usefulness:
    """The uses that the surviving groups of a journal tell of. Blocks."""
    found = Usefulness()
    for outcome in journal.outcomes(lineages):
        found.add(outcome.lesson_ids, outcome.rewards)
    return found
