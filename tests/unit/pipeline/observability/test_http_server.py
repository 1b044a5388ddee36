"""A scrape tells what was counted, in names and labels that stay few; readiness tells why not."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.utils import floatToGoString

from pipeline.config.endpoints import EndpointSettings, RequestsSection
from pipeline.errors import ProcessEndedError
from pipeline.inference.client import InferenceClient
from pipeline.observability.http_server import OperationsServer, readiness
from pipeline.observability.prometheus import render
from pipeline.observability.snapshot import RunSources
from pipeline.runtime.histogram import Histogram
from pipeline.runtime.stage_clock import StageClock
from pipeline.runtime.watchdog import Watchdog

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]
LABELS = (
    "pool",
    "endpoint",
    "server_address",
    "server_port",
    "gen_ai_request_model",
    "stage",
    "state",
    "error_type",
    "event",
    "outcome",
    "le",
    "gen_ai_operation_name",
    "gen_ai_provider_name",
    "gen_ai_token_type",
)
UNITS = (
    "_seconds",
    "_bytes",
    "_updates",
    "_entries",
    "_state",
    "_bound",
    "_in_flight",
    "_waiting",
    "_waits",
    "_step",
    "_journal",
)


class Running:
    """A scheduler as a scrape sees it."""

    def __init__(self) -> None:
        self.outcomes = Counter(journalled=40, failed=1)

    def gauges(self) -> dict[str, int]:
        return {
            "groups_in_flight": 7,
            "groups_queued_for_journal": 2,
            "step": 5,
            "learner_step": 4,
            "staleness_updates": 1,
            "experience_pool_entries": 33,
        }


def client_of(*urls: str, **prices: float) -> InferenceClient:
    """A pool that was never entered: it counts, and needs no loop."""
    return InferenceClient(tuple(EndpointSettings(url=url, **prices) for url in urls), "policy", RequestsSection())


def a_run() -> RunSources:
    """Every part that can be told of, with something counted in each."""
    pool = client_of("http://10.0.0.1:8000/v1", "http://10.0.0.2:8000", prompt_price=1.0, completion_price=2.0)
    pool.endpoints[1].num_in_flight = 3
    pool.endpoints[1].breaker.on_failure(immediate=True)
    tally = pool.usage.tallies["http://10.0.0.1:8000", "rollout"]
    tally.num_requests, tally.num_succeeded = 5, 3
    tally.num_prompt_tokens, tally.num_completion_tokens, tally.num_cached_prompt_tokens = 1_000_000, 500_000, 300
    for seconds in (0.01, 0.3, 5000.0):
        tally.latency.add(seconds)
    tally.others.update({"failed_http_503": 2, "hedges": 1})
    pool.usage.tallies["", "rollout"].others.update({"retries": 2, "failed_deadline": 1})
    clock = StageClock()
    clock.seconds["rollout"] = 12.5
    clock.count("attempts_sampled", 9)
    return RunSources(
        pools={"policy": pool, "summarizer": client_of("http://10.0.0.1:8000")},
        clock=lambda: clock,
        scheduler=Running(),
        watchdog=Watchdog(),
        loop_lag=Histogram(),
    )


def values_of(sources: RunSources) -> Values:
    text = render(sources.snapshot())
    values: Values = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, frozenset((k, v) for k, v in sample.labels.items() if v)
            assert key not in values, f"{key} is told twice"
            values[key] = sample.value
    return values


def find(values: Values, name: str, **labels: str) -> float:
    """The one value of that name with these labels among others."""
    (value,) = [v for (n, found), v in values.items() if n == name and set(labels.items()) <= found]
    return value


def test_every_number_of_an_endpoint_is_told() -> None:
    values = values_of(a_run())
    first, second = {"pool": "policy", "endpoint": "0"}, {"pool": "policy", "endpoint": "1"}
    assert find(values, "lanpo_endpoint_requests_in_flight", **second) == 3
    assert find(values, "lanpo_endpoint_concurrency_bound", **first) == 128
    assert find(values, "lanpo_endpoint_breaker_state", state="open", **second) == 1
    assert find(values, "lanpo_endpoint_breaker_state", state="closed", **second) == 0
    assert find(values, "lanpo_endpoint_breaker_opened_total", **second) == 1
    assert find(values, "lanpo_requests_total", server_address="10.0.0.1", server_port="8000", stage="rollout") == 5
    assert find(values, "lanpo_requests_succeeded_total", **first) == 3
    assert find(values, "lanpo_request_failures_total", error_type="http_503", **first) == 2
    assert find(values, "lanpo_request_failures_total", error_type="deadline", pool="policy") == 1
    assert find(values, "lanpo_request_retries_total", pool="policy", stage="rollout") == 2
    assert find(values, "lanpo_request_hedges_total", **first) == 1
    assert find(values, "lanpo_requests_waiting", pool="summarizer") == 0
    assert find(values, "lanpo_cached_prompt_tokens_total", **first) == 300
    assert find(values, "lanpo_cost_total", **first) == pytest.approx(2.0)


def test_what_opentelemetry_names_has_its_name_and_labels() -> None:
    values = values_of(a_run())
    labels = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "openai",
        "gen_ai_request_model": "policy",
        "server_address": "10.0.0.1",
        "server_port": "8000",
    }
    duration = "gen_ai_client_operation_duration_seconds"
    buckets = {
        le: find(values, f"{duration}_bucket", le=le, **labels) for le in ("0.01", "0.16", "0.32", "1310.72", "+Inf")
    }
    assert buckets == {"0.01": 1, "0.16": 1, "0.32": 2, "1310.72": 2, "+Inf": 3}
    assert find(values, f"{duration}_count", **labels) == 3
    assert find(values, f"{duration}_sum", **labels) == pytest.approx(5000.31)
    for kind, num in (("input", 1_000_000), ("output", 500_000)):
        assert find(values, "gen_ai_client_token_usage_sum", gen_ai_token_type=kind, **labels) == num
        assert find(values, "gen_ai_client_token_usage_count", gen_ai_token_type=kind, **labels) == 3


def test_the_run_is_told() -> None:
    values = values_of(a_run())
    reported = {name: value for (name, labels), value in values.items() if not labels}
    assert reported["lanpo_groups_in_flight"] == 7
    assert reported["lanpo_groups_queued_for_journal"] == 2
    assert reported["lanpo_step"] == 5
    assert reported["lanpo_learner_step"] == 4
    assert reported["lanpo_staleness_updates"] == 1
    assert reported["lanpo_experience_pool_entries"] == 33
    assert reported["lanpo_stuck_waits"] == reported["lanpo_stuck_waits_named_total"] == 0
    assert reported["process_resident_memory_bytes"] > 1e6
    assert reported["process_open_fds"] > 2
    assert find(values, "lanpo_group_outcomes_total", outcome="journalled") == 40
    assert find(values, "lanpo_stage_seconds_total", stage="rollout") == 12.5
    assert find(values, "lanpo_events_total", event="attempts_sampled") == 9


def test_endpoints_that_share_a_host_and_port_are_told_apart() -> None:
    pool = client_of("http://gateway:80/a", "http://gateway:80/b")
    for number, endpoint in enumerate(pool.endpoints):
        pool.usage.tallies[endpoint.url, "eval"].num_requests = number + 1
    values = values_of(RunSources(pools={"policy": pool}))
    assert [find(values, "lanpo_requests_total", endpoint=index) for index in "01"] == [1, 2]


def test_of_a_run_that_has_only_begun_little_is_told() -> None:
    values = values_of(RunSources())
    assert {name for name, _ in values if not name.startswith("process_")} == set()


def test_the_text_can_be_read_and_has_units_and_helps() -> None:
    text = render(a_run().snapshot())
    families = list(text_string_to_metric_families(text))
    assert len(families) > 25
    assert text.count("# TYPE") == len({family.name for family in families})
    for family in families:
        assert family.documentation, family.name
        assert re.fullmatch(r"(lanpo|gen_ai_client|process)_[a-z_]+", family.name)
        assert family.type in ("counter", "gauge", "histogram")
        if family.type == "gauge" and family.name.startswith("lanpo_"):
            assert family.name.endswith(UNITS), family.name
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total"), sample.name


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "new\nline", "comma,brace}", "ümläut", "\\n"])
@pytest.mark.parametrize("value", [0, 1, 0.1, 1e-9, 1e300, 123456789012, float("inf"), float("-inf")])
def test_labels_and_numbers_are_read_as_they_were_written(name: str, value: float) -> None:
    clock = StageClock()
    clock.seconds[name] = value
    text = render(RunSources(clock=lambda: clock).snapshot())
    (read,) = (family for family in text_string_to_metric_families(text) if family.name == "lanpo_stage_seconds")
    assert [(sample.labels, sample.value) for sample in read.samples] == [({"stage": name}, value)]


def test_a_label_without_a_value_is_left_out() -> None:
    pool = client_of("http://a:1")
    pool.usage.tallies["", "rollout"].others["retries"] = 1
    text = render(RunSources(pools={"": pool}).snapshot())
    assert 'lanpo_request_retries_total{stage="rollout"} 1.0\n' in text


def test_what_is_written_is_what_the_client_library_writes() -> None:
    sources = RunSources(pools={"1%d": client_of("http://a:1")})
    histogram = sources.pools["1%d"].usage.tallies["http://a:1", 'q"'].latency
    for seconds in (0.001, 0.5, 0.5, 9999.0):
        histogram.add(seconds)
    name = "gen_ai_client_operation_duration_seconds"
    (ours,) = (family for family in text_string_to_metric_families(render(sources.snapshot())) if family.name == name)
    labels = ours.samples[-1].labels
    assert (labels["pool"], labels["stage"]) == ("1%d", 'q"')
    theirs = HistogramMetricFamily(name, ours.documentation, labels=list(labels))
    bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
    theirs.add_metric(
        list(labels.values()), list(zip(bounds, accumulate(histogram.counts), strict=True)), histogram.total_s
    )
    written = generate_latest(SimpleNamespace(collect=lambda: [theirs])).decode()
    assert [ours] == list(text_string_to_metric_families(written))


def test_names_types_labels_and_values_are_those_that_users_scrape() -> None:
    """The file was written when the text was put together by hand."""
    kept = (Path(__file__).parent / "exposition.txt").read_text(encoding="utf-8")

    def reported(text: str) -> dict[str, tuple[str, list[tuple[str, list[tuple[str, str]], float]]]]:
        families = (family for family in text_string_to_metric_families(text) if "process_" not in family.name)
        return {
            family.name: (family.type, sorted((s.name, sorted(s.labels.items()), s.value) for s in family.samples))
            for family in families
        }

    assert reported(render(a_run().snapshot())) == reported(kept)


def test_labels_stay_few_however_much_is_asked() -> None:
    """Requests, groups and problems come and go; the number of lines is that of endpoints × stages × kinds of error."""
    sources = a_run()
    before = values_of(sources)
    tally = sources.pools["policy"].usage.tallies["http://10.0.0.1:8000", "rollout"]
    for _ in range(1000):
        tally.num_requests += 1
        tally.latency.add(0.1)
        tally.others["failed_http_503"] += 1
    after = values_of(sources)
    assert after.keys() == before.keys()
    assert {label for _, labels in after for label, _ in labels} <= set(LABELS)


def test_a_snapshot_of_a_large_run_takes_the_loop_less_than_five_milliseconds() -> None:
    pool = client_of(*(f"http://10.0.0.{number}:8000" for number in range(50)))
    for endpoint in pool.endpoints:
        for stage in ("rollout", "reflect", "abstract", "render", "eval"):
            tally = pool.usage.tallies[endpoint.url, stage]
            tally.num_requests = 1
            tally.latency.add(0.1)
            tally.others["failed_timeout"] += 1
    sources = RunSources(pools={"policy": pool})
    spent_s = []
    for _ in range(20):
        begin_s = time.perf_counter()
        sources.snapshot()
        spent_s.append(time.perf_counter() - begin_s)
    assert min(spent_s) < 0.005


# Readiness


def test_a_run_is_not_ready_before_it_has_endpoints() -> None:
    assert readiness(RunSources()) == (False, ("no endpoint is known yet: servers are being started",))


def test_one_closed_breaker_is_enough() -> None:
    pool = client_of("http://a:1", "http://b:2")
    sources = RunSources(pools={"policy": pool})
    assert readiness(sources).ready
    pool.endpoints[0].breaker.on_failure(immediate=True)
    assert readiness(sources).ready
    pool.endpoints[1].breaker.on_failure(immediate=True)
    pool.endpoints[1].breaker.begin_probe()
    assert readiness(sources) == (
        False,
        ("no endpoint of the pool 'policy' has a closed breaker: a:1 is open, b:2 is half_open",),
    )


def test_a_learner_that_is_gone_is_a_reason() -> None:
    def gone() -> Any:
        raise ProcessEndedError("the learner ended with status -9")

    sources = RunSources(pools={"policy": client_of("http://a:1")}, learner=lambda: SimpleNamespace(state="training"))
    assert readiness(sources).ready
    sources.learner = gone
    assert readiness(sources) == (False, ("the learner ended with status -9",))


# The server


async def test_without_a_port_nothing_is_started() -> None:
    sources, threads = RunSources(), threading.active_count()
    async with OperationsServer(0, sources):
        assert threading.active_count() == threads
    assert sources.loop_lag is None
