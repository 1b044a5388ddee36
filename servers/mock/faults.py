"""Faults of a request as data: their names, what a client owes each of them, and plans of them.

A `Fault` hits exactly `count` requests of its route, in the order of the plan. A `FaultRate` hits requests at random,
by a seed and the number of the request. A `Flap` takes the whole endpoint down for a share of each period."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

CHAT, RENDER, GENERATE = "/v1/chat/completions", "/v1/chat/completions/render", "/inference/v1/generate"
Json = dict[str, Any]
Transport = Literal["reset", "reset_mid_body", "short_body", "black_hole", "stall", "slow", "trickle"]
Body = Literal["truncated_json", "empty_body", "html", "gzip_garbage", "not_an_object", "error_object"]
Choice = Literal[
    "choices_null",
    "empty_choices",
    "too_few_choices",
    "too_many_choices",
    "duplicate_index",
    "choice_not_object",
    "no_content",
    "missing_logprobs",
    "null_logprob",
    "nan_logprob",
    "positive_logprob",
    "wrong_lengths",
    "missing_token_ids",
    "text_token_ids",
    "abort",
    "null_finish_reason",
    "unknown_finish_reason",
    "missing_versions",
    "unknown_version",
    "missing_usage",
]
Kind = Literal["status", "no_effect", Transport, Body, Choice]
KINDS = (*get_args(Transport), *get_args(Body), *get_args(Choice))
TOLERATED = ("slow", "trickle", "missing_usage")
Duty = Literal["retry", "final", "accept"]


class Fault(BaseModel):
    """What goes wrong with the next `count` requests of `route`."""

    model_config = ConfigDict(extra="forbid")
    route: str = CHAT
    kind: Kind
    count: int = Field(1, ge=1)
    code: int = Field(503, description="status: the HTTP status.")
    retry_after: str | None = Field(None, description="status: the Retry-After header, seconds or an HTTP date.")
    retry_after_ms: int | None = Field(None, description="status: the retry-after-ms header.")
    body: str = Field("seeded fault", description="status: the message of the error.")
    delay_s: float = Field(1.0, ge=0, description="slow, trickle: seconds that the answer takes longer.")


class NamedFault(NamedTuple):
    """A fault with a name, and what a client owes it: try again, give up at once, or take the answer."""

    name: str
    values: Json
    duty: Duty


def _status(code: int, duty: Duty, name: str = "", **values: Any) -> NamedFault:
    return NamedFault(name or f"http_{code}", {"kind": "status", "code": code, **values}, duty)


def _kinds(duty: Duty, *kinds: str) -> list[NamedFault]:
    return [NamedFault(kind, {"kind": kind, "delay_s": 0.05}, duty) for kind in kinds]


CATALOGUE: tuple[NamedFault, ...] = (
    *(_status(code, "final") for code in (400, 401, 403, 404, 405, 413, 422, 501)),
    _status(307, "final", "redirect"),
    _status(429, "final", "quota", body="insufficient_quota"),
    *(_status(code, "retry") for code in (408, 409, 425, 429, 500, 502, 503, 504, 529)),
    _status(429, "retry", "http_429_seconds", retry_after="0.05"),
    _status(429, "retry", "http_429_ms", retry_after_ms=50),
    _status(503, "retry", "http_503_seconds", retry_after="0.05"),
    _status(503, "retry", "http_503_nonsense", retry_after="soon"),
    *_kinds("retry", *(kind for kind in KINDS if kind not in TOLERATED)),
    *_kinds("accept", *TOLERATED),
)
PLAN: TypeAdapter[list[Fault]] = TypeAdapter(list[Fault])


class FaultRate(BaseModel):
    """Each request of the generating routes is hit with `probability`, by a fault drawn from the named ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    seed: int = 0
    probability: float = Field(0.05, ge=0, le=1)
    names: tuple[str, ...] = Field(
        tuple(fault.name for fault in CATALOGUE if fault.duty != "final" and fault.name not in ("black_hole", "stall")),
        description="Names in the catalogue. By default what a good client survives without waiting for a time-out.",
    )

    def at(self, route: str, number: int) -> Fault | None:
        """The fault of request `number` to `route`, the same for the same seed."""
        if route not in (CHAT, GENERATE):
            return None
        rng = random.Random(f"{self.seed}/{route}/{number}")
        if rng.random() >= self.probability:
            return None
        return Fault(route=route, **named(rng.choice(self.names)).values)


