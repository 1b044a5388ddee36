"""Runs a request from its first attempt to its answer, or to the failure that ends it.

Invariants: one retry policy holds for every request: full jitter, at most `requests.max_attempts` attempts on the wire,
hedges included, a deadline (both limits grow where the caller has `Patience`), Retry-After as a floor, final errors at
once; a slot that was taken is given back, whatever
happens; every failure is counted by endpoint, stage and kind, and reaches the endpoint's limit, breaker and
Retry-After.

| waits            | for                                     | woken by                                   |
|------------------|-----------------------------------------|--------------------------------------------|
| a request        | a slot (`Router`); an answer; a pause   | another request's end; the wire; the clock |
| a hedged request | the first answer of two attempts        | either of them                             |
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import secrets
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pipeline.config.endpoints import RequestsSection
from pipeline.errors import EndpointError, RetryableEndpointError
from pipeline.inference.endpoint import Endpoint
from pipeline.inference.health import Health
from pipeline.inference.http import HttpAttempt, Transport
from pipeline.inference.patience import Patience
from pipeline.inference.router import Router
from pipeline.inference.telemetry import request_fields
from pipeline.inference.trouble import TroubleWatch
from pipeline.inference.usage import Tally, Usage
from pipeline.runtime.watchdog import Watchdog

logger = logging.getLogger(__name__)
T = TypeVar("T")

# The endpoint gets less, and is not suspected of being broken.
OVERLOAD = frozenset({"http_429", "http_503", "http_529", "timeout"})
# Several in a row mean that the endpoint is broken; an IMMEDIATE one is proof enough by itself.
BROKEN = frozenset(
    {"connection", "timeout", "broken_json", "wrong_choices", "error_body", "aborted"}
    | {f"http_{status}" for status in (500, 502, 503, 504, 529)}
)
IMMEDIATE = frozenset({"refused", "unverified_weights", "stale_weights", "missing_adapter"})


class Request:
    """One logical request over all its attempts. `id` goes over the wire with the number of the attempt.

    `begin_s`, on the loop's clock, is set when the first attempt begins: time spent queueing for a slot does not
    count."""

    __slots__ = ("affinity", "begin_s", "id", "num_attempts", "patience", "priority", "stage")
    _ids = itertools.count()
    _process = secrets.token_hex(4)

    def __init__(self, stage: str, priority: int = 0, affinity: str = "", patience: Patience | None = None) -> None:
        self.stage = stage
        self.priority = priority
        self.affinity = affinity
        self.id = f"{self._process}{next(self._ids):08x}"
        self.patience = patience
        self.num_attempts = 0
        self.begin_s = float("inf")


RequestFn = Callable[[HttpAttempt], Awaitable[T]]


class RequestRunner:
    """Runs requests. State between them is the endpoints' own (slots, health, usage)."""

    def __init__(
        self,
        settings: RequestsSection,
        transport: Transport,
        router: Router,
        health: Health,
        usage: Usage,
        trouble: TroubleWatch,
        watchdog: Watchdog,
        *,
        several: bool,
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._router = router
        self._health = health
        self._usage = usage
        self._trouble = trouble
        self._watchdog = watchdog
        self._hedges = several and settings.hedge_after_s > 0

    async def run(
        self,
        send: RequestFn[T],
        tokens: Callable[[T], tuple[int, int, int]] | None = None,
        *,
        stage: str,
        priority: int = 0,
        affinity: str = "",
        patience: Patience | None = None,
    ) -> T:
        """What `send` returns for one of the attempts; `tokens` counts its tokens (prompt, completion, cached prompt).

        Raises EndpointError: the last one."""
        request = Request(stage, priority, affinity, patience)
        # The first attempt nearly always finds a slot and an answer; only what fails pays for retries.
        endpoint = self._router.try_first(affinity) or await self._router.take(priority, affinity)
        request.begin_s = asyncio.get_running_loop().time()
        try:
            answer, tally = await self._at(endpoint, request, send)
        except RetryableEndpointError as error:
            answer, tally = await self._retry(error, request, send)
        if tokens is not None:
            num_prompt, num_completion, num_cached = tokens(answer)
            tally.num_prompt_tokens += num_prompt
            tally.num_completion_tokens += num_completion
            tally.num_cached_prompt_tokens += num_cached
        return answer

    async def _retry(self, error: RetryableEndpointError, request: Request, send: RequestFn[T]) -> tuple[T, Tally]:
        """Further attempts after one that failed with `error`, until one succeeds or the policy ends the request."""
        longest_s = self._settings.backoff_s
        while True:
            # Full jitter; an endpoint that said when to come again is not met earlier.
            pause_s = max(random.uniform(0, min(longest_s, self._settings.max_backoff_s)), error.retry_after_s or 0.0)
            too_late = asyncio.get_running_loop().time() + pause_s >= self._deadline_s(request)
            if too_late or request.num_attempts >= self._settings.max_attempts:
                raise error
            await self._router.pause(pause_s)
            try:
                return await self._again(request, send)
            except RetryableEndpointError as failed:
                error = failed
            longest_s *= 2

    async def _again(self, request: Request, send: RequestFn[T]) -> tuple[T, Tally]:
        """A further attempt, at a slot that is waited for no longer than the request's deadline."""
        self._usage.tallies["", request.stage].others["retries"] += 1
        deadline_s = self._deadline_s(request)
        try:
            async with asyncio.timeout_at(deadline_s):
                endpoint = await self._router.take(request.priority, request.affinity)
        except TimeoutError:
            self._usage.tallies["", request.stage].others["failed_deadline"] += 1
            raise RetryableEndpointError(
                "deadline", f"request {request.id}: no endpoint was free within {deadline_s - request.begin_s:g} s"
            ) from None
        return await self._at(endpoint, request, send)

    def _deadline_s(self, request: Request) -> float:
        growth = request.patience.growth if request.patience else 1.0
        return request.begin_s + growth * self._settings.timeout_s

    async def _at(self, endpoint: Endpoint, request: Request, send: RequestFn[T]) -> tuple[T, Tally]:
        """An answer from `endpoint`, where the request has a slot that is given back, or from its hedge; and where it
        is counted."""
        if self._hedges:
            return await self._hedged(endpoint, request, send)
        try:
            return await self._on(endpoint, request, send)
        finally:
            self._router.give_back(endpoint)

    async def _on(self, endpoint: Endpoint, request: Request, send: RequestFn[T]) -> tuple[T, Tally]:
        """One attempt at an endpoint where the request has a slot, and where it is counted."""
        now = asyncio.get_running_loop().time
        begin_s = now()
        settings, patience = self._settings, request.patience
        if patience is None:  # nearly always, and a call less
            timeout_s = min(settings.attempt_timeout_s, request.begin_s + settings.timeout_s - begin_s)
        else:
            timeout_s = min(patience.limit_s, self._deadline_s(request) - begin_s)
        name = f"{request.id}-{request.num_attempts}"
        request.num_attempts += 1
        tally = self._usage.tallies[endpoint.url, request.stage]
        tally.num_requests += 1
        opened = tally.open
        if opened.num_open == 0:
            opened.begin_s = begin_s
        opened.num_open += 1
        try:
            with self._watchdog.limit(timeout_s, request.stage, "request", name, "to", endpoint.url):
                answer = await send(HttpAttempt(self._transport, endpoint, {**endpoint.headers, "X-Request-Id": name}))
            opened.answered_s = end_s = now()
            latency_s = end_s - begin_s
            if opened.longest_s is None or latency_s > opened.longest_s:
                opened.longest_s = latency_s
            endpoint.breaker.num_failures = 0
            endpoint.limit.on_success(latency_s, endpoint.num_in_flight)
            tally.latency.add(latency_s)
            tally.num_succeeded += 1
            if patience:
                patience.on_answer(latency_s)
            return answer, tally
        except TimeoutError:
            if patience:
                patience.on_timeout(timeout_s)
            error = RetryableEndpointError(
                "timeout", f"request {name} ({request.stage}) to {endpoint.url}: no answer in {timeout_s:g} s"
            )
            self._record(endpoint, request, tally, error)
            raise error from None
        except EndpointError as error:
            self._record(endpoint, request, tally, error)
            raise
        finally:
            opened.num_open -= 1

    async def _hedged(self, endpoint: Endpoint, request: Request, send: RequestFn[T]) -> tuple[T, Tally]:
        """Send to `endpoint`; when it takes long, to a second one as well. The first answer counts, the other attempt
        is dropped."""
        attempts: set[asyncio.Task[tuple[T, Tally]]] = set()

        def begin(at: Endpoint) -> None:
            task = asyncio.create_task(self._on(at, request, send))
            # Not within `_on`: a task that is cancelled before its first turn never gets there.
            task.add_done_callback(lambda _: self._router.give_back(at))
            attempts.add(task)

        begin(endpoint)
        try:
            done, _ = await asyncio.wait(attempts, timeout=self._settings.hedge_after_s)
            if not done and request.num_attempts < self._settings.max_attempts:
                other = self._router.try_take(other_than=endpoint)
                if other is not None:
                    self._usage.tallies[other.url, request.stage].others["hedges"] += 1
                    begin(other)
            failed: EndpointError | None = None
            waiting = set(attempts)
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    try:
                        return task.result()
                    except EndpointError as error:
                        failed = error
            assert failed is not None
            raise failed
        finally:
            for task in attempts:
                task.cancel()
            await asyncio.gather(*attempts, return_exceptions=True)

    def _record(self, endpoint: Endpoint, request: Request, tally: Tally, error: EndpointError) -> None:
        """Draw the consequences of a failure: the endpoint gets less, nothing for a while, or nothing until it is
        repaired."""
        tally.others[f"failed_{error.kind}"] += 1
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s", error, extra=request_fields(endpoint, request.stage, request.id, error))
        self._trouble.record(endpoint, error)
        now_s = asyncio.get_running_loop().time()
        if error.kind in OVERLOAD:
            endpoint.limit.on_overload(now_s)
        if error.retry_after_s:
            endpoint.not_before_s = max(endpoint.not_before_s, now_s + error.retry_after_s)
            self._router.endpoint_changed(endpoint)
        # A training server that drops a connection may have died, and come back with other weights.
        immediate = error.kind in IMMEDIATE or (error.kind == "connection" and self._health.serves_training)
        if immediate or error.kind in BROKEN:
            self._health.record_failure(endpoint, immediate=immediate)
