"""Counts what the mock endpoint saw, for tests to assert on. Memory is bounded: a soak of hours asks millions of
things."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from typing import Any

from aiohttp import web

from servers.mock.faults import CHAT, GENERATE

MAX_IDS = 50_000
# Timers of two processes agree to about this; a retry that is earlier than Retry-After by less is not early.
CLOCK_SLACK_S = 0.002


class Counters:
    """Counts requests, connections, faults and retries. Retries are known by `X-Request-Id: <id>-<attempt>`.

    `num_unverified` are generating requests that came while the weights bore no version's label."""

    def __init__(self, in_flight: int = 0) -> None:
        self.requests: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.in_flight = in_flight
        self.max_in_flight = self.num_tokens = self.num_unverified = 0
        self._ports: set[int] = set()
        self._attempts: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._num_retries = self._max_attempts = self._num_early = self._num_waited = 0

    def begin(self, request: web.Request) -> None:
        self.requests[request.path] += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        if request.transport is not None and (peer := request.transport.get_extra_info("peername")):
            self._ports.add(peer[1])
        if request.path in (CHAT, GENERATE):
            self._count_attempt(request.headers.get("X-Request-Id", ""))

    def end(self, request: web.Request, response: web.StreamResponse | None) -> None:
        self.in_flight -= 1
        identity = request.headers.get("X-Request-Id", "").rpartition("-")[0]
        if response is not None and identity in self._attempts and "Retry-After" in response.headers:
            try:
                wait_s = float(response.headers["Retry-After"])
            except ValueError:
                return
            self._attempts[identity] = (self._attempts[identity][0], time.monotonic() + wait_s)

    def _count_attempt(self, name: str) -> None:
        identity, _, number = name.rpartition("-")
        if not identity or not number.isdigit():
            return
        num_before, not_before_s = self._attempts.pop(identity, (0, 0.0))
        self._attempts[identity] = (num_before + 1, 0.0)
        self._max_attempts = max(self._max_attempts, num_before + 1)
        self._num_retries += num_before > 0
        if not_before_s:
            self._num_waited += 1
            self._num_early += time.monotonic() < not_before_s - CLOCK_SLACK_S
        if len(self._attempts) > MAX_IDS:
            self._attempts.popitem(last=False)

    def as_dict(self) -> dict[str, Any]:
        return {
            "requests": dict(self.requests),
            "faults": dict(self.faults),
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "num_tokens": self.num_tokens,
            "connections": len(self._ports),
            "retries": self._num_retries,
            "max_attempts": self._max_attempts,
            "retry_after_kept": self._num_waited - self._num_early,
            "retry_after_undercut": self._num_early,
            "unverified": self.num_unverified,
        }
