"""Base class of the configuration's sections, common types of fields, schedules over steps."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0.0)]
Number = TypeVar("Number", bound=float)
Annealing = Literal["linear", "cosine"]


class Section(BaseModel):
    """A group of settings. Frozen, so that no part can change what another part was told."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=False)


def _one_number_is_a_constant(value: Any) -> Any:
    """The command line hands every value of a field that may be a list over as a list."""
    if isinstance(value, (list, tuple)) and len(value) == 1 and not isinstance(value[0], (list, tuple)):
        return value[0]
    return value


def _ascends(value: Any) -> Any:
    if isinstance(value, tuple):
        steps = [step for step, _ in value]
        if not steps or steps != sorted(set(steps)) or steps[0] < 0:
            raise ValueError("a schedule needs at least one [step, value] pair, with steps ascending from 0 or more")
    return value


Schedule = Annotated[
    Number | tuple[tuple[int, Number], ...], BeforeValidator(_one_number_is_a_constant), AfterValidator(_ascends)
]
"""A number, or [[step, number], …]: linear between the points, constant before the first and after the last."""


def value_at(schedule: float | tuple[tuple[int, float], ...], step: int) -> float:
    """The value of a schedule at `step`."""
    if not isinstance(schedule, tuple):
        return schedule
    if step <= schedule[0][0]:
        return schedule[0][1]
    for (step_a, a), (step_b, b) in pairwise(schedule):
        if step <= step_b:
            return a + (b - a) * (step - step_a) / (step_b - step_a)
    return schedule[-1][1]


def annealed(begin: float, end: float, step: int, num_steps: int, form: Annealing) -> float:
    """The value at `step` (from 0) on the way from `begin` to `end`, which the last of `num_steps` steps has.

    It depends on its arguments alone: a resume that changes the number of steps goes on where a run of that length
    would be."""
    progress = min(1.0, step / max(1, num_steps - 1))
    if form == "cosine":
        progress = 0.5 * (1.0 - math.cos(math.pi * progress))
    return begin * (1.0 - progress) + end * progress
