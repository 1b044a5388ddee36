"""The learning rate as a share of `learner.learning_rate`, by the step: pure functions.

Step t of w warm-up steps has (t + 1) / (w + 1), so that the first one moves something and the first after the warm-up
has all. What follows depends on the step and on the number of steps alone: a resume that changes `learner.num_steps`
continues where a run of that length would be, and nothing of the former length is remembered."""

from __future__ import annotations

import math
from typing import Literal

RateSchedule = Literal["constant_with_warmup", "linear", "cosine", "inverse_sqrt"]
USUAL_TIMESCALE = 10_000
"""Of 'inverse_sqrt' without a warm-up, as in transformers."""


def rate_share(step: int, schedule: RateSchedule, num_warmup_steps: int, num_steps: int) -> float:
    """The share at `step` (from 0). Linear and cosine fall to what is 0 one step after the last one."""
    after = step - num_warmup_steps
    if after < 0:
        return (step + 1) / (num_warmup_steps + 1)
    progress = min(1.0, after / max(1, num_steps - num_warmup_steps))
    match schedule:
        case "constant_with_warmup":
            return 1.0
        case "linear":
            return 1.0 - progress
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * progress))
        case "inverse_sqrt":
            timescale = num_warmup_steps or USUAL_TIMESCALE
            return math.sqrt(timescale / (after + timescale))
