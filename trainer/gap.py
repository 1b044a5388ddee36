"""The gap between the log-probabilities that the servers reported and the learner's, for the same tokens and weights."""

from __future__ import annotations

from torch import Tensor


class GapMeter:
    """Accumulates over the micro-batches of one optimizer step."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._max = 0.0
        self._num_tokens = 0
        self._ratio_sum = 0.0
        self._num_ratios = 0

    def add(self, logps_BC: Tensor, sampling_BC: Tensor, mask_BC: Tensor, on_policy_B: Tensor, ratio: Tensor) -> None:
        """Count a micro-batch; the gap over rollouts that the current weights sampled, the ratio over all.

        `ratio` is (B, C) or (B, 1), as the correction made it.
        """
        difference = (logps_BC - sampling_BC).abs()
        known = mask_BC.bool() & ~difference.isnan()
        same = difference[known & on_policy_B[:, None]]
        if same.numel():
            self._sum += same.sum().item()
            self._max = max(self._max, same.max().item())
            self._num_tokens += same.numel()
        ratios = ratio[known] if ratio.shape == known.shape else ratio.flatten()
        self._ratio_sum += ratios.sum().item()
        self._num_ratios += ratios.numel()

    def merge(self, other: GapMeter) -> None:
        """Count what another process measured as well."""
        self._sum += other._sum
        self._max = max(self._max, other._max)
        self._num_tokens += other._num_tokens
        self._ratio_sum += other._ratio_sum
        self._num_ratios += other._num_ratios

    def numbers(self) -> dict[str, float | None]:
        """Mean and maximum gap in nats per token (None where nothing was comparable), and the mean importance ratio."""
        return {
            "logprob_gap_mean": self._sum / self._num_tokens if self._num_tokens else None,
            "logprob_gap_max": self._max if self._num_tokens else None,
            "importance_ratio_mean": self._ratio_sum / self._num_ratios if self._num_ratios else None,
        }
