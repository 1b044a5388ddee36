"""Settings that have another name now, or that came later: what was stored before is read on as it was meant, and users
are given the new name."""

from __future__ import annotations

from typing import Any

RENAMED = {
    "sft.hasty_share": "sft.answer_only_share",
    "requests.canary_timeout_s": "requests.probe_timeout_s",
}
"""The names of before and of now. A setting keeps its section."""


CAME_LATER: dict[str, Any] = {
    "rollout.templates": "legacy",
    "abstraction.max_trajectory_chars": 4000,
    "problems.drop_near_duplicates": False,
    "reflection.recency_half_life_steps": None,
}
"""What a stored configuration that lacks a setting of today meant, where that is not the default of today."""


def as_meant(values: dict[str, Any]) -> dict[str, Any]:
    """The settings that a run or an evaluation stored, under today's names and with what held then."""
    values = with_new_names(values)
    for name, meant in CAME_LATER.items():
        section, setting = name.split(".")
        if isinstance(table := values.get(section), dict):
            values[section] = {setting: meant, **table}
    return values


def with_new_names(values: dict[str, Any], names: dict[str, str] = RENAMED) -> dict[str, Any]:
    """Stored settings under the names of now."""
    values = dict(values)
    for before, after in names.items():
        section, old = before.split(".")
        new = after.split(".")[1]
        if isinstance(table := values.get(section), dict) and new not in table:
            values[section] = {new if name == old else name: value for name, value in table.items()}
    return values
