"""Log-probabilities of tokens from hidden states, with one copy of the logits in memory.

Plain operations hold five of them or more at once (logits, in float32, normalised, their exponentials, the gradient).
Here the softmax is taken a few rows at a time, and in the backward pass the gradient takes the place of the logits.
The matrix products are those of plain operations, on the same values.

Suffixes of shapes: _N tokens, _H hidden size, _V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as everybody calls it
from trl.kernels import ChunkedLogProbFunction

# Logits held at once: 2**27 values are 512 MiB in float32. Beyond, they are recomputed in the backward pass.
MAX_DENSE_LOGITS = 1 << 27
CHUNKED_VOCABULARY = 32768
# Of which the softmax is taken at once, in float32: 16 MiB, about what a processor's cache holds.
SOFTMAX_VALUES = 1 << 22


def token_logps(
    hidden_NH: Tensor, head: nn.Linear, targets_N: Tensor, temperature: float, compute_entropy: bool
) -> tuple[Tensor, Tensor | None]:
    """Float32 log-probabilities (N,) of `targets_N` at `temperature` and, if asked, entropies (N,), which have no
    gradient unless the logits are too many to be held."""
    if len(targets_N) * head.out_features > MAX_DENSE_LOGITS:
        wanted = ("entropy",) if compute_entropy else ()
        logps_N, entropies_N, *_ = ChunkedLogProbFunction.apply(
            hidden_NH, head.weight, head.bias, targets_N, temperature, CHUNKED_VOCABULARY, None, 1.0, wanted
        )
        return logps_N, entropies_N
    weight, bias = head.weight, head.bias
    if torch.is_autocast_enabled(hidden_NH.device.type):
        dtype = torch.get_autocast_dtype(hidden_NH.device.type)
        hidden_NH, weight, bias = hidden_NH.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    logps_N, entropies_N = _TokenLogps.apply(hidden_NH, weight, bias, targets_N, temperature, compute_entropy)
    return logps_N, entropies_N if compute_entropy else None


class _TokenLogps(torch.autograd.Function):
    """The backward pass overwrites what the forward pass kept: once only."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_NH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        temperature: float,
        compute_entropy: bool,
    ) -> tuple[Tensor, Tensor]:
        with torch.autocast(hidden_NH.device.type, enabled=False):
            logits_NV = F.linear(hidden_NH, weight_VH, bias_V)
        logps_N, entropies_N, normalisers_N = (
            torch.zeros(len(targets_N), dtype=torch.float32, device=hidden_NH.device) for _ in range(3)
        )
        for rows in _chunks(logits_NV):
            scaled = logits_NV[rows].float() / temperature
            normalisers_N[rows] = torch.logsumexp(scaled, dim=-1)
            logps_N[rows] = scaled.gather(1, targets_N[rows, None]).squeeze(1) - normalisers_N[rows]
            if compute_entropy:
                shares = torch.exp(scaled - normalisers_N[rows, None])
                entropies_N[rows] = normalisers_N[rows] - (shares.mul_(scaled)).sum(dim=-1)
        ctx.save_for_backward(hidden_NH, weight_VH, targets_N, normalisers_N)
        ctx.logits_NV, ctx.temperature, ctx.has_bias = logits_NV, temperature, bias_V is not None
        ctx.mark_non_differentiable(entropies_N)
        return logps_N, entropies_N

    @staticmethod
    def backward(ctx: Any, gradient_N: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        hidden_NH, weight_VH, targets_N, normalisers_N = ctx.saved_tensors
        gradient_NV, ctx.logits_NV = ctx.logits_NV, None
        if gradient_NV is None:
            raise RuntimeError("a second backward pass through the same logits, which the first one has overwritten")
        for rows in _chunks(gradient_NV):
            shares = torch.exp(gradient_NV[rows].float().div_(ctx.temperature).sub_(normalisers_N[rows, None]))
            shares.scatter_add_(1, targets_N[rows, None], -torch.ones_like(shares[:, :1]))
            gradient_NV[rows] = shares.mul_(-gradient_N[rows, None] / ctx.temperature)
        needs_hidden, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        return (
            gradient_NV @ weight_VH if needs_hidden else None,
            gradient_NV.T @ hidden_NH if needs_weight else None,
            gradient_NV.sum(dim=0) if needs_bias else None,
            *(None, None, None),
        )


def _chunks(logits_NV: Tensor) -> list[slice]:
    num, size = len(logits_NV), max(1, SOFTMAX_VALUES // logits_NV.shape[1])
    return [slice(first, first + size) for first in range(0, num, size)]
