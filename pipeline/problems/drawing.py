"""Splits of generated problems: each family draws from a stream of its own until its share of distinct ones is there.

Held-out problems are drawn first, from `heldout_seed` alone; a training problem that equals one, or is a near-duplicate
of one, is skipped and another drawn in its place."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence, Set
from itertools import islice

from pipeline.config.problems import FamilySettings, ProblemsSection
from pipeline.errors import DataError
from pipeline.problems.duplicates import keys_of, keys_of_all
from pipeline.types import Split, Task

# Draws per wanted problem before a family is said to be exhausted: collecting the last of n values takes about n ln n
# draws.
DRAWS_PER_PROBLEM = 20
EXTRA_DRAWS = 1000
Stream = Callable[[FamilySettings, Split, int, int, set[str]], Iterator[Task]]
"""The tasks of a family for a split and its seed in so many draws, without those whose text hashes are in the set."""


def draw_splits(
    settings: ProblemsSection, families: Sequence[FamilySettings], seed: int, stream: Stream, remedy: str
) -> tuple[list[Task], list[Task]]:
    """Held-out and training tasks, in this order, families mixed. Raises ConfigError and DataError."""
    taken: set[str] = set()
    heldout = draw_split(settings, families, "heldout", settings.heldout_seed, stream, remedy, taken)
    near = keys_of_all(heldout) if settings.drop_near_duplicates else frozenset[str]()
    return heldout, draw_split(settings, families, "train", seed, stream, remedy, taken, near)


def draw_split(
    settings: ProblemsSection,
    families: Sequence[FamilySettings],
    split: Split,
    seed: int,
    stream: Stream,
    remedy: str,
    taken: set[str],
    near: Set[str] = frozenset(),
) -> list[Task]:
    """The distinct tasks of `split` whose text hashes are not in `taken`, which gets theirs, and whose keys of
    near-duplicates are not in `near`."""
    setting = f"num_{split}"
    tasks: list[Task] = []
    for family, num in zip(
        families, shares([each.weight for each in families], getattr(settings, setting)), strict=True
    ):
        num_draws, num_before = DRAWS_PER_PROBLEM * num + EXTRA_DRAWS, len(tasks)
        drawn = stream(family, split, seed, num_draws, taken)
        for task in islice((task for task in drawn if not near or near.isdisjoint(keys_of(task))), num):
            taken.add(task.problem.text_hash)
            tasks.append(task)
        if (num_drawn := len(tasks) - num_before) < num:
            params = f" with params {family.params}" if family.params else ""
            kept_out = " that are no near-duplicates of held-out ones" if near else ""
            remedy += ", or set problems.drop_near_duplicates = false" if near else ""
            raise DataError(
                f"family {family.name!r}{params} made only {num_drawn} of the {num} distinct {split} problems wanted"
                f"{kept_out} (in {num_draws} draws); lower problems.{setting}{remedy}"
            )
    random.Random(f"mix:{split}:{seed}").shuffle(tasks)
    return tasks


def shares(weights: list[float], num: int) -> list[int]:
    """`num` split in proportion to `weights`, by largest remainders."""
    exact = [num * weight / sum(weights) for weight in weights]
    counts = [int(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: num - sum(counts)]:
        counts[i] += 1
    return counts
