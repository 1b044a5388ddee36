"""Names what has been waiting too long, before anybody has to ask.

Deadlines end what is stuck; the watchdog says earlier what it is, and it also sees what a deadline missed. It costs two
dictionary operations for each thing watched.

| waits      | for                          | woken by   |
|------------|------------------------------|------------|
| `run`      | the next look                | the clock  |
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

LOOK_EVERY_S = 1.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stuck:
    """`what` has been waiting for `waited_s` of the `deadline_s` that it may."""

    what: str
    waited_s: float
    deadline_s: float

    def __str__(self) -> str:
        return f"stuck for {self.waited_s:.0f} s (deadline {self.deadline_s:.0f} s): {self.what}"


class Watchdog:
    """`tell` is called once for each thing that has waited `stuck_after_s`, or half of its deadline if that is less."""

    def __init__(self, tell: Callable[[Stuck], None], stuck_after_s: float) -> None:
        self._tell = tell
        self._stuck_after_s = stuck_after_s
        self._tokens = itertools.count()
        # token → what, since, deadline_s; and the tokens that were named already.
        self._watched: dict[int, tuple[tuple[object, ...], float, float]] = {}
        self._named: set[int] = set()

    def begin(self, deadline_s: float, *what: object) -> int:
        """Watch until `end` of the token returned. The parts of `what` are put into words only when it is stuck."""
        token = next(self._tokens)
        self._watched[token] = (what, asyncio.get_running_loop().time(), deadline_s)
        return token

    def end(self, token: int) -> None:
        del self._watched[token]
        self._named.discard(token)

    @contextmanager
    def watch(self, what: str, deadline_s: float) -> Iterator[None]:
        token = self.begin(deadline_s, what)
        try:
            yield
        finally:
            self.end(token)

    @property
    def num_stuck(self) -> int:
        return len(self._named)

    def look(self, now_s: float) -> None:
        """Tell of each thing that is stuck by now and was not told of before."""
        for token, (what, since_s, deadline_s) in list(self._watched.items()):
            waited_s = now_s - since_s
            if token not in self._named and waited_s >= min(self._stuck_after_s, deadline_s / 2):
                self._named.add(token)
                stuck = Stuck(" ".join(map(str, what)), waited_s, deadline_s)
                logger.warning("%s", stuck)
                self._tell(stuck)

    async def run(self) -> None:
        """Look about once a second until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self.look(loop.time())
            await asyncio.sleep(LOOK_EVERY_S)
