"""How long answers take: a distribution by name, drawn with a seed."""

from __future__ import annotations

import math
import random

FORMS = {
    "fixed": ("seconds",),
    "uniform": ("least", "most"),
    "exponential": ("mean",),
    "lognormal": ("median", "sigma"),
    "pareto": ("least", "shape"),
}


class Latency:
    """`fixed:0.5`, `uniform:0.1,0.5`, `exponential:0.3`, `lognormal:0.3,0.8`, `pareto:0.1,1.5`; all in seconds but shape and sigma."""

    def __init__(self, spec: str, seed: int) -> None:
        """Raises ValueError that names the forms."""
        self._name, _, values = spec.partition(":")
        try:
            self._values = [float(value) for value in values.split(",")]
        except ValueError:
            self._values = []
        if len(self._values) != len(FORMS.get(self._name, ())) or min(self._values, default=-1) < 0:
            forms = ", ".join(f"{name}:{','.join(parts)}" for name, parts in FORMS.items())
            raise ValueError(f"latency = {spec!r} is none of {forms} (numbers of 0 or more)")
        self._rng = random.Random(seed)

    def draw_s(self) -> float:
        rng, values = self._rng, self._values
        match self._name:
            case "fixed":
                return values[0]
            case "uniform":
                return rng.uniform(*values)
            case "exponential":
                return rng.expovariate(1 / values[0]) if values[0] else 0.0
            case "lognormal":
                return rng.lognormvariate(math.log(values[0]), values[1]) if values[0] else 0.0
            case _:
                return values[0] * rng.paretovariate(values[1])
