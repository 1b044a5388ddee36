"""Which slots of a step may sample a group again (`feedback.rescue`): at most so many, and those of lower slots first.

Invariant: who may does not depend on who ends first, so a resumed step decides as an unbroken one does. A slot is open
until it may not ask any more, because it asked or because it is done; kept slots of a resumed step are done.

| waits   | for                                                              | woken by                          |
|---------|------------------------------------------------------------------|-----------------------------------|
| `claim` | open slots below it, while the last places may still be theirs    | `claim` and `settle` of the others |
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection


class RescueBudget:
    """`most` rescues for `num_slots` slots, None: one for each; `used` are the slots that had theirs before a resume,
    `done` those that need none any more."""

    def __init__(
        self, num_slots: int, most: int | None, used: Collection[int] = (), done: Collection[int] = ()
    ) -> None:
        self._most = num_slots if most is None else most
        self._used = set(used)
        self._open = set(range(num_slots)) - set(done)
        self._changed = asyncio.Event()

    def may_ask(self, slot: int) -> bool:
        return slot in self._open

    def has_used(self, slot: int) -> bool:
        return slot in self._used

    async def claim(self, slot: int) -> bool:
        """Whether `slot` has a rescue; it asks once."""
        while True:
            used = sum(other < slot for other in self._used)
            if used >= self._most:
                break
            if used + sum(other < slot for other in self._open) < self._most:
                self._used.add(slot)
                break
            await self._changed.wait()
        self.settle(slot)
        return slot in self._used

    def settle(self, slot: int) -> None:
        """`slot` will not ask any more."""
        self._open.discard(slot)
        self._changed.set()
        self._changed = asyncio.Event()
