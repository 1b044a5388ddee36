"""Ratios of the policy's probability of what was sampled to that of whoever sampled it, and what they may weigh."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def importance_ratio(
    old_logps_BC: Tensor,
    sampling_logps_BC: Tensor,
    mask_BC: Tensor,
    *,
    mode: str,
    clip_min: float | None,
    clip_max: float | None,
) -> Tensor:
    """TRL's correction by the behaviour log-probabilities: (B, C) for token modes, (B, 1) for sequence modes.

    'truncate' modes clamp the ratio to [clip_min, clip_max], 'mask' modes drop (0) what lies outside. A missing
    behaviour log-probability (NaN) corrects nothing.
    """
    difference = torch.nan_to_num((old_logps_BC - sampling_logps_BC) * mask_BC, nan=0.0)
    if mode.startswith("sequence"):
        difference = difference.sum(dim=-1, keepdim=True)
    ratio = torch.exp(difference)
    if mode.endswith("truncate"):
        return torch.clamp(ratio, min=clip_min, max=clip_max)
    low, high = (-math.inf if clip_min is None else clip_min), (math.inf if clip_max is None else clip_max)
    return ratio.masked_fill((ratio < low) | (ratio > high), 0.0)
