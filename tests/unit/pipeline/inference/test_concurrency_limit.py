"""The adaptive concurrency bound, the circuit breaker, the histogram: pure state."""

from __future__ import annotations

import random
import statistics

import pytest

from pipeline.inference.circuit_breaker import CircuitBreaker
from pipeline.inference.concurrency_limit import AdaptiveLimit
from pipeline.runtime.histogram import Histogram


def settled(
    limit: AdaptiveLimit, capacity: int, mishaps: float = 0.0, num_rounds: int = 400, latency_s: float = 1.0
) -> float:
    """Median bound after many rounds against an endpoint that refuses what exceeds `capacity` at once."""
    rng, seen = random.Random(1), []
    for number in range(num_rounds):
        value = int(limit.value)
        for index in range(value):
            if index >= capacity or rng.random() < mishaps:
                limit.on_overload(number * latency_s + index * 1e-6)
            else:
                limit.on_success(latency_s, value)
        seen.append(limit.value)
    return statistics.median(seen[num_rounds // 2 :])


def test_it_starts_full_and_stays_there_while_nothing_is_wrong() -> None:
    assert settled(AdaptiveLimit(512), capacity=10_000) == 512


@pytest.mark.parametrize("capacity", [5, 40, 300])
def test_it_settles_near_what_the_endpoint_can_take(capacity: int) -> None:
    assert 0.6 * capacity <= settled(AdaptiveLimit(512), capacity) <= 1.25 * capacity + 1


def test_rare_mishaps_do_not_hold_it_down() -> None:
    assert settled(AdaptiveLimit(512), capacity=10_000, mishaps=0.01) > 500


def test_it_never_falls_below_one_and_grows_back() -> None:
    limit = AdaptiveLimit(64)
    for second in range(100):
        limit.on_overload(float(second))
    assert limit.value == 1.0
    assert settled(limit, capacity=10_000) == 64


def test_one_burst_of_refusals_cuts_once() -> None:
    limit = AdaptiveLimit(100)
    limit.on_success(2.0, 100)
    for index in range(90):
        limit.on_overload(10.0 + index * 0.01)
    assert limit.value == pytest.approx(70)


def test_it_does_not_grow_while_latency_climbs() -> None:
    limit = AdaptiveLimit(100)
    for _ in range(50):
        limit.on_success(1.0, 100)
    for second in range(10, 30):
        limit.on_overload(float(second))
    low = limit.value
    for _ in range(40):
        limit.on_success(10.0, 100)
    assert not limit.latency_holds
    assert limit.value < low + 2


def test_a_fixed_one_does_not_move() -> None:
    assert settled(AdaptiveLimit(64, adaptive=False), capacity=8) == 64


def test_the_breaker_opens_after_failures_in_a_row_and_closes_after_a_probe() -> None:
    breaker = CircuitBreaker(3, min_pause_s=0.5, max_pause_s=4.0)
    assert not breaker.on_failure()
    breaker.num_failures = 0
    assert [breaker.on_failure() for _ in range(3)] == [False, False, True]
    assert (breaker.state, breaker.pause_s) == ("open", 0.5)
    assert not breaker.on_failure(), "open already"
    pauses = []
    for _ in range(5):
        breaker.begin_probe()
        assert breaker.state == "half_open"
        breaker.on_probe(succeeded=False)
        pauses.append(breaker.pause_s)
    assert pauses == [1.0, 2.0, 4.0, 4.0, 4.0]
    breaker.begin_probe()
    breaker.on_probe(succeeded=True)
    assert (breaker.state, breaker.num_failures, breaker.num_opened) == ("closed", 0, 1)


def test_proof_opens_the_breaker_at_once_and_is_probed_at_once() -> None:
    breaker = CircuitBreaker(5, min_pause_s=0.5, max_pause_s=4.0)
    assert breaker.on_failure(immediate=True)
    assert breaker.pause_s == 0.0
    breaker.on_probe(succeeded=False)
    assert breaker.pause_s == 0.5


def test_the_histogram_keeps_counts_and_quantiles_within_a_bucket() -> None:
    histogram = Histogram((1.0, 2.0, 4.0))
    for value in (0.5, 1.0, 1.5, 3.0, 100.0):
        histogram.add(value)
    assert histogram.counts == [2, 1, 1, 1]
    assert (histogram.num, histogram.total_s) == (5, 106.0)
    assert 0 < histogram.quantile(0.2) <= 1.0 < histogram.quantile(0.6) <= 2.0
    assert histogram.quantile(1.0) == 4.0, "beyond the last bound nothing is known"
    assert Histogram().quantile(0.5) == 0.0
