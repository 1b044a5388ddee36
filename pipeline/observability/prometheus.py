"""A snapshot of a run as Prometheus metrics, for prometheus_client to write.

Names are those of OpenTelemetry's GenAI conventions where it has one, in Prometheus form; the rest begin with `lanpo_`.
Every label has few values: those of the configuration, stages, kinds of error; never one of a request, a problem or a
group."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, get_args

from pipeline.inference.circuit_breaker import State
from pipeline.inference.telemetry import PROVIDER, operation_of
from pipeline.observability.snapshot import Labels, Snapshot, StageNow

if TYPE_CHECKING:
    from prometheus_client import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FAILED = "failed_"
DURATION, TOKENS = "gen_ai_client_operation_duration_seconds", "gen_ai_client_token_usage"
LAG = "lanpo_event_loop_lag_seconds"
METRICS = {
    "lanpo_endpoint_requests_in_flight": ("gauge", "Requests that the endpoint is working on."),
    "lanpo_endpoint_concurrency_bound": ("gauge", "Adaptive bound of the requests in flight."),
    "lanpo_endpoint_breaker_state": ("gauge", "1 for the present state of the circuit breaker."),
    "lanpo_endpoint_breaker_opened_total": ("counter", "Times that the circuit breaker opened."),
    "lanpo_requests_waiting": ("gauge", "Requests that wait for a slot at an endpoint."),
    "lanpo_requests_total": ("counter", "Attempts that went over the wire, probes excepted."),
    "lanpo_requests_succeeded_total": ("counter", "Attempts that brought an answer."),
    "lanpo_request_retries_total": ("counter", "Further attempts after one that failed."),
    "lanpo_request_hedges_total": ("counter", "Attempts sent beside one that took long."),
    "lanpo_request_failures_total": ("counter", "Attempts that failed, by kind of error."),
    DURATION: ("histogram", "Duration of the attempts that brought an answer."),
    TOKENS: ("histogram", "Tokens by type: sum over all answers and their number, without bounds."),
    "lanpo_cached_prompt_tokens_total": ("counter", "Prompt tokens that the endpoint had in its prefix cache."),
    "lanpo_cost_total": ("counter", "What the tokens cost, by and in the currency of the configured prices."),
    "lanpo_stage_seconds_total": ("counter", "Wall-clock seconds that a stage was busy."),
    "lanpo_events_total": ("counter", "Events of the loop, by name."),
    "lanpo_groups_in_flight": ("gauge", "Groups that are being sampled, scored or journalled."),
    "lanpo_groups_queued_for_journal": ("gauge", "Groups that wait for their commit."),
    "lanpo_step": ("gauge", "Step whose groups were begun last."),
    "lanpo_learner_step": ("gauge", "Optimizer steps that the learner had completed when a step was begun last."),
    "lanpo_staleness_updates": (
        "gauge",
        "Weight updates by which the oldest sample of the last whole step lags behind that step.",
    ),
    "lanpo_experience_pool_entries": ("gauge", "Entries of the experience pool."),
    "lanpo_group_outcomes_total": ("counter", "What became of attempts at groups, by kind."),
    "lanpo_stuck_waits": ("gauge", "Waits that the watchdog named and that go on."),
    "lanpo_stuck_waits_named_total": ("counter", "Waits that the watchdog has named."),
    LAG: ("histogram", "How late the event loop came to its timers."),
}
"""Type and help of every metric; the name of a counter ends in `_total`."""

Values = Iterator[tuple[str, str, Labels, float]]
"""Samples: the metric's name, what the sample's name has after it, labels, value."""


def render(snapshot: Snapshot) -> str:
    """The text of a scrape, this process's memory, processor time and open files included."""
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

    registry = CollectorRegistry()
    registry.register(SnapshotCollector(snapshot))
    ProcessCollector(registry=registry)
    return generate_latest(registry).decode()


