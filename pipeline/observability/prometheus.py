"""A snapshot of a run in the words of Prometheus.

Names are those of OpenTelemetry's GenAI conventions where it has one, in Prometheus form; the rest begin with `lanpo_`. Every label
has few values: those of the configuration, stages, kinds of error; never one of a request, a problem or a group.

Lines are put together here: prometheus_client takes 11 µs for one, which for 50 endpoints of 5 stages is a tenth of a second with the
interpreter's lock held, felt by every request in flight; this takes less than one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import accumulate
from typing import Literal, get_args

from pipeline.inference.circuit_breaker import State
from pipeline.inference.telemetry import PROVIDER, operation_of
from pipeline.observability.snapshot import ENDPOINT, Snapshot, Spread, StageNow

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FAILED = "failed_"
ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@lru_cache(maxsize=4096)
def labels_of(*pairs: tuple[str, str]) -> str:
    """Labels as text; one without a value is left out, which Prometheus takes for the same."""
    return ",".join([f'{name}="{value.translate(ESCAPES)}"' for name, value in pairs if value])


class Family:
    """One metric: its help, its type, its lines. The name of a counter ends in `_total`."""

    def __init__(self, kind: Literal["counter", "gauge", "histogram"], name: str, meaning: str) -> None:
        self._name = name
        self._head = f"# HELP {name} {meaning}\n# TYPE {name} {kind}\n"
        self._lines: list[str] = []

    def add(self, value: float, labels: str = "") -> None:
        self._lines.append(
            f"{self._name}{{{labels}}} {_number(value)}\n" if labels else f"{self._name} {_number(value)}\n"
        )

    def add_spread(self, spread: Spread, labels: str = "") -> None:
        name, inner = self._name, f"{labels}," if labels else ""
        counts = list(accumulate(spread.counts))
        begin = f'{name}_bucket{{{inner}le="'.replace("%", "%%")
        buckets = begin + begin.join(_buckets(spread.bounds))
        outer = f"{{{labels}}}" if labels else ""
        self._lines.append(buckets % tuple(counts))
        self._lines.append(f"{name}_count{outer} {counts[-1]}\n{name}_sum{outer} {_number(spread.total_s)}\n")

    def text(self) -> str:
        """'' for a family of which there is nothing to tell."""
        return self._head + "".join(self._lines) if self._lines else ""


@lru_cache(maxsize=16)
def _buckets(bounds: tuple[float, ...]) -> list[str]:
    """The ends of a histogram's lines, to be filled with its counts."""
    return [f'{_number(bound)}"}} %d\n' for bound in (*bounds, math.inf)]


def _number(value: float) -> str:
    return repr(value) if math.isfinite(value) else {math.inf: "+Inf", -math.inf: "-Inf"}.get(value, "NaN")


def render(snapshot: Snapshot) -> str:
    """The text of a scrape, this process's memory, processor time and open files included."""
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

    process = CollectorRegistry()
    ProcessCollector(registry=process)
    return "".join(family.text() for family in _families(snapshot)) + generate_latest(process).decode()


def _families(snapshot: Snapshot) -> Iterator[Family]:
    yield from _of_endpoints(snapshot)
    labels = [labels_of(*zip(ENDPOINT, now.labels, strict=True), ("stage", now.stage)) for now in snapshot.stages]
    stages = list(zip(labels, snapshot.stages, strict=True))
    yield from _of_requests(stages)
    yield from _of_answers(stages)
    yield from _of_run(snapshot)


def _of_endpoints(snapshot: Snapshot) -> Iterable[Family]:
    in_flight = Family("gauge", "lanpo_endpoint_requests_in_flight", "Requests that the endpoint is working on.")
    bound = Family("gauge", "lanpo_endpoint_concurrency_bound", "Adaptive bound of the requests in flight.")
    breaker = Family("gauge", "lanpo_endpoint_breaker_state", "1 for the present state of the circuit breaker.")
    opened = Family("counter", "lanpo_endpoint_breaker_opened_total", "Times that the circuit breaker opened.")
    for endpoint in snapshot.endpoints:
        labels = labels_of(*zip(ENDPOINT, endpoint.labels, strict=True))
        in_flight.add(endpoint.num_in_flight, labels)
        bound.add(endpoint.bound, labels)
        opened.add(endpoint.num_opened, labels)
        for state in get_args(State):
            breaker.add(int(state == endpoint.breaker), f"{labels},{labels_of(('state', state))}")
    waiting = Family("gauge", "lanpo_requests_waiting", "Requests that wait for a place.")
    for pool, num in snapshot.waiting.items():
        waiting.add(num, labels_of(("pool", pool)))
    return in_flight, bound, breaker, opened, waiting


