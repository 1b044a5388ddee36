"""How what was sampled in a context counts when it is trained without it, and what of the gradient it makes.

The behaviour log-probabilities are of a longer text, of which context and analysis are gone, so that no ratio to them
is exact: this is weighted likelihood. Useful rollouts are those that are improbable without the context. A ratio of
sequences takes them to 0, one of tokens is biased, and both do so in silence: hence the meter.

Suffixes of shapes: _B rows, _C completion positions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from trainer.ratios import importance_ratio


@dataclass(frozen=True)
class ContextRatio:
    """Policy without the context ÷ policy that sampled in it, of tokens or whole solutions, within bounds."""

    level: Literal["none", "token", "sequence"] = "none"
    cap: float = math.inf
    floor: float = 0.0

    def unbounded(self, logps_BC: Tensor, sampling_BC: Tensor, mask_BC: Tensor) -> Tensor:
        """The ratio before its bounds, (B, C), or (B, 1) of whole solutions; 1 for 'none'."""
        if self.level == "none":
            return torch.ones_like(logps_BC[:, :1])
        mode = f"{self.level}_mask"  # of which nothing is, without bounds
        return importance_ratio(logps_BC, sampling_BC, mask_BC, mode=mode, clip_min=None, clip_max=None)

    def bounded(self, ratio: Tensor) -> Tensor:
        """What rollouts count; those of 'none' 1, whatever the bounds."""
        return ratio if self.level == "none" else ratio.clamp(self.floor, self.cap)


class ContextMeter:
    """Accumulates over the micro-batches of one optimizer step; sums, so that those of processes add up."""

    def __init__(self) -> None:
        self._num = self._sum = self._squares = self._at_cap = self._at_floor = 0.0
        """Of weights: of tokens for ratios of tokens, else of rollouts."""
        self._num_tokens = self._log_ratio = 0.0
        self._advantage = self._in_context = 0.0

    def add_weights(self, settings: ContextRatio, ratio: Tensor, log_ratio_BC: Tensor, mask_BC: Tensor) -> None:
        """Count rows that are trained without their context: `ratio` as it is before bounds, (B, C) or (B, 1)."""
        counted = ratio[mask_BC.bool()] if ratio.shape == mask_BC.shape else ratio[mask_BC.any(dim=1)]
        weights = settings.bounded(counted).double()
        self._num += weights.numel()
        self._sum += weights.sum().item()
        self._squares += weights.square().sum().item()
        if settings.level != "none":
            self._at_cap += (counted >= settings.cap).sum().item()
            self._at_floor += (counted <= settings.floor).sum().item()
        self._num_tokens += mask_BC.sum().item()
        self._log_ratio += torch.nan_to_num(log_ratio_BC * mask_BC).double().sum().item()

    def add_advantages(self, weighted_BC: Tensor, mask_BC: Tensor, in_context_B: Tensor, *, by_rollout: bool) -> None:
        """Count the advantages as they are weighted; `by_rollout`: the loss takes the mean of each rollout's tokens."""
        sums_B = (weighted_BC.abs() * mask_BC).double().sum(dim=1)
        if by_rollout:
            sums_B /= mask_BC.sum(dim=1).clamp(min=1)
        self._advantage += sums_B.sum().item()
        self._in_context += sums_B[in_context_B].sum().item()

    def merge(self, other: ContextMeter) -> None:
        """Count what another process measured as well."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def numbers(self) -> dict[str, float]:
        """Share of the absolute weighted advantages that is of rollouts sampled in a context; of those trained without
        it the effective sample size of their weights as a share of their number, the shares at cap and floor, and the
        mean log-ratio of a token in nats. What was not counted is missing."""
        numbers: dict[str, float] = {}
        if self._advantage:
            numbers["share_advantage_in_context"] = self._in_context / self._advantage
        if self._num:
            numbers |= {
                "context_ratio_ess": self._sum**2 / self._squares / self._num if self._squares else 0.0,
                "context_ratio_at_cap": self._at_cap / self._num,
                "context_ratio_at_floor": self._at_floor / self._num,
                "context_log_ratio": self._log_ratio / self._num_tokens,
            }
        return numbers
