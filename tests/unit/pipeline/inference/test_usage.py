"""What tokens cost: one formula for a request, a stage, a client and an evaluation's folder."""

from __future__ import annotations

import pytest

from pipeline.config.endpoints import EndpointSettings
from pipeline.evaluation.cost import failed_attempts
from pipeline.inference.usage import Prices, Spent, Usage

PRICED = EndpointSettings(url="http://a/v1", prompt_price=1.0, completion_price=10.0)
OTHER = EndpointSettings(url="http://b", prompt_price=100.0)


def test_prices_are_of_a_million_tokens_by_endpoint() -> None:
    prices = Prices([PRICED], OTHER)
    assert prices.given
    assert prices.cost("http://a", 3_000_000, 2_000_000) == pytest.approx(23.0)
    assert prices.cost("http://b", 50, 7) == pytest.approx(50 * 100 / 1e6)
    assert prices.cost("http://moved", 1_000_000, 0) == 1.0, "the model of the first one at another address"


def test_without_prices_nothing_costs() -> None:
    free = EndpointSettings(url="http://a")
    assert not Prices().given
    assert not Prices([free]).given
    assert Prices().cost("http://a", 10**9, 10**9) == 0.0


def test_a_stage_a_client_and_a_folder_cost_by_the_same_prices() -> None:
    usage = Usage(Prices([PRICED], OTHER))
    for url, stage, num_prompt in (("http://a", "eval", 100), ("http://b", "eval", 10), ("http://a", "judge", 1)):
        tally = usage.tallies[url, stage]
        tally.num_prompt_tokens, tally.num_completion_tokens = num_prompt, 2
    assert usage.cost("eval") == pytest.approx((100 + 20 + 10 * 100) / 1e6)
    assert usage.cost("judge") == pytest.approx((1 + 20) / 1e6)
    assert usage.cost() == pytest.approx(usage.cost("eval") + usage.cost("judge"))
    spent = Spent(stage="judge", endpoint="http://a", num_replies=1, num_prompt_tokens=1, num_completion_tokens=2)
    assert spent.priced(usage.prices).cost == pytest.approx(usage.cost("judge"))


def test_failed_attempts_are_counted_by_kind_without_probes_and_what_never_reached_an_endpoint() -> None:
    usage = Usage(Prices())
    for url, stage, kind, number in (
        ("http://a", "eval", "failed_timeout", 3),
        ("http://b", "eval", "failed_timeout", 1),
        ("http://a", "judge", "failed_http_500", 2),
        ("http://a", "eval", "retries", 9),
        ("http://a", "rejoin", "failed_refused", 5),
        ("", "eval", "failed_deadline", 1),
    ):
        usage.tallies[url, stage].others[kind] = number
    usage.tallies["http://a", "eval"].num_requests = 12
    assert usage.failed() == {"timeout": 4, "http_500": 2}
    assert usage.failed("judge") == {"http_500": 2}
    assert failed_attempts([usage]) == [
        "6 of the 12 attempts at requests of this session failed (timeout 4, http_500 2)"
    ]
    assert failed_attempts([Usage(Prices())]) == []
