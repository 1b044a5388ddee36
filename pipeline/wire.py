"""The OpenAI wire protocol and vLLM's token-in/token-out route, as pure functions: request bodies out, records in.

A reply that is HTTP 200 but not what its route promises raises MalformedReplyError, so a partial answer never reaches
the journal."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from pipeline.config import SamplingSection
from pipeline.errors import EndpointError, FinalEndpointError, MalformedReplyError, RetryableEndpointError
from pipeline.records import Completion, Message, WeightVersion

RETRYABLE_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
Json = dict[str, Any]


class Samples(BaseModel):
    """G completions of one prompt, with the prompt's exact token ids (P,)."""

    model_config = ConfigDict(frozen=True)
    prompt_ids: tuple[int, ...]
    completions: tuple[Completion, ...]


class Reply(BaseModel):
    """One chat answer."""

    model_config = ConfigDict(frozen=True)
    text: str
    finish_reason: str
    num_prompt_tokens: int = 0
    num_completion_tokens: int = 0


def chat_body(
    model: str,
    messages: tuple[Message, ...],
    *,
    max_tokens: int,
    temperature: float,
    schema: Json | None = None,
    chat_template_kwargs: Json | None = None,
    seed: int | None = None,
) -> Json:
    """Body of /v1/chat/completions for one text answer; `schema` asks for structured outputs."""
    body: Json = {
        "model": model,
        "messages": [message.model_dump() for message in messages],
        "max_tokens": max_tokens,
        "temperature": temperature,
    }
    if seed is not None:
        body["seed"] = seed
    if chat_template_kwargs:
        body["chat_template_kwargs"] = chat_template_kwargs
    if schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "reply", "schema": schema, "strict": True},
        }
    return body


def sampling_body(sampling: SamplingSection, max_tokens: int, num_samples: int, seed: int | None) -> Json:
    """vLLM's sampling parameters for `num_samples` rollouts with the log-probability of each sampled token."""
    body: Json = {"n": num_samples, "temperature": sampling.temperature, "max_tokens": max_tokens}
    if seed is not None:
        body["seed"] = seed
    if sampling.top_p < 1:
        body["top_p"] = sampling.top_p
    if sampling.top_k:
        body["top_k"] = sampling.top_k
    if sampling.min_p:
        body["min_p"] = sampling.min_p
    return body


def generate_body(model: str, prompt_ids: tuple[int, ...], sampling: Json) -> Json:
    """Body of /inference/v1/generate: token ids in, token ids, log-probabilities, text and weight versions out."""
    return {
        "model": model,
        "token_ids": list(prompt_ids),
        "sampling_params": {**sampling, "logprobs": 0},
        "output_mode": "text",
    }


def error_of(status: int, body: str, retry_after: str | None) -> EndpointError:
    """The failure that an HTTP status other than 200 stands for.

    An exhausted quota is final although its status is 429.
    """
    brief = body[:300]
    if status == 429 and "insufficient_quota" in body:
        return FinalEndpointError("quota", f"the quota is used up: {brief}")
    if status in RETRYABLE_STATUS:
        return RetryableEndpointError(f"http_{status}", brief, retry_after_s=_seconds(retry_after))
    return FinalEndpointError(f"http_{status}", f"HTTP {status}: {brief}")


def _seconds(value: str | None) -> float | None:
    """Retry-After in seconds. A date is not honoured as a number; the back-off alone then decides."""
    try:
        return max(0.0, float(value)) if value is not None else None
    except ValueError:
        return None


def parse_chat(reply: Any) -> Reply:
    """The single answer of a chat completion. Raises MalformedReplyError."""
    choice = _choices(reply, 1)[0]
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else None
    if not isinstance(text, str):
        raise MalformedReplyError("no_content", "the choice has no message content")
    usage = reply.get("usage") or {}
    return Reply(
        text=text,
        finish_reason=_finish_reason(choice),
        num_prompt_tokens=usage.get("prompt_tokens") or 0,
        num_completion_tokens=usage.get("completion_tokens") or 0,
    )


def parse_generate(reply: Any, prompt_ids: tuple[int, ...], num_samples: int) -> Samples:
    """Samples of /inference/v1/generate, with the weight versions of their tokens. Raises MalformedReplyError."""
    completions = []
    for choice in _choices(reply, num_samples):
        versions = [_version(span.get("version")) for span in choice.get("weight_versions") or []]
        completions.append(
            _completion(choice, choice.get("text"), min(versions, default=None), max(versions, default=None))
        )
    return Samples(prompt_ids=prompt_ids, completions=tuple(completions))


def parse_chat_samples(reply: Any, num_samples: int, before: str, after: str) -> Samples:
    """Samples of a chat completion with `return_token_ids`; `before` and `after` are the server's versions around it."""
    prompt_ids = reply.get("prompt_token_ids") if isinstance(reply, dict) else None
    if not prompt_ids:
        raise MalformedReplyError("no_token_ids", "the reply has no prompt_token_ids")
    oldest, newest = _version(before), _version(after)
    completions = [
        _completion(choice, (choice.get("message") or {}).get("content"), oldest, newest)
        for choice in _choices(reply, num_samples)
    ]
    return Samples(prompt_ids=tuple(prompt_ids), completions=tuple(completions))


def _version(label: Any) -> WeightVersion:
    version = WeightVersion.parse(str(label))
    if version is None:
        raise MalformedReplyError(
            "unverified_weights", f"the server samples with weights labelled {label!r}, not published by this run"
        )
    return version


def _choices(reply: Any, expected: int) -> list[Json]:
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list) or len(choices) != expected:
        found = len(choices) if isinstance(choices, list) else choices
        raise MalformedReplyError("wrong_choices", f"{expected} choices were asked for, the reply has {found!r}")
    return sorted(choices, key=lambda choice: choice.get("index", 0))


def _finish_reason(choice: Json) -> str:
    reason = choice.get("finish_reason")
    if reason not in ("stop", "length"):
        raise MalformedReplyError("aborted", f"finish_reason is {reason!r}")
    return str(reason)


def _completion(choice: Json, text: Any, oldest: WeightVersion | None, newest: WeightVersion | None) -> Completion:
    token_ids = choice.get("token_ids")
    content = (choice.get("logprobs") or {}).get("content")
    if not token_ids:
        raise MalformedReplyError("no_token_ids", "a choice has no token_ids")
    if not content or len(content) != len(token_ids):
        raise MalformedReplyError(
            "no_logprobs", f"{len(token_ids)} tokens came with {len(content or [])} log-probabilities"
        )
    if not isinstance(text, str):
        raise MalformedReplyError("no_content", "a choice has no text")
    if not all(isinstance(item.get("logprob"), (int, float)) for item in content):
        raise MalformedReplyError("no_logprobs", "a token has no log-probability")
    return Completion(
        text=text,
        token_ids=tuple(token_ids),
        logprobs=tuple(item["logprob"] for item in content),
        finish_reason=_finish_reason(choice),
        oldest_version=oldest,
        newest_version=newest,
    )