class Flap(BaseModel):
    """Down for the first `down_share` of each period, counted from the start and shifted by `offset_s`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    period_s: float = Field(2.0, gt=0)
    down_share: float = Field(0.5, ge=0, le=1)
    offset_s: float = 0.0
    how: Literal["reset", "status", "hang"] = Field("reset", description="What a request meets meanwhile; status: 503.")

    def down(self, uptime_s: float) -> bool:
        return (uptime_s + self.offset_s) % self.period_s < self.down_share * self.period_s


def named(name: str) -> NamedFault:
    """The fault of that name. Raises KeyError."""
    for fault in CATALOGUE:
        if fault.name == name:
            return fault
    raise KeyError(f"no fault is called {name!r}; there are {', '.join(fault.name for fault in CATALOGUE)}")


def seeded_faults(seed: int, num_faults: int = 20) -> list[Fault]:
    """A plan of single faults over the two generating routes, the same for the same seed."""
    rng = random.Random(seed)
    return [
        Fault(route=rng.choice((CHAT, GENERATE)), **named(rng.choice(FaultRate().names)).values)
        for _ in range(num_faults)
    ]


def read_plan(spec: str) -> list[Fault]:
    """The plan in a JSON file, '' for none. Raises OSError or pydantic's ValidationError."""
    return PLAN.validate_json(Path(spec).read_bytes()) if spec else []


def spoil(reply: Json, kind: str) -> Any:
    """`reply` with one promise of its route broken."""
    choices = reply.get("choices") or []
    match kind:
        case "not_an_object":
            return [reply]
        case "error_object":
            return {"error": {"message": "seeded fault", "type": "server_error", "code": 500}}
        case "choices_null":
            return reply | {"choices": None}
        case "empty_choices" | "too_few_choices":
            return reply | {"choices": choices[:-1] if kind == "too_few_choices" else []}
        case "too_many_choices":
            return reply | {"choices": [*choices, *choices]}
        case "choice_not_object":
            return reply | {"choices": ["text"] * len(choices)}
        case "duplicate_index":
            # One choice cannot be a duplicate of itself: its index is then one that was not asked for.
            return reply | {
                "choices": [{**choice, "index": 0} for choice in choices] if len(choices) > 1 else choices * 2
            }
        case "missing_usage":
            return {key: value for key, value in reply.items() if key != "usage"}
    for choice in choices:
        _spoil_choice(choice, kind)
    return reply


def _spoil_choice(choice: Json, kind: str) -> None:
    content = (choice.get("logprobs") or {}).get("content") or [{}]
    match kind:
        case "no_content":
            choice["text" if "text" in choice else "message"] = None
        case "missing_logprobs":
            choice["logprobs"] = None
        case "null_logprob" | "nan_logprob" | "positive_logprob":
            content[-1]["logprob"] = {"null_logprob": None, "nan_logprob": float("nan"), "positive_logprob": 2.5}[kind]
        case "wrong_lengths":
            content.pop()
        case "missing_token_ids":
            choice["token_ids"] = None
        case "text_token_ids":
            choice["token_ids"] = [str(token) for token in choice.get("token_ids") or []]
        case "abort":
            choice["finish_reason"] = "abort"
        case "null_finish_reason" | "unknown_finish_reason":
            choice["finish_reason"] = None if kind == "null_finish_reason" else "tired"
        case "missing_versions":
            choice["weight_versions"] = None
        case "unknown_version":
            choice["weight_versions"] = [{"version": "default", "start": 0, "end": len(choice.get("token_ids") or [])}]
