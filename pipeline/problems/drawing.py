"""Splits of generated problems: each family draws from a stream of its own until its share of distinct ones is there.

Held-out problems are drawn first, from `heldout_seed` alone; a training problem that equals one is skipped and another
drawn in its place."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from pipeline.config.problems import FamilySettings, ProblemsSection
from pipeline.errors import DataError
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
    return heldout, draw_split(settings, families, "train", seed, stream, remedy, taken)


def draw_split(
    settings: ProblemsSection,
    families: Sequence[FamilySettings],
    split: Split,
    seed: int,
    stream: Stream,
    remedy: str,
    taken: set[str],
) -> list[Task]:
    """The distinct tasks of `split` whose text hashes are not in `taken`; adds theirs."""
    setting = f"num_{split}"
    tasks: list[Task] = []
    for family, num in zip(
        families, shares([each.weight for each in families], getattr(settings, setting)), strict=True
    ):
        num_draws, num_before = DRAWS_PER_PROBLEM * num + EXTRA_DRAWS, len(tasks)
        for task in islice(stream(family, split, seed, num_draws, taken), num):
            taken.add(task.problem.text_hash)
            tasks.append(task)
        if (num_drawn := len(tasks) - num_before) < num:
            params = f" with params {family.params}" if family.params else ""
            raise DataError(
                f"family {family.name!r}{params} made only {num_drawn} of the {num} distinct {split} problems wanted "
                f"(in {num_draws} draws); lower problems.{setting}{remedy}"
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
