"""Settings that have another name now: what stored them before is read on, and users are given the new name."""

from __future__ import annotations

from typing import Any

RENAMED = {
    "sft.hasty_share": "sft.answer_only_share",
    "requests.canary_timeout_s": "requests.probe_timeout_s",
}
"""The names of before and of now. A setting keeps its section."""


def with_new_names(values: dict[str, Any], names: dict[str, str] = RENAMED) -> dict[str, Any]:
    """Stored settings under the names of now."""
    values = dict(values)
    for before, after in names.items():
        section, old = before.split(".")
        new = after.split(".")[1]
        if isinstance(table := values.get(section), dict) and new not in table:
            values[section] = {new if name == old else name: value for name, value in table.items()}
    return values
