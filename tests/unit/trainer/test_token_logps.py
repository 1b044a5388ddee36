"""Log-probabilities, entropies and gradients equal those of plain operations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainer import token_logps as module
from trainer.token_logps import token_logps

NUM, SIZE, VOCABULARY = 37, 16, 50


def plain(
    hidden: Tensor, head: nn.Linear, targets: Tensor, temperature: float, compute_entropy: bool
) -> tuple[Tensor, Tensor]:
    normalised = torch.log_softmax(head(hidden).float() / temperature, dim=-1)
    entropies = -(normalised.exp() * normalised).sum(dim=-1).detach()
    return normalised.gather(1, targets[:, None]).squeeze(1), entropies


def results(function: Any, *, bias: bool, autocast: bool, temperature: float) -> list[Tensor]:
    torch.manual_seed(0)
    head = nn.Linear(SIZE, VOCABULARY, bias=bias)
    hidden = torch.randn(NUM, SIZE, requires_grad=True)
    targets, weights = torch.randint(VOCABULARY, (NUM,)), torch.randn(NUM)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logps, entropies = function(hidden, head, targets, temperature, True)
        loss = (logps * weights).sum()
    loss.backward()
    gradients = [one.grad for one in (hidden, *head.parameters())]
    return [logps.detach(), entropies, *[one for one in gradients if one is not None]]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize(("autocast", "tolerance"), [(False, 1e-6), (True, 1e-2)])
@pytest.mark.parametrize("rows_at_once", [1, 5, NUM, 1000])
def test_results_and_gradients_are_those_of_plain_operations(
    monkeypatch: pytest.MonkeyPatch, bias: bool, temperature: float, autocast: bool, tolerance: float, rows_at_once: int
) -> None:
    monkeypatch.setattr(module, "SOFTMAX_VALUES", rows_at_once * VOCABULARY)
    ours = results(token_logps, bias=bias, autocast=autocast, temperature=temperature)
    theirs = results(plain, bias=bias, autocast=autocast, temperature=temperature)
    assert len(ours) == len(theirs) == (5 if bias else 4)
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == other.dtype == torch.float32
        assert (one - other).abs().max() <= tolerance * other.abs().max()


def test_the_reference_has_no_gradients() -> None:
    head, hidden, targets = nn.Linear(SIZE, VOCABULARY), torch.randn(NUM, SIZE), torch.randint(VOCABULARY, (NUM,))
    with torch.no_grad():
        logps, entropies = token_logps(hidden, head, targets, 1.0, False)
    assert not logps.requires_grad and entropies is None


def test_a_second_backward_pass_is_refused() -> None:
    head, hidden, targets = nn.Linear(SIZE, VOCABULARY), torch.randn(NUM, SIZE), torch.randint(VOCABULARY, (NUM,))
    logps, _ = token_logps(hidden, head, targets, 1.0, False)
    logps.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second backward"):
        logps.sum().backward()
