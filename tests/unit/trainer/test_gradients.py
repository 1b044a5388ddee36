"""Gradients that stay where they are: the values that dropped ones would have, at the same address."""

from __future__ import annotations

import torch
from torch import nn

from trainer.gradients import drop_gradients, keep_gradients


def model(kept: bool) -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    made[0].bias.requires_grad_(False)
    if kept:
        keep_gradients(made)
    return made


def addresses(made: nn.Module) -> list[int]:
    return [parameter.grad.data_ptr() for parameter in made.parameters() if parameter.grad is not None]


def test_steps_are_the_same_and_the_gradients_stay() -> None:
    kept, dropped = model(True), model(False)
    before = addresses(kept)
    assert len(before) == 3
    optimizers = [torch.optim.AdamW(made.parameters(), lr=0.1) for made in (kept, dropped)]
    for step in range(3):
        for made, optimizer in zip((kept, dropped), optimizers, strict=True):
            for micro_batch in range(2):
                made(torch.full((1, 3), 1.0 + step + micro_batch)).square().sum().backward()
            optimizer.step()
            made.zero_grad()
    assert addresses(kept) == before
    assert not addresses(dropped)
    for one, other in zip(kept.parameters(), dropped.parameters(), strict=True):
        assert torch.equal(one, other)


def test_they_can_be_dropped_at_the_end() -> None:
    made = model(True)
    drop_gradients(made)
    assert not addresses(made)
