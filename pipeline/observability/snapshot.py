"""The numbers of a run at one moment, copied from its parts for a scrape.

Nothing is counted here and nothing happens between scrapes. `RunSources.snapshot` copies numbers on the thread of the
event loop that changes them; the copy may then be rendered on another thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, get_args

from pipeline.inference.circuit_breaker import State
from pipeline.inference.telemetry import PROVIDER, operation_of
from pipeline.runtime.histogram import Histogram
from pipeline.runtime.stage_clock import StageClock
from pipeline.runtime.watchdog import Watchdog

if TYPE_CHECKING:
    from pipeline.inference.client import InferenceClient
    from pipeline.inference.endpoint import Endpoint
    from pipeline.inference.usage import Tally

FAILED = "failed_"
Labels = dict[str, str]
Snapshot = list[tuple[str, Labels, float | Histogram]]
"""All numbers of one scrape, each with its metric (`pipeline.observability.prometheus`) and its labels."""
Samples = Iterator[tuple[str, Labels, float | Histogram]]


class SchedulerState(Protocol):
    """What a scrape reads of the scheduler."""

    def gauges(self) -> Mapping[str, int]: ...
    @property
    def outcomes(self) -> Mapping[str, int]: ...


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
        return [*self._of_pools(), *self._of_run()]

    def _of_pools(self) -> Samples:
        for name, pool in self.pools.items():
            labels = [_labels(name, index, endpoint) for index, endpoint in enumerate(pool.endpoints)]
            by_url: dict[str, Labels] = {}
            for own, endpoint in zip(labels, pool.endpoints, strict=True):
                by_url.setdefault(endpoint.url, own)
                yield from _of_endpoint(endpoint, own)
            yield "lanpo_requests_waiting", {"pool": name}, pool.num_waiting
            for (url, stage), tally in pool.usage.tallies.items():
                of_stage = {**by_url.get(url, {"pool": name}), "stage": stage}
                yield from _of_requests(tally, of_stage)
                cost = pool.usage.prices.cost(url, tally.num_prompt_tokens, tally.num_completion_tokens)
                yield from _of_answers(tally, of_stage, cost)

    def _of_run(self) -> Samples:
        if self.clock:
            clock = self.clock()
            for stage, spent_s in clock.seconds_now().items():
                yield "lanpo_stage_seconds_total", {"stage": stage}, spent_s
            for event, num in clock.counts.items():
                yield "lanpo_events_total", {"event": event}, num
        if self.scheduler:
            for name, num in self.scheduler.gauges().items():
                yield f"lanpo_{name}", {}, num
            for kind, num in self.scheduler.outcomes.items():
                yield "lanpo_group_outcomes_total", {"outcome": kind}, num
        if self.watchdog:
            yield "lanpo_stuck_waits", {}, self.watchdog.num_stuck
            yield "lanpo_stuck_waits_named_total", {}, self.watchdog.num_reported
        if self.loop_lag:
            yield "lanpo_event_loop_lag_seconds", {}, self.loop_lag.copy()


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


def _of_endpoint(endpoint: Endpoint, labels: Labels) -> Samples:
    yield "lanpo_endpoint_requests_in_flight", labels, endpoint.num_in_flight
    yield "lanpo_endpoint_concurrency_bound", labels, endpoint.limit.value
    yield "lanpo_endpoint_breaker_opened_total", labels, endpoint.breaker.num_opened
    for state in get_args(State):
        yield "lanpo_endpoint_breaker_state", {**labels, "state": state}, state == endpoint.breaker.state


def _of_requests(tally: Tally, labels: Labels) -> Samples:
    names = {
        "requests": "lanpo_requests_total",
        "succeeded": "lanpo_requests_succeeded_total",
        "retries": "lanpo_request_retries_total",
        "hedges": "lanpo_request_hedges_total",
    }
    for name, num in tally.counts().items():
        if name in names:
            yield names[name], labels, num
        elif name.startswith(FAILED):
            yield "lanpo_request_failures_total", {**labels, "error_type": name.removeprefix(FAILED)}, num


def _of_answers(tally: Tally, labels: Labels, cost: float) -> Samples:
    named = {**labels, "gen_ai_operation_name": operation_of(labels["stage"]), "gen_ai_provider_name": PROVIDER}
    if tally.latency.num:
        yield "gen_ai_client_operation_duration_seconds", named, tally.latency.copy()
    if tally.num_prompt_tokens or tally.num_completion_tokens:
        for kind, num in (("input", tally.num_prompt_tokens), ("output", tally.num_completion_tokens)):
            tokens = Histogram(())
            tokens.counts, tokens.total_s = [tally.num_succeeded], num
            yield "gen_ai_client_token_usage", {**named, "gen_ai_token_type": kind}, tokens
        yield "lanpo_cached_prompt_tokens_total", labels, tally.num_cached_prompt_tokens
        yield "lanpo_cost_total", labels, cost
