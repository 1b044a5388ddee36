"""The gap between the log-probabilities that the servers reported and the learner's, for the same tokens and
weights."""

from __future__ import annotations

from torch import Tensor


class GapMeter:
    """Accumulates over the micro-batches of one optimizer step."""

    def __init__(self) -> None:
        self._gaps: list[tuple[float, float, int]] = []
        self._ratios: list[tuple[float, int]] = []
        """Per micro-batch: sum, maximum and number of gaps; sum and number of ratios."""

    def add(self, logps_BC: Tensor, sampling_BC: Tensor, mask_BC: Tensor, on_policy_B: Tensor, ratio: Tensor) -> None:
        """Count a micro-batch; the gap over rollouts that the current weights sampled, the ratio over all.

        `ratio` is (B, C) or (B, 1), as the correction made it.
        """
        difference = (logps_BC - sampling_BC).abs()
        known = mask_BC.bool() & ~difference.isnan()
        same = difference[known & on_policy_B[:, None]]
        if same.numel():
            self._gaps.append((same.sum().item(), same.max().item(), same.numel()))
        ratios = ratio[known] if ratio.shape == known.shape else ratio.flatten()
        self._ratios.append((ratios.sum().item(), ratios.numel()))

    def merge(self, other: GapMeter) -> None:
        """Count what another process measured as well."""
        self._gaps += other._gaps
        self._ratios += other._ratios

    def numbers(self) -> dict[str, float]:
        """Mean and maximum gap in nats per token and the mean importance ratio, as far as something was comparable."""
        numbers: dict[str, float] = {}
        if self._gaps:
            sums, largest, nums = zip(*self._gaps, strict=True)
            numbers |= {"logprob_gap_mean": sum(sums) / sum(nums), "logprob_gap_max": max(largest)}
        if num_ratios := sum(num for _, num in self._ratios):
            numbers["importance_ratio_mean"] = sum(ratios for ratios, _ in self._ratios) / num_ratios
        return numbers
