"""Endpoints that fail again and again: reported within seconds, with what they answer and what to do about it.

Invariants: a streak is failures of one endpoint without a success between. It is reported once `REPORT_AFTER` of them
are there or the first is `NOTICE_S` old, again when the reason is another one and every `REPEAT_S`, and once more when
it ends. A failure that the next attempt mends is not reported.

| waits           | for                                     | woken by  |
|-----------------|-----------------------------------------|-----------|
| the look at one | its streak to grow old, or to have ended | the clock |
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from pipeline.errors import EndpointError, FinalEndpointError
from pipeline.inference.silence import AT_THE_SERVER, OpenRequests, SilenceWatch
from pipeline.inference.usage import Usage

logger = logging.getLogger(__name__)

REPORT_AFTER = 3
NOTICE_S = 4.0
REPEAT_S = 60.0
# Longer ones are reported at the first failure: nothing will be asked until then.
LONG_RETRY_AFTER_S = 5.0

_ADDRESS = "check that this is the base URL of an OpenAI-compatible API, with no log-in page or other proxy before it"
REMEDIES = {
    "error_body": AT_THE_SERVER,
    "wrong_choices": _ADDRESS,
    "broken_json": _ADDRESS,
    "aborted": "an answer has to end with 'stop' or 'length'; " + AT_THE_SERVER,
    "no_content": "serve the model without tools, which it may call instead of answering, or ask another one",
    "connection": "see whether it crashes, or a proxy cuts connections; " + AT_THE_SERVER,
    "refused": "see whether it is running there, and can be reached from this machine",
    "timeout": "ask it less at once (max_concurrency), or allow more time (requests.attempt_timeout_s)",
    "quota": "top up the account, or use another key",
    "no_endpoint": "mend the endpoint, or name another one",
    "http_401": "check the key, and the name of the environment variable that holds it",
    "http_402": "top up the account, or use another key",
    "http_403": "check what the key may do, and from where",
    "http_404": "check the URL and the model's name; " + _ADDRESS,
    "http_405": _ADDRESS,
    "http_429": "ask it less at once (max_concurrency), or wait until its limit is over",
    "http_400": "the message says what it does not take; leave that out, or ask another model",
    "http_422": "the message says what it does not take; leave that out, or ask another model",
}


class Failing(Protocol):
    """What is kept of an endpoint here."""

    url: str
    last_failure: str


def remedy_of(kind: str) -> str:
    """What the user can do about failures of this kind."""
    return "name the address that it redirects to" if kind.startswith("http_3") else REMEDIES.get(kind, AT_THE_SERVER)


def described(error: EndpointError) -> str:
    """What went wrong and what to do about it, for the user."""
    return f"{error.kind}: {str(error).rstrip('.')}. What to do: {remedy_of(error.kind)}"


class Streak:
    """Failures in a row; `num_succeeded` is what the endpoint had answered before."""

    def __init__(self, since_s: float, num_succeeded: int, error: EndpointError) -> None:
        self.since_s = since_s
        self.num_succeeded = num_succeeded
        self.error = error
        self.num_failures = 0
        self.reported_s = float("-inf")
        self.reported: set[str] = set()
        """Kinds of failures that the user has read of."""


class TroubleWatch:
    """Keeps the streaks of a client's endpoints; `report` gets what the user should read. Belongs to one event loop."""

    def __init__(self, usage: Usage, max_outage_s: float, report: Callable[[str], None] | None = None) -> None:
        self._usage = usage
        self._max_outage_s = max_outage_s
        self._report = report or (lambda text: None)
        self._streaks: dict[str, Streak] = {}
        self._looks: dict[str, asyncio.TimerHandle] = {}
        self.silence = SilenceWatch(self._report, self._is_reported, self._open_requests)

    def record(self, endpoint: Failing, error: EndpointError) -> None:
        """An attempt at `endpoint` failed."""
        endpoint.last_failure = f"{error.kind}: {error}"
        now_s, num_succeeded = asyncio.get_running_loop().time(), self._num_succeeded(endpoint.url)
        self.silence.failed(endpoint.url, error, now_s)
        streak = self._streaks.get(endpoint.url)
        if streak is None or streak.num_succeeded != num_succeeded:
            streak = self._streaks[endpoint.url] = Streak(now_s, num_succeeded, error)
        streak.error = error
        streak.num_failures += 1
        waits = (error.retry_after_s or 0.0) > LONG_RETRY_AFTER_S
        if (waits or streak.num_failures >= REPORT_AFTER) and error.kind not in streak.reported:
            self._report_streak(endpoint.url, streak, now_s)
        if endpoint.url not in self._looks:
            self._look_later(endpoint.url)

    def failing_s(self, urls: Iterable[str]) -> float:
        """For how long none of these endpoints has answered although all were asked; 0 while one of them does."""
        now_s, lengths = asyncio.get_running_loop().time(), []
        for url in urls:
            streak = self._streaks.get(url)
            broken = streak is not None and streak.num_succeeded == self._num_succeeded(url)
            lengths.append(now_s - streak.since_s if streak is not None and broken else 0.0)
        return min(lengths, default=0.0)

    def close(self) -> None:
        self.silence.close()
        for look in self._looks.values():
            look.cancel()
        self._looks.clear()

    def _open_requests(self) -> Iterable[tuple[tuple[str, str], OpenRequests]]:
        return ((key, tally.open) for key, tally in self._usage.tallies.items() if key[0])

    def _is_reported(self, url: str) -> bool:
        """Whether the user has read that it fails, and not yet that it answers again."""
        return url in self._streaks and bool(self._streaks[url].reported)

    def _num_succeeded(self, url: str) -> int:
        return sum(tally.num_succeeded for (at, _), tally in self._usage.tallies.items() if at == url)

    def _look_later(self, url: str) -> None:
        self._looks[url] = asyncio.get_running_loop().call_later(NOTICE_S, self._look, url)

    def _look(self, url: str) -> None:
        now_s, streak = asyncio.get_running_loop().time(), self._streaks[url]
        if streak.num_succeeded != self._num_succeeded(url):
            if streak.reported:
                self._pass_on(f"{url} answers again")
            del self._streaks[url], self._looks[url]
            return
        if now_s - streak.reported_s >= REPEAT_S:
            self._report_streak(url, streak, now_s)
        self._look_later(url)

    def _report_streak(self, url: str, streak: Streak, now_s: float) -> None:
        streak.reported_s = now_s
        streak.reported.add(streak.error.kind)
        for_s = f" for {now_s - streak.since_s:.0f} s" if now_s - streak.since_s >= 1 else ""
        failed = f"{streak.num_failures} attempts failed{for_s}" if streak.num_failures > 1 else "an attempt failed"
        text = f"endpoint {url} gives no usable answer ({failed}), {described(streak.error)}."
        if (pause_s := streak.error.retry_after_s or 0.0) > LONG_RETRY_AFTER_S:
            text += f" It wants to be left alone for {pause_s:.0f} s."
        if not isinstance(streak.error, FinalEndpointError):
            text += f" It is tried again, for {self._max_outage_s:g} s at most; Ctrl-C ends that."
        self._pass_on(text)

    def _pass_on(self, text: str) -> None:
        logger.warning("%s", text)
        self._report(text)
