"""Weights of what is trained without its context, and the meter of what they do."""

from __future__ import annotations

import pytest
import torch

from trainer.transfer import ContextMeter, ContextRatio

SAMPLING = torch.tensor([[-1.0, -1.0, 0.0], [-2.0, -3.0, -1.0]])
LOGPS = SAMPLING + torch.tensor([[0.5, -2.0, 9.0], [1.0, 0.25, -0.5]])
MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])


def test_ratios_are_of_tokens_or_of_what_is_trained_of_a_rollout() -> None:
    tokens, solutions, none = (ContextRatio(level, cap=1.5, floor=0.5) for level in ("token", "sequence", "none"))
    ratio = solutions.unbounded(LOGPS, SAMPLING, MASK)
    torch.testing.assert_close(ratio, torch.tensor([[-1.5], [0.75]]).exp())
    torch.testing.assert_close(solutions.bounded(ratio), torch.tensor([[0.5], [1.5]]))
    expected = torch.tensor([[1.5, 0.5, 1.0], [1.5, 0.25, -0.5]])
    expected[1, 1:] = expected[1, 1:].exp()
    torch.testing.assert_close(tokens.bounded(tokens.unbounded(LOGPS, SAMPLING, MASK)), expected)
    assert torch.equal(none.bounded(none.unbounded(LOGPS, SAMPLING, MASK)), torch.ones(2, 1))
    assert ContextRatio("none", cap=0.5).bounded(torch.ones(2, 1)).eq(1).all(), "bounds are of ratios"


def test_a_ratio_beyond_any_number_stays_finite() -> None:
    far = ContextRatio("sequence", cap=3.0)
    weights = far.bounded(far.unbounded(torch.zeros(2, 1), torch.tensor([[-1e4], [1e4]]), torch.ones(2, 1)))
    assert weights.flatten().tolist() == [3.0, 0.0]


def meter_of(settings: ContextRatio, rows: slice) -> ContextMeter:
    meter = ContextMeter()
    ratio = settings.unbounded(LOGPS, SAMPLING, MASK)[rows]
    meter.add_weights(settings, ratio, (LOGPS - SAMPLING)[rows], MASK[rows])
    weighted = torch.tensor([[1.0, -1.0, 7.0], [2.0, 2.0, 2.0]])
    meter.add_advantages(weighted[rows], MASK[rows], torch.tensor([True, False])[rows], by_rollout=False)
    return meter


@pytest.mark.parametrize("level", ["none", "token", "sequence"])
def test_what_processes_measure_adds_up(level: str) -> None:
    settings = ContextRatio(level, cap=1.5, floor=0.5)  # type: ignore[arg-type]
    together, parts = meter_of(settings, slice(None)), meter_of(settings, slice(1))
    parts.merge(meter_of(settings, slice(1, None)))
    assert parts.numbers() == pytest.approx(together.numbers())
    numbers = together.numbers()
    assert numbers["share_advantage_in_context"] == pytest.approx(2 / 8)
    assert numbers["context_log_ratio"] == pytest.approx((0.5 - 2 + 1 + 0.25 - 0.5) / 5)
    at_cap, at_floor, ess = {
        "none": (0, 0, 1.0),
        "token": (2 / 5, 1 / 5, None),
        "sequence": (1 / 2, 1 / 2, 2.0**2 / (1.5**2 + 0.5**2) / 2),
    }[level]
    assert (numbers["context_ratio_at_cap"], numbers["context_ratio_at_floor"]) == (at_cap, at_floor)
    assert ess is None or numbers["context_ratio_ess"] == pytest.approx(ess)


def test_a_loss_of_rollouts_counts_rollouts_alike() -> None:
    meter = ContextMeter()
    weighted = torch.tensor([[1.0, 1.0, 0.0], [3.0, 3.0, 3.0]])
    meter.add_advantages(weighted, MASK, torch.tensor([True, False]), by_rollout=True)
    assert meter.numbers() == {"share_advantage_in_context": pytest.approx(1 / 4)}
    assert ContextMeter().numbers() == {}
