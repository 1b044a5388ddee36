"""What can go wrong with a request, as data. A fault hits exactly `count` requests of its route, in the order of the plan."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

CHAT, RENDER, GENERATE = "/v1/chat/completions", "/v1/chat/completions/render", "/inference/v1/generate"
Json = dict[str, Any]
Kind = Literal[
    "status",
    "reset",
    "truncated_json",
    "choices_null",
    "empty_choices",
    "missing_logprobs",
    "wrong_lengths",
    "abort",
    "slow",
]


class Fault(BaseModel):
    """What goes wrong with the next `count` requests of `route`."""

    model_config = ConfigDict(extra="forbid")
    route: str = CHAT
    kind: Kind
    count: int = Field(1, ge=1)
    code: int = Field(503, description="status: the HTTP status.")
    retry_after: str | None = Field(None, description="status: the Retry-After header.")
    delay_s: float = Field(1.0, ge=0, description="slow: seconds before the answer.")


PLAN = TypeAdapter(list[Fault])


def seeded_faults(seed: int, num_faults: int = 20) -> list[Fault]:
    """A plan of single faults over the two generating routes, the same for the same seed."""
    rng = random.Random(seed)
    kinds = TypeAdapter(Kind).json_schema()["enum"]
    return [Fault(route=rng.choice((CHAT, GENERATE)), kind=rng.choice(kinds), delay_s=0.05) for _ in range(num_faults)]


def read_plan(spec: str) -> list[Fault]:
    """The plan that `spec` names: '' for none, a seed, or a JSON file. Raises OSError or pydantic's ValidationError."""
    if not spec:
        return []
    return seeded_faults(int(spec)) if spec.isdigit() else PLAN.validate_json(Path(spec).read_bytes())


def spoil(reply: Json, kind: Kind) -> Json:
    """`reply` with one promise of its route broken."""
    if kind == "choices_null":
        return reply | {"choices": None}
    if kind == "empty_choices":
        return reply | {"choices": []}
    for choice in reply.get("choices") or []:
        if kind == "missing_logprobs":
            choice["logprobs"] = None
        elif kind == "wrong_lengths" and choice.get("logprobs"):
            choice["logprobs"]["content"].pop()
        elif kind == "abort":
            choice["finish_reason"] = "abort"
    return reply
