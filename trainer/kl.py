"""Which tokens hold the estimate of the KL divergence to the reference: of a few it may be most."""

from __future__ import annotations

import torch
from torch import Tensor

NUM_TOP = 8


class KlMeter:
    """Accumulates TRL's estimate, exp(r) - r - 1 with r = log(reference) - log(policy), over the micro-batches of one
    optimizer step. It is never negative and right on average, and a token that the reference finds far likelier than
    the policy has e^r of it."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._num = 0
        self._top: list[float] = []

    def add(self, logps_BC: Tensor, reference_BC: Tensor, mask_BC: Tensor) -> None:
        """Count a micro-batch."""
        ratio = (reference_BC - logps_BC)[mask_BC.bool()].double()
        kl = torch.exp(ratio) - ratio - 1
        self._count(kl.sum().item(), kl.numel(), torch.topk(kl, min(NUM_TOP, kl.numel())).values.tolist())

    def merge(self, other: KlMeter) -> None:
        """Count what another process measured as well."""
        self._count(other._sum, other._num, other._top)

    def _count(self, total: float, num: int, top: list[float]) -> None:
        self._sum += total
        self._num += num
        self._top = sorted([*self._top, *top], reverse=True)[:NUM_TOP]

    def numbers(self) -> dict[str, float]:
        """The largest estimate of a token, the share of the sum that the largest `NUM_TOP` tokens hold, and the mean
        without these; empty where nothing was counted."""
        if not self._num:
            return {}
        top = sum(self._top)
        return {
            "kl_max": self._top[0],
            "kl_top_share": top / self._sum if self._sum > 0 else 0.0,
            "kl_without_top": max(0.0, self._sum - top) / max(1, self._num - len(self._top)),
        }
