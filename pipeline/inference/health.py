"""Brings endpoints back whose breaker opened, and inspects training endpoints that get no requests.

Invariants: an endpoint whose breaker opened gets nothing but one probe at a time; it is closed only after `repair`
(where there is one) and a probe succeeded.

| waits            | for                                             | woken by            |
|------------------|-------------------------------------------------|---------------------|
| a rejoin task    | the pause of an open breaker, `repair`, a probe | the clock; the wire |
| the inspection   | the next look at endpoints with a `repair`      | the clock           |
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from pipeline.errors import EndpointError, FinalEndpointError
from pipeline.inference import token_protocol
from pipeline.inference.endpoint import Endpoint
from pipeline.inference.router import Router
from pipeline.inference.usage import Usage
from pipeline.weights.sync import CHECKING, LOADING

logger = logging.getLogger(__name__)

Repair = Callable[[Endpoint], Awaitable[None]]


class Health:
    """Owns the rejoin tasks and the inspection; `close` ends them.

    `probe` requests one token of an endpoint, `label_of` the label of its weights; both raise EndpointError."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        router: Router,
        usage: Usage,
        repair: Repair | None,
        has_weights: Callable[[], bool],
        probe: Callable[[Endpoint], Awaitable[None]],
        label_of: Callable[[Endpoint], Awaitable[str]],
        check_every_s: float,
    ) -> None:
        self._endpoints = endpoints
        self._router = router
        self._usage = usage
        self._repair = repair
        self._has_weights = has_weights
        self._probe = probe
        self._label_of = label_of
        self._check_every_s = check_every_s
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def serves_training(self) -> bool:
        return self._repair is not None

    def start(self) -> None:
        """Inspect training endpoints from now on."""
        if self.serves_training:
            self._own(self._inspect_all(), "inspect endpoints")

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def record_failure(self, endpoint: Endpoint, *, immediate: bool) -> None:
        """Count a failure; once the breaker opened, the endpoint gets nothing until it was repaired and has
        answered."""
        if endpoint.breaker.on_failure(immediate=immediate):
            logger.warning("%s is set aside after %d failures in a row", endpoint.url, endpoint.breaker.num_failures)
            self._router.endpoint_changed(endpoint)
            self._own(self._rejoin(endpoint), f"rejoin {endpoint.url}")

    def _own(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _rejoin(self, endpoint: Endpoint) -> None:
        """Probe an endpoint until its breaker closes: pause, half open, repair, probe."""
        tally = self._usage.tallies[endpoint.url, "rejoin"]
        logged = ""
        while not endpoint.available:
            await asyncio.sleep(endpoint.breaker.pause_s)
            endpoint.breaker.begin_probe()
            try:
                if self._repair is not None and self._has_weights():
                    await self._repair(endpoint)
                await self._probe(endpoint)
            except Exception as error:  # noqa: BLE001 - whatever the probe met, the endpoint stays out and is tried again
                endpoint.breaker.on_probe(succeeded=False)
                if str(error) != logged:
                    logged = str(error)
                    logger.warning("%s stays aside: %s: %s", endpoint.url, type(error).__name__, error)
                tally.others[f"failed_{getattr(error, 'kind', type(error).__name__)}"] += 1
            else:
                endpoint.breaker.on_probe(succeeded=True)
                tally.num_succeeded += 1
        logger.info("%s is back", endpoint.url)
        self._router.endpoint_changed(endpoint)

    async def _inspect_all(self) -> None:
        """Notice a training endpoint that died or restarted while it got no requests."""
        while True:
            await asyncio.sleep(self._check_every_s)
            await asyncio.gather(*(self._inspect_one(endpoint) for endpoint in self._endpoints if endpoint.available))

    async def _inspect_one(self, endpoint: Endpoint) -> None:
        try:
            label = await self._label_of(endpoint)
        except FinalEndpointError:
            return  # it has no such route, which the first request for samples will show
        except EndpointError as error:
            # A server whose processors are busy may be slow to say what it serves.
            self.record_failure(endpoint, immediate=error.kind != "timeout")
            return
        if (
            self._has_weights()
            and token_protocol.parsed_version(label) is None
            and not label.startswith((LOADING, CHECKING))
        ):
            self.record_failure(endpoint, immediate=True)
