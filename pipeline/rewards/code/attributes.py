"""Attributes that tests change in place (`basket.items.append(1)`): copies here, until the program has the changes.

Invariant: what a test did to such a copy is done to the attribute before the program is asked for anything else. Runs
in the judge."""

from __future__ import annotations

from pipeline.rewards.code.serialization import MUTABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pipeline.rewards.code.serialization import Values

MAX_HELD = 16


class Attributes:
    def __init__(self, values: Values, exchanged: Callable[[list[Any]], Any]) -> None:
        self._values, self._exchanged = values, exchanged
        self._held: dict[tuple[Any, ...], tuple[Any, Any]] = {}  # by object and name: the copy, and what it came as

    def keep(self, nodes: list[Any], value: Any) -> None:
        """`value` is what the attribute of `nodes` (an object and a name) is."""
        if isinstance(value, MUTABLE):
            self._held[nodes[0][1], nodes[1]] = value, self._values.write_one(value)
            if len(self._held) > MAX_HELD:
                del self._held[next(iter(self._held))]

    def send(self) -> None:
        """Make the tests' changes the program's."""
        for (number, name), (value, node) in list(self._held.items()):
            if (now := self._values.write_one(value)) != node:
                self._held[number, name] = value, now
                self._exchanged(["become", [["remote", number], name, now], ["dict"]])
