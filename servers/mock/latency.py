"""Latencies of answers: a distribution by name, drawn with a seed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

FORMS: dict[str, tuple[tuple[str, ...], Callable[..., float]]] = {
    "fixed": (("seconds",), lambda rng, seconds: seconds),
    "uniform": (("least", "most"), random.Random.uniform),
    "exponential": (("mean",), lambda rng, mean: rng.expovariate(1 / mean) if mean else 0.0),
    "lognormal": (
        ("median", "sigma"),
        lambda rng, median, sigma: rng.lognormvariate(math.log(median), sigma) if median else 0.0,
    ),
    "pareto": (("least", "shape"), lambda rng, least, shape: least * rng.paretovariate(shape)),
}
"""By name: what the numbers are, and how a value is drawn with them."""


class Latency:
    """`fixed:0.5`, `uniform:0.1,0.5`, `exponential:0.3`, `lognormal:0.3,0.8`, `pareto:0.1,1.5`; all in seconds but
    shape and sigma."""

    def __init__(self, spec: str, seed: int) -> None:
        """Raises ValueError that names the forms."""
        name, _, values = spec.partition(":")
        try:
            self._values = [float(value) for value in values.split(",")]
        except ValueError:
            self._values = []
        if name not in FORMS or len(self._values) != len(FORMS[name][0]) or min(self._values) < 0:
            forms = ", ".join(f"{name}:{','.join(parts)}" for name, (parts, _) in FORMS.items())
            raise ValueError(f"latency = {spec!r} is none of {forms} (numbers of 0 or more)")
        self._draw = FORMS[name][1]
        self._rng = random.Random(seed)

    def draw_s(self) -> float:
        return self._draw(self._rng, *self._values)
