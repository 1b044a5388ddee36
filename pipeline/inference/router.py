"""Gives out slots at endpoints to requests, in order of priority.

Invariants: an endpoint never has more requests than its present bound, none before its Retry-After has passed, and none
while its breaker is not closed; a lower `priority` goes first, then who came first, so a group that has begun is
finished before a later one starts.

| waits                | for                                       | woken by                                     |
|----------------------|-------------------------------------------|----------------------------------------------|
| `take`               | a slot at an endpoint                     | `give_back`, `endpoint_changed`, Retry-After |
| `take` while none is | an endpoint to close its breaker, or its  | the same, or the clock: `no_endpoint`        |
| available            | Retry-After, `max_outage_s` at most       |                                              |
| `pause`              | its seconds                               | the clock, `stop`                            |
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import zlib
from collections.abc import Sequence
from contextlib import suppress

from pipeline.errors import EndpointError, FinalEndpointError
from pipeline.inference.endpoint import Endpoint

# How much busier than the idlest endpoint a prompt's home may be and still be preferred.
HOME_ADVANTAGE = 0.15

Waiter = tuple[int, int, "asyncio.Future[Endpoint]", str]


class Router:
    """Gives out slots. The number of waiters is bounded by the callers: the scheduler's groups, an evaluation's
    requests."""

    def __init__(self, endpoints: Sequence[Endpoint], *, affinity: bool, max_outage_s: float) -> None:
        self._endpoints = endpoints
        self._affinity = affinity
        self._max_outage_s = max_outage_s
        self._waiters: list[Waiter] = []
        self._arrivals = itertools.count()
        self._outage: asyncio.TimerHandle | None = None
        self._alarms: dict[Endpoint, asyncio.TimerHandle] = {}
        self._gave_up = False
        self._stopped = asyncio.Event()
        self._stopped_by: EndpointError = FinalEndpointError("stopped", "")

    @property
    def num_waiting(self) -> int:
        return sum(not waiter[2].done() for waiter in self._waiters)

    @property
    def all_unavailable(self) -> bool:
        """Whether the breaker of no endpoint is closed."""
        return not any(endpoint.available for endpoint in self._endpoints)

    async def take(self, priority: int = 0, affinity: str = "") -> Endpoint:
        """Wait for a slot; give it back with `give_back`. Raises FinalEndpointError: 'no_endpoint' after an outage, the
        error of `stop`."""
        self._check_stopped()
        if self._gave_up and self._is_outage:
            raise self._no_endpoint()
        if (endpoint := self.try_first(affinity)) is not None:
            return endpoint
        loop = asyncio.get_running_loop()
        slot: asyncio.Future[Endpoint] = loop.create_future()
        heapq.heappush(self._waiters, (priority, next(self._arrivals), slot, affinity))
        self._dispatch()
        try:
            return await slot
        except asyncio.CancelledError:
            if slot.done() and not slot.cancelled() and slot.exception() is None:
                self.give_back(slot.result())
            raise

    def try_first(self, affinity: str) -> Endpoint | None:
        """A slot that is free right now and that nobody waits for, or None."""
        return None if self._waiters or self._stopped.is_set() else self.try_take(affinity)

    def try_take(self, affinity: str = "", other_than: Endpoint | None = None) -> Endpoint | None:
        """A slot that is free right now, or None."""
        endpoint = self._choose(affinity, other_than)
        if endpoint is not None:
            endpoint.num_in_flight += 1
        return endpoint

    async def pause(self, seconds: float) -> None:
        """Sleep, between two attempts at a request. Raises the error of `stop`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        self._check_stopped()

    def stop(self, error: EndpointError) -> None:
        """From now on nobody gets a slot: who waits for one, or for the next attempt, gets `error`. What is on the wire
        goes on."""
        self._stopped_by = error
        self._stopped.set()
        self._fail_waiters()

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise FinalEndpointError(self._stopped_by.kind, str(self._stopped_by))

    def give_back(self, endpoint: Endpoint) -> None:
        endpoint.num_in_flight -= 1
        if self._waiters:
            self._dispatch()

    def endpoint_changed(self, endpoint: Endpoint) -> None:
        """Wake those who wait: the endpoint's breaker, bound or Retry-After is another now."""
        self._watch_outage()
        alarm = self._alarms.pop(endpoint, None)
        if alarm is not None:
            alarm.cancel()
        loop = asyncio.get_running_loop()
        if endpoint.not_before_s > loop.time():
            self._alarms[endpoint] = loop.call_at(endpoint.not_before_s, self._retry_after_passed)
        self._dispatch()

    def _retry_after_passed(self) -> None:
        self._watch_outage()
        self._dispatch()

    def close(self) -> None:
        for alarm in [*self._alarms.values(), *([self._outage] if self._outage else [])]:
            alarm.cancel()

    def _dispatch(self) -> None:
        while self._waiters:
            _, _, slot, affinity = self._waiters[0]
            if not slot.done():
                endpoint = self.try_take(affinity)
                if endpoint is None:
                    return
                slot.set_result(endpoint)
            heapq.heappop(self._waiters)

    def _choose(self, affinity: str, other_than: Endpoint | None) -> Endpoint | None:
        now_s = asyncio.get_running_loop().time()
        if len(self._endpoints) == 1:
            (only,) = self._endpoints
            return only if only is not other_than and _has_slot(only, now_s) else None
        free = [endpoint for endpoint in self._endpoints if endpoint is not other_than and _has_slot(endpoint, now_s)]
        if not free:
            return None
        if len(free) == 1:
            return free[0]
        idlest = min(free, key=_load)
        if affinity and self._affinity:
            # Rendezvous hash: the home of `affinity` is the same one in every process and run.
            home = max(free, key=lambda endpoint: zlib.crc32(f"{affinity}\n{endpoint.url}".encode()))
            if _load(home) <= _load(idlest) + HOME_ADVANTAGE:
                return home
        return idlest

    @property
    def _is_outage(self) -> bool:
        """Whether every endpoint is broken, or wants to be left alone."""
        now_s = asyncio.get_running_loop().time()
        return not any(one.available and now_s >= one.not_before_s for one in self._endpoints)

    def _watch_outage(self) -> None:
        """Start the clock when the last available endpoint is gone, stop it when one is back."""
        if not self._is_outage:
            self._gave_up = False
            if self._outage:
                self._outage.cancel()
                self._outage = None
        elif self._outage is None:
            self._outage = asyncio.get_running_loop().call_later(self._max_outage_s, self._give_up)

    def _give_up(self) -> None:
        self._gave_up = True
        self._fail_waiters()

    def _fail_waiters(self) -> None:
        for _, _, slot, _ in self._waiters:
            if not slot.done():
                error = self._stopped_by if self._stopped.is_set() else self._no_endpoint()
                slot.set_exception(FinalEndpointError(error.kind, str(error)))
        self._waiters.clear()

    def _no_endpoint(self) -> FinalEndpointError:
        reasons = "; ".join(f"{one.url} ({one.last_failure or 'never asked'})" for one in self._endpoints)
        return FinalEndpointError("no_endpoint", f"no endpoint was fit for {self._max_outage_s:g} s: {reasons}")


def _load(endpoint: Endpoint) -> float:
    """Share of its present bound that is in use."""
    return endpoint.num_in_flight / max(1, int(endpoint.limit.value))


def _has_slot(endpoint: Endpoint, now_s: float) -> bool:
    """Whether it may get one more request now."""
    return endpoint.breaker.state == "closed" and _load(endpoint) < 1 and now_s >= endpoint.not_before_s
