"""Which tokens hold the KL estimate."""

from __future__ import annotations

import math

import pytest
import torch

from trainer.kl import NUM_TOP, KlMeter


def estimate(ratio: float) -> float:
    return math.exp(ratio) - ratio - 1


def test_a_token_that_holds_the_estimate_is_told_from_the_rest() -> None:
    meter = KlMeter()
    reference = torch.full((4, 25), -1.0)
    policy = reference - 0.3
    policy[1, 3] = -6.0
    mask = torch.ones(4, 25)
    mask[3] = 0
    policy[3] = -9.0  # not trained
    meter.add(policy, reference, mask)
    numbers = meter.numbers()
    rest, outlier = estimate(0.3), estimate(5.0)
    assert numbers["kl_max"] == pytest.approx(outlier, rel=1e-5)
    assert numbers["kl_top_share"] == pytest.approx((outlier + 7 * rest) / (outlier + 74 * rest), rel=1e-4)
    assert numbers["kl_without_top"] == pytest.approx(rest, rel=1e-4)


def test_parts_add_up_to_the_whole() -> None:
    torch.manual_seed(0)
    policy, reference, mask = -torch.rand(6, 10), -torch.rand(6, 10), (torch.rand(6, 10) < 0.8).float()
    whole, first, second = KlMeter(), KlMeter(), KlMeter()
    whole.add(policy, reference, mask)
    first.add(policy[:2], reference[:2], mask[:2])
    first.add(policy[2:3], reference[2:3], mask[2:3])
    second.add(policy[3:], reference[3:], mask[3:])
    first.merge(second)
    assert first.numbers() == pytest.approx(whole.numbers())
    assert 0 < whole.numbers()["kl_top_share"] < 1


def test_nothing_counted_is_nothing_told_and_few_tokens_hold_all() -> None:
    meter = KlMeter()
    assert meter.numbers() == {}
    meter.add(torch.zeros(1, 3), torch.zeros(1, 3), torch.zeros(1, 3))
    assert meter.numbers() == {}
    meter.add(torch.full((1, NUM_TOP - 1), -2.0), torch.full((1, NUM_TOP - 1), -1.0), torch.ones(1, NUM_TOP - 1))
    assert meter.numbers()["kl_top_share"] == pytest.approx(1.0)
    assert meter.numbers()["kl_without_top"] == 0.0
