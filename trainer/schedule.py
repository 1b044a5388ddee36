"""The learning rate's schedule as the optimizer's (`pipeline.config.rate`)."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from pipeline.config.rate import rate_share


class FromTheFirstStep:
    """Mixin of a trainer of transformers: its warm-up would begin with a step of rate 0, which moves nothing."""

    args: Any
    optimizer: Any
    lr_scheduler: Any

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LambdaLR:
        """The schedule of `args`, made once."""
        if self.lr_scheduler is None:
            share = partial(
                rate_share,
                schedule=self.args.lr_scheduler_type.value,
                num_warmup_steps=self.args.get_warmup_steps(num_training_steps),
                num_steps=num_training_steps,
            )
            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, share)
            self._created_lr_scheduler = True
        return self.lr_scheduler
