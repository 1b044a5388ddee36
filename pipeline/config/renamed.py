"""Settings that have another name now: what stored them before is read on, and users are given the new name."""

from __future__ import annotations

import copy
from typing import Any

RENAMED = {
    "sft.hasty_share": "sft.answer_only_share",
    "requests.canary_timeout_s": "requests.probe_timeout_s",
}
"""The names of before and of now. A setting keeps its section."""


def with_new_names(values: dict[str, Any]) -> dict[str, Any]:
    """Stored settings under the names of now."""
    return _renamed(values, RENAMED)


def with_old_names(values: dict[str, Any]) -> dict[str, Any]:
    """Settings under the names of before, for hashes that name what was made then."""
    return _renamed(values, {new: old for old, new in RENAMED.items()})


def _renamed(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    values = copy.deepcopy(values)
    for before, after in names.items():
        *sections, name = before.split(".")
        new = after.rpartition(".")[2]
        table: Any = values
        for section in sections:
            table = table.get(section) if isinstance(table, dict) else None
        if isinstance(table, dict) and name in table and new not in table:
            table[new] = table.pop(name)
    return values
