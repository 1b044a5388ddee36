"""Settles what a configuration leaves open, once model and problems are known: whether SFT seeds, the templates, how
long lessons are, and every length in tokens.

Invariant: what is settled is concrete (true or false, numbers), so that a run whose configuration it is stored in is
resumed as it began, wherever that is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config import Config
from pipeline.experience.wording import checked
from pipeline.preflight.lengths import OPEN_LENGTHS, Memory, context_of, lengths, with_lengths
from pipeline.preflight.model_facts import facts_of
from pipeline.sft.seeding import seeding
from pipeline.types import Task
from prompts.schemas import SIZE_SETTINGS
from prompts.sets import AUTO, suited

OPEN = OPEN_LENGTHS | {"sft.enabled", "rollout.templates", *map("abstraction.{}".format, SIZE_SETTINGS.values())}
"""The settings that are settled here."""
AS_DERIVED = (None, AUTO)
"""Values of an open setting."""


class Settled(NamedTuple):
    """The configuration with nothing open, and a line for each thing that was."""

    config: Config
    lines: list[str]


def settled(
    config: Config, model: Path, tasks: list[Task], served: int | None = None, *, is_begun: bool = False
) -> Settled:
    """`config` settled for the model in the folder `model` and the training problems `tasks`; `served` is what
    endpoints that run already take of prompt and answer. A run that `is_begun` has its seeded model, whatever would be
    decided now. Raises ConfigError where SFT is demanded without anything to learn from, and for templates that
    cannot be used."""
    lines = []
    if config.sft.enabled is not False and not is_begun:
        found = seeding(config, tasks)
        config = _with(config, "sft", enabled=found.wanted)
        lines.append(str(found))
    facts = facts_of(model)
    if config.rollout.templates == AUTO:
        templates, why = suited(facts.num_parameters, context_of(config, facts, served))
        config = _with(config, "rollout", templates=templates)
        lines.append(f"rollout.templates = {templates!r}: {why}")
    if note := checked(config).note:
        lines.append(note)
    config = _with(config, "abstraction", **config.lesson_sizes.settings)
    derived = lengths(config, facts, Memory.here(config, facts), tasks, served)
    return Settled(with_lengths(config, derived), [*lines, *map(str, derived)])


def _with(config: Config, section: str, **settings: Any) -> Config:
    return config.model_copy(update={section: getattr(config, section).model_copy(update=settings)})


def without_open(given: dict[str, Any], stored: dict[str, Any], within: str = "") -> dict[str, Any]:
    """Nested settings `given` for a run without those of `OPEN` that say "as derived" of what its configuration
    `stored` has settled: they ask for no change. `within` is the section and a dot."""
    kept = {}
    for name, value in given.items():
        before, setting = stored.get(name), f"{within}{name}"
        if isinstance(value, dict) and isinstance(before, dict):
            kept[name] = without_open(value, before, f"{setting}.")
        elif setting not in OPEN or value not in AS_DERIVED or before in AS_DERIVED:
            kept[name] = value
    return kept
