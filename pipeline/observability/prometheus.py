"""A snapshot of a run as Prometheus metrics, for prometheus_client to write.

Names are those of OpenTelemetry's GenAI conventions where it has one, in Prometheus form; the rest begin with `lanpo_`.
Every label has few values: those of the configuration, stages, kinds of error; never one of a request, a problem or a
group."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from pipeline.observability.snapshot import Labels, Snapshot
from pipeline.runtime.histogram import Histogram

if TYPE_CHECKING:
    from prometheus_client import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
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
    "gen_ai_client_operation_duration_seconds": ("histogram", "Duration of the attempts that brought an answer."),
    "gen_ai_client_token_usage": (
        "histogram",
        "Tokens by type: sum over all answers and their number, without bounds.",
    ),
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
    "lanpo_event_loop_lag_seconds": ("histogram", "How late the event loop came to its timers."),
}
"""Type and help of every metric; the name of a counter ends in `_total`."""


def render(snapshot: Snapshot) -> str:
    """The text of a scrape, this process's memory, processor time and open files included."""
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

    registry = CollectorRegistry()
    registry.register(SnapshotCollector(snapshot))
    ProcessCollector(registry=registry)
    return generate_latest(registry).decode()


@dataclass(eq=False)
class SnapshotCollector:
    """Collector of prometheus_client over the numbers of one snapshot; a metric without a sample is left out."""

    snapshot: Snapshot

    def collect(self) -> Iterable[Metric]:
        from prometheus_client import Metric
        from prometheus_client.samples import Sample

        metrics = {
            name: Metric(name.removesuffix("_total"), meaning, kind) for name, (kind, meaning) in METRICS.items()
        }
        for name, labels, value in self.snapshot:
            # Prometheus takes a label without a value for one that is not there.
            shown = {label: text for label, text in labels.items() if text}
            of_histogram = _histogram(value, shown) if isinstance(value, Histogram) else [("", shown, value)]
            metrics[name].samples += [Sample(name + suffix, own, number) for suffix, own, number in of_histogram]
        return [metric for metric in metrics.values() if metric.samples]


def _histogram(histogram: Histogram, labels: Labels) -> Iterator[tuple[str, Labels, float]]:
    """What a sample's name has after the metric's, labels, value. `counts`, one more than `bounds`, are of the values
    between two bounds; Prometheus wants those up to each bound."""
    from prometheus_client.utils import floatToGoString

    for bound, num in zip((*histogram.bounds, math.inf), accumulate(histogram.counts), strict=True):
        yield "_bucket", {**labels, "le": floatToGoString(bound)}, num
    yield "_count", labels, sum(histogram.counts)
    yield "_sum", labels, histogram.total_s
