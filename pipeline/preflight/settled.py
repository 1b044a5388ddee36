"""Settles what a configuration leaves open, once model and problems are known: whether SFT seeds, and every length.

Invariant: what is settled is concrete (true or false, numbers), so that a run whose configuration it is stored in is
resumed as it began, wherever that is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config import Config
from pipeline.preflight.lengths import Memory, lengths, with_lengths
from pipeline.preflight.model_facts import facts_of
from pipeline.sft.seeding import seeding
from pipeline.types import Task


class Settled(NamedTuple):
    """The configuration with nothing open, and a line for each thing that was."""

    config: Config
    lines: list[str]


def settled(
    config: Config, model: Path, tasks: list[Task], served: int | None = None, *, is_begun: bool = False
) -> Settled:
    """`config` settled for the model in the folder `model` and the training problems `tasks`; `served` is what
    endpoints that run already take of prompt and answer. A run that `is_begun` has its seeded model, whatever would be
    decided now. Raises ConfigError where SFT is demanded without anything to learn from."""
    lines = []
    if config.sft.enabled is not False and not is_begun:
        found = seeding(config, tasks)
        config = config.model_copy(update={"sft": config.sft.model_copy(update={"enabled": found.wanted})})
        lines.append(str(found))
    facts = facts_of(model)
    derived = lengths(config, facts, Memory.here(config, facts), tasks, served)
    return Settled(with_lengths(config, derived), [*lines, *map(str, derived)])


def without_open(given: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """Nested settings `given` for a run without those that say "as derived" of what its configuration `stored` has
    settled: they ask for no change."""
    kept = {}
    for name, value in given.items():
        before = stored.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            kept[name] = without_open(value, before)
        elif not ((value is None and isinstance(before, int)) or (value == "auto" and isinstance(before, bool))):
            kept[name] = value
    return kept
