"""A load test of endpoints: a closed loop of requests through the client, and a report.

Invariants: at most `concurrency` requests are out at once; every request ends as one `Shot`, answered or failed by
name; a stop (Ctrl-C) ends the loop and keeps what was measured.

| waits    | for                          | woken by         |
|----------|------------------------------|------------------|
| a worker | its answer                   | the client       |
| `run`    | all workers                  | the last of them |
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from pydantic import BaseModel

from pipeline.errors import EndpointError
from pipeline.inference.client import InferenceClient
from pipeline.types import Message

QUANTILES = (50, 90, 95, 99, 100)


class Shot(NamedTuple):
    """One request. Seconds are from the beginning of the run, or lengths; `error` is '' for an answer."""

    begin_s: float
    latency_s: float
    error: str
    num_tokens: int = 0
    first_token_s: float | None = None


class Load(BaseModel):
    """What to send."""

    num_requests: int
    concurrency: int
    max_tokens: int = 64
    temperature: float = 1.0
    stream: bool = False
    seed: int = 0
    prompts: tuple[str, ...] = ()
    """Sent in turn; none: sums of two numbers, each another one, so that no cache answers."""

    def message(self, index: int) -> tuple[Message, ...]:
        if self.prompts:
            return (Message(role="user", content=self.prompts[index % len(self.prompts)]),)
        rng = random.Random(f"{self.seed}/{index}")
        return (Message(role="user", content=f"What is {rng.randrange(10_000)} + {rng.randrange(10_000)} ="),)


class StressReport(BaseModel):
    """The figures of a load test. Latencies are of answered requests, from the call to the parsed answer, retries
    included."""

    num_requests: int
    num_answered: int
    concurrency: int
    seconds: float
    requests_per_s: float
    completion_tokens_per_s: float
    error_rate: float
    latency_s: dict[str, float]
    first_token_s: dict[str, float]
    errors: dict[str, int]
    """Requests that failed for good, by kind."""
    attempts_failed: dict[str, int]
    """Attempts that failed, by kind, whatever became of their requests."""
    num_attempts: int
    num_retries: int
    num_hedges: int
    cost: float

    def lines(self) -> list[str]:
        """The report as text."""
        lines = [
            (
                f"{self.num_answered} of {self.num_requests} requests answered in {self.seconds:.1f} s at "
                f"{self.concurrency} concurrent: {self.requests_per_s:,.0f} requests/s, "
                f"{self.completion_tokens_per_s:,.0f} tokens/s"
            ),
            f"latency   {_quantiles_text(self.latency_s)}",
        ]
        if self.first_token_s:
            lines.append(f"1st token {_quantiles_text(self.first_token_s)}")
        lines.append(
            f"attempts  {self.num_attempts:,} on the wire, {self.num_retries:,} retries, {self.num_hedges:,} hedges; "
            f"failed: {_counted(self.attempts_failed)}"
        )
        if self.num_requests:
            lines.append(f"errors    {self.error_rate:.3%} of the requests: {_counted(self.errors)}")
        else:
            lines.append("errors    unknown: no request had come to its end, answered or given up, when it was stopped")
        if self.cost:
            lines.append(f"cost      {self.cost:.4f}")
        return lines

    def broken_bounds(self, max_p99_s: float | None, max_error_rate: float | None) -> list[str]:
        """The bounds that did not hold, as text."""
        broken = []
        p99 = self.latency_s.get("p99")
        if max_p99_s is not None and (p99 is None or p99 > max_p99_s):
            broken.append(
                f"--max-p99-s {max_p99_s:g}: the 99th percentile is {'unknown' if p99 is None else f'{p99:.3f} s'}"
            )
        if max_error_rate is not None and (not self.num_requests or self.error_rate > max_error_rate):
            found = f"{self.error_rate:.5f}" if self.num_requests else "unknown"
            broken.append(f"--max-error-rate {max_error_rate:g}: it is {found}")
        return broken


class Stress:
    """Runs a load; `shots` holds what is done so far."""

    def __init__(self, pool: InferenceClient, load: Load, progress: Callable[[int], None] = lambda done: None) -> None:
        self._pool = pool
        self._load = load
        self._progress = progress
        self._next = 0
        self._begin_s = 0.0
        self._end_s: float | None = None
        self.shots: list[Shot] = []

    async def run(self) -> None:
        """Send everything. A cancellation ends it early; `report` is then of what was done."""
        self._begin_s = time.monotonic()
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(min(self._load.concurrency, self._load.num_requests)):
                    workers.create_task(self._work())
        finally:
            self._end_s = time.monotonic()

    async def _work(self) -> None:
        while self._next < self._load.num_requests:
            index = self._next
            self._next += 1
            self.shots.append(await self._shoot(index))
            self._progress(len(self.shots))

    async def _shoot(self, index: int) -> Shot:
        load, begin_s = self._load, time.monotonic()
        try:
            reply = await self._pool.chat(
                load.message(index),
                max_tokens=load.max_tokens,
                temperature=load.temperature,
                stage="stress",
                stream=load.stream,
            )
        except EndpointError as error:
            return Shot(begin_s - self._begin_s, time.monotonic() - begin_s, error.kind)
        latency_s = time.monotonic() - begin_s
        return Shot(begin_s - self._begin_s, latency_s, "", reply.num_completion_tokens, reply.time_to_first_token_s)

    def report(self) -> StressReport:
        answered = [shot for shot in self.shots if not shot.error]
        usage = self._pool.usage
        seconds = (self._end_s or time.monotonic()) - self._begin_s
        return StressReport(
            num_requests=len(self.shots),
            num_answered=len(answered),
            concurrency=self._load.concurrency,
            seconds=seconds,
            requests_per_s=len(answered) / seconds if seconds else 0.0,
            completion_tokens_per_s=sum(shot.num_tokens for shot in answered) / seconds if seconds else 0.0,
            error_rate=1 - len(answered) / len(self.shots) if self.shots else 0.0,
            latency_s=quantiles([shot.latency_s for shot in answered]),
            first_token_s=quantiles([shot.first_token_s for shot in answered if shot.first_token_s is not None]),
            errors=dict(Counter(shot.error for shot in self.shots if shot.error)),
            attempts_failed=dict(usage.failed("stress")),
            num_attempts=usage.total("requests", "stress"),
            num_retries=usage.total("retries", "stress"),
            num_hedges=usage.total("hedges", "stress"),
            cost=usage.cost("stress"),
        )


def quantiles(values: list[float]) -> dict[str, float]:
    """'p50' … 'p99', 'max' and 'mean' of `values`; empty without values. A value that was seen, not an
    interpolation."""
    if not values:
        return {}
    ordered = sorted(values)
    found = {f"p{share}": ordered[min(len(ordered) - 1, len(ordered) * share // 100)] for share in QUANTILES[:-1]}
    return {**found, "max": ordered[-1], "mean": statistics.fmean(ordered)}


def _quantiles_text(values: dict[str, float]) -> str:
    return "   ".join(f"{name} {value:.3f} s" for name, value in values.items()) or "no answers"


def _counted(counts: dict[str, Any]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items(), key=lambda item: -item[1])) or "none"