class SnapshotCollector:
    """Collector of prometheus_client over the numbers of one snapshot; a metric without a sample is left out."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        from prometheus_client import Metric
        from prometheus_client.samples import Sample

        metrics = {
            name: Metric(name.removesuffix("_total"), meaning, kind) for name, (kind, meaning) in METRICS.items()
        }
        for name, suffix, labels, value in _values(self._snapshot):
            # Prometheus takes a label without a value for one that is not there.
            shown = {label: text for label, text in labels.items() if text}
            metrics[name].samples.append(Sample(name + suffix, shown, value))
        return [metric for metric in metrics.values() if metric.samples]


def _values(snapshot: Snapshot) -> Values:
    yield from _of_endpoints(snapshot)
    for now in snapshot.stages:
        labels = {**now.labels, "stage": now.stage}
        yield from _of_requests(now, labels)
        yield from _of_answers(now, labels)
    yield from _of_run(snapshot)


def _of_endpoints(snapshot: Snapshot) -> Values:
    for now in snapshot.endpoints:
        yield "lanpo_endpoint_requests_in_flight", "", now.labels, now.num_in_flight
        yield "lanpo_endpoint_concurrency_bound", "", now.labels, now.bound
        yield "lanpo_endpoint_breaker_opened_total", "", now.labels, now.num_opened
        for state in get_args(State):
            yield "lanpo_endpoint_breaker_state", "", {**now.labels, "state": state}, state == now.breaker
    for pool, num in snapshot.waiting.items():
        yield "lanpo_requests_waiting", "", {"pool": pool}, num


def _of_requests(now: StageNow, labels: Labels) -> Values:
    names = {
        "requests": "lanpo_requests_total",
        "succeeded": "lanpo_requests_succeeded_total",
        "retries": "lanpo_request_retries_total",
        "hedges": "lanpo_request_hedges_total",
    }
    for name, num in now.counts.items():
        if name in names:
            yield names[name], "", labels, num
        elif name.startswith(FAILED):
            yield "lanpo_request_failures_total", "", {**labels, "error_type": name.removeprefix(FAILED)}, num


def _of_answers(now: StageNow, labels: Labels) -> Values:
    named = {**labels, "gen_ai_operation_name": operation_of(now.stage), "gen_ai_provider_name": PROVIDER}
    if now.latency.num:
        yield from _histogram(DURATION, named, now.latency.bounds, now.latency.counts, now.latency.total_s)
    num_prompt, num_completion = now.counts.get("prompt_tokens", 0), now.counts.get("completion_tokens", 0)
    if num_prompt or num_completion:
        num_answers = now.counts.get("succeeded", 0)
        for kind, num in (("input", num_prompt), ("output", num_completion)):
            yield from _histogram(TOKENS, {**named, "gen_ai_token_type": kind}, (), [num_answers], num)
        yield "lanpo_cached_prompt_tokens_total", "", labels, now.counts.get("cached_prompt_tokens", 0)
        yield "lanpo_cost_total", "", labels, now.cost


def _of_run(snapshot: Snapshot) -> Values:
    for stage, spent_s in snapshot.seconds.items():
        yield "lanpo_stage_seconds_total", "", {"stage": stage}, spent_s
    for event, num in snapshot.counts.items():
        yield "lanpo_events_total", "", {"event": event}, num
    for name, num in snapshot.gauges.items():
        yield f"lanpo_{name}", "", {}, num
    for kind, num in snapshot.outcomes.items():
        yield "lanpo_group_outcomes_total", "", {"outcome": kind}, num
    if snapshot.stuck is not None:
        num_stuck, num_named = snapshot.stuck
        yield "lanpo_stuck_waits", "", {}, num_stuck
        yield "lanpo_stuck_waits_named_total", "", {}, num_named
    if snapshot.loop_lag is not None:
        yield from _histogram(LAG, {}, snapshot.loop_lag.bounds, snapshot.loop_lag.counts, snapshot.loop_lag.total_s)


def _histogram(name: str, labels: Labels, bounds: Sequence[float], counts: list[int], total: float) -> Values:
    """`counts`, one more than `bounds`, are of the values between two bounds; Prometheus wants those up to each
    bound."""
    from prometheus_client.utils import floatToGoString

    for bound, num in zip((*bounds, math.inf), accumulate(counts), strict=True):
        yield name, "_bucket", {**labels, "le": floatToGoString(bound)}, num
    yield name, "_count", labels, sum(counts)
    yield name, "_sum", labels, total
