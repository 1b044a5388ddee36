"""The numbers of a run at one moment, copied from its parts for a scrape.

Nothing is counted here and nothing happens between scrapes. `RunSources.snapshot` copies numbers on the thread of the
event loop that changes them; the copy may then be rendered on another thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pipeline.inference.circuit_breaker import State
from pipeline.runtime.histogram import Histogram
from pipeline.runtime.stage_clock import StageClock
from pipeline.runtime.watchdog import Watchdog

if TYPE_CHECKING:
    from pipeline.inference.client import InferenceClient
    from pipeline.inference.endpoint import Endpoint

Labels = dict[str, str]


class SchedulerState(Protocol):
    """What a scrape reads of the scheduler."""

    @property
    def num_groups_in_flight(self) -> int: ...
    @property
    def num_queued_for_journal(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def learner_step(self) -> int: ...
    @property
    def staleness(self) -> int: ...
    @property
    def pool_size(self) -> int: ...
    @property
    def outcomes(self) -> Mapping[str, int]: ...


class EndpointNow(NamedTuple):
    """One endpoint at one moment."""

    labels: Labels
    num_in_flight: int
    bound: float
    breaker: State
    num_opened: int


class StageNow(NamedTuple):
    """What one stage requested of one endpoint so far; of none in particular where only `pool` labels it."""

    labels: Labels
    stage: str
    counts: dict[str, int]
    """By the names of `Tally.counts`."""
    cost: float
    latency: Histogram


class Snapshot(NamedTuple):
    """All numbers of one scrape."""

    endpoints: list[EndpointNow]
    stages: list[StageNow]
    waiting: dict[str, int]
    seconds: dict[str, float]
    counts: dict[str, int]
    gauges: dict[str, int]
    """Of the scheduler, as `outcomes`; both are empty before it is there."""
    outcomes: dict[str, int]
    stuck: tuple[int, int] | None
    """Waits that are stuck now, and those named so far."""
    loop_lag: Histogram | None


@dataclass
class RunSources:
    """The parts of a run that a scrape reads. Filled in as they come up; what is not there (any more) is left out.

    `learner` raises a LanpoError when the learner failed or is gone."""

    pools: dict[str, InferenceClient] = field(default_factory=dict)
    clock: Callable[[], StageClock] | None = None
    scheduler: SchedulerState | None = None
    watchdog: Watchdog | None = None
    learner: Callable[[], object] | None = None
    loop_lag: Histogram | None = None

    def snapshot(self) -> Snapshot:
        """To be called on the thread of the event loop that the parts live on."""
        clock = self.clock() if self.clock else StageClock()
        endpoints: list[EndpointNow] = []
        stages: list[StageNow] = []
        for name, pool in self.pools.items():
            labels = [_labels(name, index, endpoint) for index, endpoint in enumerate(pool.endpoints)]
            endpoints += [
                EndpointNow(own, e.num_in_flight, e.limit.value, e.breaker.state, e.breaker.num_opened)
                for own, e in zip(labels, pool.endpoints, strict=True)
            ]
            stages += _stages(name, pool, labels)
        return Snapshot(
            endpoints=endpoints,
            stages=stages,
            waiting={name: pool.num_waiting for name, pool in self.pools.items()},
            seconds=clock.seconds_now(),
            counts=dict(clock.counts),
            gauges=_gauges(self.scheduler) if self.scheduler else {},
            outcomes=dict(self.scheduler.outcomes) if self.scheduler else {},
            stuck=(self.watchdog.num_stuck, self.watchdog.num_reported) if self.watchdog else None,
            loop_lag=self.loop_lag.copy() if self.loop_lag else None,
        )


def _labels(pool: str, index: int, endpoint: Endpoint) -> Labels:
    """The labels of an endpoint. Its index in the pool tells apart what shares a host and port."""
    address, port = endpoint.host_and_port
    return {
        "pool": pool,
        "endpoint": str(index),
        "server_address": address,
        "server_port": str(port),
        "gen_ai_request_model": endpoint.model,
    }


def _stages(name: str, pool: InferenceClient, labels: list[Labels]) -> Iterator[StageNow]:
    by_url: dict[str, Labels] = {}
    for own, endpoint in zip(labels, pool.endpoints, strict=True):
        by_url.setdefault(endpoint.url, own)
    for (url, stage), tally in pool.usage.tallies.items():
        cost = pool.usage.prices.cost(url, tally.num_prompt_tokens, tally.num_completion_tokens)
        yield StageNow(by_url.get(url, {"pool": name}), stage, tally.counts(), cost, tally.latency.copy())


def _gauges(scheduler: SchedulerState) -> dict[str, int]:
    return {
        "groups_in_flight": scheduler.num_groups_in_flight,
        "groups_queued_for_journal": scheduler.num_queued_for_journal,
        "step": scheduler.step,
        "learner_step": scheduler.learner_step,
        "staleness_updates": scheduler.staleness,
        "experience_pool_entries": scheduler.pool_size,
    }
