"""What a scrape is told of: the parts of a run, and their numbers at one moment.

Nothing is counted here and nothing happens between scrapes. `Sources.snapshot` copies numbers on the thread of the event loop that
changes them (1 ms for 50 endpoints of 5 stages); the copy may then be put into words on another thread."""

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
    from pipeline.inference.usage import Tally

Labels = tuple[str, ...]
ENDPOINT = ("pool", "endpoint", "server_address", "server_port", "gen_ai_request_model")
"""The labels of an endpoint. Its index in the pool tells apart what shares a host and port."""


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


class Spread(NamedTuple):
    """A histogram's numbers at one moment; `counts` has one more than `bounds`."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total_s: float

    @classmethod
    def of(cls, histogram: Histogram) -> Spread:
        return cls(histogram.bounds, tuple(histogram.counts), histogram.total_s)


class EndpointNow(NamedTuple):
    """One endpoint at one moment."""

    labels: Labels
    num_in_flight: int
    bound: float
    breaker: State
    num_opened: int


class StageNow(NamedTuple):
    """What one stage asked of one endpoint so far; of none in particular where the labels of the endpoint are empty."""

    labels: Labels
    stage: str
    num_requests: int
    num_succeeded: int
    tokens: tuple[int, int, int]
    """Prompt, completion, and of the prompt those that came from a cache."""
    cost: float
    latency: Spread
    others: dict[str, int]


class RunNow(NamedTuple):
    """The scheduler at one moment."""

    gauges: dict[str, int]
    outcomes: dict[str, int]


class Snapshot(NamedTuple):
    """All that is told in one scrape."""

    endpoints: list[EndpointNow]
    stages: list[StageNow]
    waiting: dict[str, int]
    seconds: dict[str, float]
    counts: dict[str, int]
    scheduler: RunNow | None
    stuck: tuple[int, int] | None
    """Waits that are stuck now, and those named so far."""
    loop_lag: Spread | None


@dataclass
class Sources:
    """The parts of a run to tell of. Filled in as they come up; what is not there (any more) is left out.

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
        endpoints, stages = [], []
        for name, pool in self.pools.items():
            labels = _labels(name, pool)
            endpoints += [
                EndpointNow(own, e.num_in_flight, e.limit.value, e.breaker.state, e.breaker.num_opened)
                for own, e in zip(labels, pool.endpoints, strict=True)
            ]
            stages += list(_stages(name, pool, labels))
        return Snapshot(
            endpoints=endpoints,
            stages=stages,
            waiting={name: pool.num_waiting for name, pool in self.pools.items()},
            seconds=clock.seconds_now(),
            counts=dict(clock.counts),
            scheduler=_run_now(self.scheduler) if self.scheduler else None,
            stuck=(self.watchdog.num_stuck, self.watchdog.num_named) if self.watchdog else None,
            loop_lag=Spread.of(self.loop_lag) if self.loop_lag else None,
        )


def _labels(name: str, pool: InferenceClient) -> list[Labels]:
    return [
        (name, str(index), endpoint.host_and_port[0], str(endpoint.host_and_port[1]), endpoint.model)
        for index, endpoint in enumerate(pool.endpoints)
    ]


def _stages(name: str, pool: InferenceClient, labels: list[Labels]) -> Iterator[StageNow]:
    by_url: dict[str, Labels] = {}
    for own, endpoint in zip(labels, pool.endpoints, strict=True):
        by_url.setdefault(endpoint.url, own)
    nobody = (name, *[""] * (len(ENDPOINT) - 1))
    for (url, stage), tally in pool.usage.tallies.items():
        cost = pool.usage.prices.cost(url, tally.num_prompt_tokens, tally.num_completion_tokens)
        yield _stage_now(by_url.get(url, nobody), stage, tally, cost)


def _stage_now(labels: Labels, stage: str, tally: Tally, cost: float) -> StageNow:
    tokens = tally.num_prompt_tokens, tally.num_completion_tokens, tally.num_cached_prompt_tokens
    return StageNow(
        labels=labels,
        stage=stage,
        num_requests=tally.num_requests,
        num_succeeded=tally.num_succeeded,
        tokens=tokens,
        cost=cost,
        latency=Spread.of(tally.latency),
        others=dict(tally.others),
    )


def _run_now(scheduler: SchedulerState) -> RunNow:
    gauges = {
        "groups_in_flight": scheduler.num_groups_in_flight,
        "groups_queued_for_journal": scheduler.num_queued_for_journal,
        "step": scheduler.step,
        "learner_step": scheduler.learner_step,
        "staleness_updates": scheduler.staleness,
        "experience_pool_entries": scheduler.pool_size,
    }
    return RunNow(gauges, dict(scheduler.outcomes))