def _of_requests(stages: list[tuple[str, StageNow]]) -> Iterable[Family]:
    sent = Family("counter", "lanpo_requests_total", "Attempts that went over the wire, canaries excepted.")
    succeeded = Family("counter", "lanpo_requests_succeeded_total", "Attempts that brought an answer.")
    retries = Family("counter", "lanpo_request_retries_total", "Further attempts after one that failed.")
    hedges = Family("counter", "lanpo_request_hedges_total", "Attempts sent beside one that took long.")
    failures = Family("counter", "lanpo_request_failures_total", "Attempts that failed, by kind of error.")
    for labels, now in stages:
        if now.num_requests:
            sent.add(now.num_requests, labels)
        if now.num_succeeded:
            succeeded.add(now.num_succeeded, labels)
        for name, count in now.others.items():
            if name.startswith(FAILED):
                failures.add(count, f"{labels},{labels_of(('error_type', name.removeprefix(FAILED)))}")
            elif name in ("retries", "hedges"):
                (retries if name == "retries" else hedges).add(count, labels)
    return sent, succeeded, retries, hedges, failures


def _of_answers(stages: list[tuple[str, StageNow]]) -> Iterable[Family]:
    duration = Family(
        "histogram", "gen_ai_client_operation_duration_seconds", "Duration of the attempts that brought an answer."
    )
    usage = Family(
        "histogram",
        "gen_ai_client_token_usage",
        "Tokens by type: sum over all answers and their number, without bounds.",
    )
    cached = Family(
        "counter", "lanpo_cached_prompt_tokens_total", "Prompt tokens that the endpoint had in its prefix cache."
    )
    cost = Family(
        "counter", "lanpo_cost_total", "What the tokens cost, by and in the currency of the configured prices."
    )
    for labels, now in stages:
        operation = (("gen_ai_operation_name", operation_of(now.stage)), ("gen_ai_provider_name", PROVIDER))
        gen_ai = f"{labels},{labels_of(*operation)}"
        if any(now.latency.counts):
            duration.add_spread(now.latency, gen_ai)
        num_prompt, num_completion, num_cached = now.tokens
        if num_prompt or num_completion:
            for kind, num in (("input", num_prompt), ("output", num_completion)):
                of_kind = f"{gen_ai},{labels_of(('gen_ai_token_type', kind))}"
                usage.add_spread(Spread((), (now.num_succeeded,), num), of_kind)
            cached.add(num_cached, labels)
            cost.add(now.cost, labels)
    return duration, usage, cached, cost


GAUGES = {
    "groups_in_flight": "Groups that are being sampled, scored or journalled.",
    "groups_queued_for_journal": "Groups that wait for their commit.",
    "step": "Step whose groups were begun last.",
    "learner_step": "Optimizer steps that the learner had completed when a step was begun last.",
    "staleness_updates": "Weight updates by which the oldest sample of the last whole step lags behind that step.",
    "experience_pool_entries": "Entries of the experience pool.",
}


def _of_run(snapshot: Snapshot) -> Iterator[Family]:
    seconds = Family("counter", "lanpo_stage_seconds_total", "Wall-clock seconds that a stage was busy.")
    for stage, spent_s in snapshot.seconds.items():
        seconds.add(spent_s, labels_of(("stage", stage)))
    events = Family("counter", "lanpo_events_total", "Events of the loop, by name.")
    for event, num in snapshot.counts.items():
        events.add(num, labels_of(("event", event)))
    yield from (seconds, events)
    if snapshot.scheduler is not None:
        for name, value in snapshot.scheduler.gauges.items():
            gauge = Family("gauge", f"lanpo_{name}", GAUGES[name])
            gauge.add(value)
            yield gauge
        outcomes = Family("counter", "lanpo_group_outcomes_total", "What became of attempts at groups, by kind.")
        for kind, num in snapshot.scheduler.outcomes.items():
            outcomes.add(num, labels_of(("outcome", kind)))
        yield outcomes
    if snapshot.stuck is not None:
        stuck = Family("gauge", "lanpo_stuck_waits", "Waits that the watchdog named and that go on.")
        stuck.add(snapshot.stuck[0])
        named = Family("counter", "lanpo_stuck_waits_named_total", "Waits that the watchdog has named.")
        named.add(snapshot.stuck[1])
        yield from (stuck, named)
    if snapshot.loop_lag is not None:
        lag = Family("histogram", "lanpo_event_loop_lag_seconds", "How late the event loop came to its timers.")
        lag.add_spread(snapshot.loop_lag)
        yield lag
