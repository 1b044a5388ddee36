"""Keeps the gradients of a model in one place from step to step.

Autograd makes each gradient anew in the middle of a step's first pass, between activations. On a CPU, where they are
blocks of one heap, the space that activations leave is then in pieces, and a longer pass fits into none of them: the
heap grows with every step. Made before the first pass, gradients leave that space in one piece; their values are the
same.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn


def keep_gradients(model: nn.Module) -> None:
    """Make the gradients of `model` now, and let its `zero_grad` fill them with zeros unless it is told to drop
    them."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    model.zero_grad = partial(model.zero_grad, set_to_none=False)


def drop_gradients(model: nn.Module) -> None:
    """Give their memory back."""
    model.zero_grad(set_to_none=True)
