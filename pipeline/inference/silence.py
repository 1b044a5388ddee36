"""Endpoints that were asked and answer nothing: said within seconds, for it may be slow, loading, or stuck.

Invariants: silence counts from the first request that is open, or from the last word of the endpoint, whichever was
later; a word is an answer to anything, an error, a part of a stream. It is said after `SILENT_S` where nothing of that
kind was ever answered, else after `LONGER` times what the longest answer took, again every `REPEAT_S`, and once more
when it ends. It is a line for the user, no failure: nothing is given up for it.

| waits           | for                                          | woken by  |
|-----------------|----------------------------------------------|-----------|
| the look at all | the next one, a second later                 | the clock |
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from pipeline.errors import EndpointError

logger = logging.getLogger(__name__)

SILENT_S = 7.0
LONGER = 3.0
REPEAT_S = 60.0
LOOK_EVERY_S = 1.0
AT_THE_SERVER = "look at the server's log, or at the provider's status page"
"""What to do where the endpoint itself is at fault."""


class OpenRequests:
    """The open requests of one kind to one endpoint: since when there are any, when one was answered last, and the
    longest that an answer took. Every request changes them, so they are plain attributes."""

    __slots__ = ("answered_s", "begin_s", "longest_s", "num_open", "said_s")

    def __init__(self) -> None:
        self.num_open = 0
        self.begin_s = 0.0
        self.answered_s = float("-inf")
        self.longest_s: float | None = None
        self.said_s: float | None = None

    def silent_s(self, now_s: float, heard_s: float) -> float:
        return now_s - max(self.begin_s, heard_s) if self.num_open else 0.0

    def is_due(self, now_s: float, heard_s: float) -> bool:
        """Whether its silence is to be said, for the first time or again."""
        least_s = SILENT_S if self.longest_s is None else max(SILENT_S, LONGER * self.longest_s)
        repeated = self.said_s is not None and now_s - self.said_s < REPEAT_S
        return not repeated and self.silent_s(now_s, heard_s) >= least_s


class SilenceWatch:
    """Looks at what is open: control requests, which are kept here, and those of `usage`, by (url, stage). `report`
    gets what the user should read, but of endpoints that `is_reported` as failing. Belongs to one event loop."""

    def __init__(
        self,
        report: Callable[[str], None],
        is_reported: Callable[[str], bool] = lambda url: False,
        usage: Callable[[], Iterable[tuple[tuple[str, str], OpenRequests]]] = lambda: (),
    ) -> None:
        self._report = report
        self._is_reported = is_reported
        self._usage = usage
        self._asked: defaultdict[tuple[str, str], OpenRequests] = defaultdict(OpenRequests)
        self._heard_s: defaultdict[str, float] = defaultdict(lambda: float("-inf"))
        self._look: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look once a second from now on, until closed."""
        self._look = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look_at_all)

    @contextmanager
    def asking(self, url: str, what: str) -> Iterator[None]:
        """While one request is open; `what` is its kind, as the user knows it."""
        now = asyncio.get_running_loop().time
        asked = self.begin(url, what, begin_s := now())
        try:
            yield
            self.answered(asked, begin_s, now())
        except EndpointError as error:
            self.failed(url, error, now())
            raise
        finally:
            asked.num_open -= 1

    def begin(self, url: str, what: str, now_s: float) -> OpenRequests:
        """One more request is open; whoever calls this takes it off `num_open` again."""
        asked = self._asked[url, what]
        if asked.num_open == 0:
            asked.begin_s = now_s
        asked.num_open += 1
        return asked

    def answered(self, asked: OpenRequests, begin_s: float, now_s: float) -> None:
        """A request that began at `begin_s` has its answer."""
        asked.longest_s, asked.answered_s = max(asked.longest_s or 0.0, now_s - begin_s), now_s

    def failed(self, url: str, error: EndpointError, now_s: float) -> None:
        """A request ended with `error`: a word of the endpoint, but where it is that there was none."""
        if error.kind != "timeout":
            self.heard(url, now_s)

    def heard(self, url: str, now_s: float) -> None:
        """The endpoint said something at `now_s`."""
        self._heard_s[url] = now_s

    def close(self) -> None:
        if self._look is not None:
            self._look.cancel()

    def _look_at_all(self) -> None:
        self.check(asyncio.get_running_loop().time())
        self.start()

    def check(self, now_s: float) -> None:
        """Say what is due by `now_s`, the loop's clock."""
        every = [*self._asked.items(), *self._usage()]
        answered_s: defaultdict[str, float] = defaultdict(lambda: float("-inf"))
        for (url, _), asked in every:
            answered_s[url] = max(answered_s[url], asked.answered_s)
        for (url, what), asked in every:
            heard_s = max(self._heard_s[url], answered_s[url])
            if asked.said_s is not None and heard_s >= asked.said_s:
                if answered_s[url] >= asked.said_s:
                    self._pass_on(f"endpoint {url} answers again")
                asked.said_s = None
            if asked.is_due(now_s, heard_s) and not self._is_reported(url):
                asked.said_s = now_s
                self._pass_on(_described(url, what, asked, asked.silent_s(now_s, heard_s)))

    def _pass_on(self, text: str) -> None:
        logger.info("%s", text)
        self._report(text)


def _described(url: str, what: str, asked: OpenRequests, silent_s: float) -> str:
    waiting = f"{asked.num_open} requests wait" if asked.num_open > 1 else "a request waits"
    usual = "no answer yet" if asked.longest_s is None else f"answers took {asked.longest_s:.0f} s at most"
    return (
        f"endpoint {url} has said nothing for {silent_s:.0f} s ({what}: {waiting}, {usual}). It may be "
        f"slow, busy, or still loading its model, and is waited for. What to do: if this goes on, {AT_THE_SERVER}; "
        "after a Ctrl-C nothing more is begun, and a second one ends the wait."
    )
