"""The OpenAI wire protocol and vLLM's token-in/token-out route, as pure functions: request bodies out, records in.

A reply that is HTTP 200 but not what its route promises raises MalformedReplyError, so a partial answer never reaches
the journal."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from pipeline.config.rollout import SamplingSection
from pipeline.errors import EndpointError, FinalEndpointError, MalformedReplyError, RetryableEndpointError
from pipeline.types import Completion, Message, WeightVersion
from pipeline.weights.sync import CHECKING

RETRYABLE_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
FINISH_REASONS = {
    "stop": ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "completed"),
    "length": ("length", "max_tokens", "max_output_tokens", "max_new_tokens", "model_length"),
}
"""The two ends of a whole answer, each with the names that servers give it."""
FILTERED = ("content_filter", "safety", "refusal", "recitation")
"""What a provider says when it ends or withholds an answer: another attempt would be paid for and end alike."""
_ENDS = {name: end for end, names in FINISH_REASONS.items() for name in names}
Json = dict[str, Any]


class Samples(NamedTuple):
    """G completions of one prompt, with the prompt's exact token ids (P,)."""

    prompt_ids: tuple[int, ...]
    completions: tuple[Completion, ...]
    under_check: bool = False
    """Whether some tokens come from weights that had not yet answered their canary."""


class Reply(BaseModel):
    """One chat answer, by `endpoint` (its URL). `finish_reason` is 'stop', 'length' or 'content_filter'; `reasoning` is what a server
    keeps apart from the answer, whose `text` is empty when the answer was cut before it began."""

    model_config = ConfigDict(frozen=True)
    text: str
    finish_reason: str
    reasoning: str = ""
    endpoint: str = ""
    num_prompt_tokens: int = 0
    num_completion_tokens: int = 0
    num_cached_prompt_tokens: int = 0
    time_to_first_token_s: float | None = None


def chat_body(
    model: str,
    messages: tuple[Message, ...],
    *,
    max_tokens: int,
    temperature: float,
    schema: Json | None = None,
    chat_template_kwargs: Json | None = None,
    seed: int | None = None,
    top_p: float = 1.0,
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
    if top_p < 1:
        body["top_p"] = top_p
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


def error_of(status: int, body: str, headers: Mapping[str, str]) -> EndpointError:
    """The failure that an HTTP status other than 200 stands for.

    An exhausted quota is final although its status is 429.
    """
    brief = body[:300]
    if status == 429 and ("insufficient_quota" in body or "billing_hard_limit" in body):
        return FinalEndpointError("quota", f"the quota is used up: {brief}")
    if status in RETRYABLE_STATUS:
        return RetryableEndpointError(f"http_{status}", brief, retry_after_s=retry_after_s(headers))
    return FinalEndpointError(f"http_{status}", f"HTTP {status}: {brief}")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that the endpoint asks to wait (retry-after-ms, Retry-After in seconds or as a date), None without a wish."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name) or headers.get(name.title())
        if value is None:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            seconds = _until(value)
        if 0 <= seconds < float("inf"):
            return seconds
    return None


def _until(date: str) -> float:
    """Seconds from now until an HTTP date, 0 if it has passed; NaN for what is none. Dates have whole seconds: rounded up."""
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() + 1.0 - time.time())
    except (ValueError, TypeError):
        return float("nan")


def parse_chat(reply: Any, endpoint: str = "") -> Reply:
    """The single answer of a chat completion. Raises MalformedReplyError.

    No text is an answer too: one that was cut while the model still reasoned, or that it or its provider refused to give."""
    choice = _choices(reply, 1)[0]
    message, reason = _object(choice, "message"), _chat_finish_reason(choice)
    text, reasoning = _said(message)
    if text is None:
        if not message or not (reasoning or message.get("refusal") or reason != "stop"):
            raise MalformedReplyError("no_content", "the choice has no message content")
        text = str(message.get("refusal") or "")
    return Reply(text=text, finish_reason=reason, reasoning=reasoning, endpoint=endpoint, **_usage(reply))


def _said(message: Json) -> tuple[str | None, str]:
    """The text of a message or a delta, None without any, and its reasoning: a field of its own (vLLM, DeepSeek), or parts (Mistral)."""
    content = message.get("content")
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    thought = reasoning if isinstance(reasoning, str) else ""
    if not isinstance(content, list):
        return (content if isinstance(content, str) else None), thought
    parts = [part for part in content if isinstance(part, dict)]
    texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
    thoughts = [str(part["thinking"]) for part in parts if part.get("thinking")]
    return "".join(texts), thought or "".join(thoughts)


def check_canary(reply: Any) -> None:
    """Raise MalformedReplyError unless an answer of one token came. A model that reasons may have no text in it yet."""
    _chat_finish_reason(_choices(reply, 1)[0])


def parse_stream(events: list[Any], time_to_first_token_s: float | None, endpoint: str = "") -> Reply:
    """The single answer of a streamed chat completion, from its events. Raises MalformedReplyError."""
    pieces: list[str] = []
    thoughts: list[str] = []
    reason, usage = None, None
    for event in events:
        if not isinstance(event, dict) or event.get("error"):
            raise MalformedReplyError("stream_error", f"an event of the stream is no chunk: {str(event)[:200]}")
        usage = event.get("usage") or usage
        for choice in _chunks(event):
            text, thought = _said(_object(choice, "delta"))
            pieces.append(text or "")
            thoughts.append(thought)
            reason = choice.get("finish_reason") or reason
    return Reply(
        text="".join(pieces),
        finish_reason=_chat_finish_reason({"finish_reason": reason}),
        reasoning="".join(thoughts),
        endpoint=endpoint,
        time_to_first_token_s=time_to_first_token_s,
        **_usage({"usage": usage}),
    )


def _usage(reply: Any) -> dict[str, int]:
    """Token counts of a reply; what it does not tell is 0."""
    usage = reply.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("prompt_tokens_details")
    counts = {
        "num_prompt_tokens": usage.get("prompt_tokens"),
        "num_completion_tokens": usage.get("completion_tokens"),
        "num_cached_prompt_tokens": details.get("cached_tokens") if isinstance(details, dict) else 0,
    }
    return {name: count if isinstance(count, int) else 0 for name, count in counts.items()}


def has_content(event: Any) -> bool:
    """Whether a chunk of a stream carries text."""
    return any(_object(choice, "delta").get("content") for choice in _chunks(event))


def _chunks(event: Any) -> list[Json]:
    """The choices of an event of a stream; those that are no objects are left out."""
    choices = event.get("choices") if isinstance(event, dict) else None
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def _object(holder: Json, name: str) -> Json:
    """What stands under `name`, or an empty object when that is none."""
    value = holder.get(name)
    return value if isinstance(value, dict) else {}


def parse_render(reply: Any) -> tuple[int, ...]:
    """Token ids (P,) of the render route. Raises MalformedReplyError."""
    token_ids = reply.get("token_ids") if isinstance(reply, dict) else None
    if not isinstance(token_ids, list) or not token_ids:
        raise MalformedReplyError("no_token_ids", "the render route returned no token_ids")
    return tuple(token_ids)


def parse_embeddings(reply: Any, expected: int) -> list[list[float]]:
    """The embeddings of a reply, in the order of the texts. Raises MalformedReplyError."""
    data = reply.get("data") if isinstance(reply, dict) else None
    if not isinstance(data, list) or len(data) != expected:
        raise MalformedReplyError("wrong_embedding", f"expected {expected} embeddings")
    try:
        ordered = sorted(data, key=lambda item: item["index"])
        vectors = [[float(value) for value in item["embedding"]] for item in ordered]
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedReplyError("wrong_embedding", f"an embedding cannot be read: {error}") from error
    if [item["index"] for item in ordered] != list(range(expected)) or len({len(vector) for vector in vectors}) != 1:
        raise MalformedReplyError("wrong_embedding", "embeddings are missing or of different lengths")
    if not all(any(vector) and all(map(math.isfinite, vector)) for vector in vectors):
        raise MalformedReplyError("wrong_embedding", "an embedding is zero or not finite")
    return vectors


def parse_weight_version(reply: Any) -> str:
    """The label of the weights that a server reports (/weight_info); a fresh vLLM says 'default'."""
    if not isinstance(reply, dict):
        raise MalformedReplyError("no_versions", f"/weight_info answered {str(reply)[:100]}")
    return str(reply.get("weight_version", ""))


def parse_generate(
    reply: Any, prompt_ids: tuple[int, ...], num_samples: int, named: WeightVersion | None = None
) -> Samples:
    """Samples of /inference/v1/generate, with the weight versions of their tokens; all of them `named`, where the request named
    its weights. Raises MalformedReplyError."""
    completions, under_check = [], False
    for choice in _choices(reply, num_samples):
        labels = _labels_of(choice.get("weight_versions"))
        oldest, newest = _span_of(labels)
        under_check |= any(map(is_under_check, labels))
        completions.append(_completion(choice, choice.get("text"), named or oldest, named or newest))
    return Samples(prompt_ids, tuple(completions), under_check)


def parse_chat_samples(
    reply: Any, num_samples: int, before: str, after: str, named: WeightVersion | None = None
) -> Samples:
    """Samples of a chat completion with `return_token_ids`; `before` and `after` are the server's versions around it, `named` is that
    which the request named, if it did."""
    prompt_ids = reply.get("prompt_token_ids") if isinstance(reply, dict) else None
    if not isinstance(prompt_ids, list) or not prompt_ids:
        raise MalformedReplyError("no_token_ids", "the reply has no prompt_token_ids")
    oldest, newest = version_of(before), version_of(after)
    completions = [
        _completion(choice, _object(choice, "message").get("content"), named or oldest, named or newest)
        for choice in _choices(reply, num_samples)
    ]
    return Samples(tuple(prompt_ids), tuple(completions), is_under_check(before) or is_under_check(after))


def _labels_of(spans: Any) -> list[str]:
    """The labels of the weights that sampled a choice's tokens, in their order."""
    try:
        labels = [str(span["version"]) for span in spans]
    except (TypeError, KeyError):
        labels = []
    if not labels:
        raise MalformedReplyError("no_versions", f"a choice does not tell its weight versions: {str(spans)[:100]}")
    return labels


def _span_of(labels: list[str]) -> tuple[WeightVersion, WeightVersion]:
    """Oldest and newest weights of a choice's tokens."""
    if len(labels) == 1:
        version = version_of(labels[0])
        return version, version
    versions = [version_of(label) for label in labels]
    return min(versions), max(versions)


def is_under_check(label: str) -> bool:
    return label.startswith(CHECKING)


def version_of(label: str, *, verified: bool = False) -> WeightVersion:
    """The version that a server's label names, passed or, unless it must be `verified`, still under check. Raises
    MalformedReplyError for any other label."""
    version = parsed_version(label if verified else label.removeprefix(CHECKING))
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
    if not all(isinstance(choice, dict) for choice in choices):
        raise MalformedReplyError("wrong_choices", "a choice is no object")
    if expected > 1:
        indices = [choice.get("index", 0) for choice in choices]
        if any(indices.count(index) != 1 for index in range(expected)):
            raise MalformedReplyError("wrong_choices", f"the choices have the indices {indices}")
        choices.sort(key=lambda choice: choice["index"])
    return choices


def _finish_reason(choice: Json) -> str:
    """'stop' or 'length', as the server may name them. Raises MalformedReplyError for an answer that did not come to its end."""
    reason = choice.get("finish_reason")
    end = _ENDS.get(reason.lower()) if isinstance(reason, str) else None
    if end is None:
        raise MalformedReplyError("aborted", f"finish_reason is {reason!r}")
    return end


def _chat_finish_reason(choice: Json) -> str:
    """The same, or 'content_filter': of an answer that nobody trains on, that is an outcome."""
    reason = choice.get("finish_reason")
    if isinstance(reason, str) and reason.lower() in FILTERED:
        return "content_filter"
    return _finish_reason(choice)


# A run has a few thousand versions, and each is parsed for every choice.
parsed_version = lru_cache(maxsize=256)(WeightVersion.parse)


def _completion(choice: Json, text: Any, oldest: WeightVersion | None, newest: WeightVersion | None) -> Completion:
    token_ids = choice.get("token_ids")
    try:
        # A sum tells numbers from anything else at the speed of C.
        whole = isinstance(token_ids, list) and isinstance(sum(token_ids), int)
    except TypeError:
        whole = False
    if not token_ids or not whole:
        raise MalformedReplyError("no_token_ids", f"a choice has the token_ids {str(token_ids)[:60]}")
    if not isinstance(text, str):
        raise MalformedReplyError("no_content", "a choice has no text")
    return Completion(
        text=text,
        token_ids=tuple(token_ids),
        logprobs=_logprobs(choice.get("logprobs"), len(token_ids)),
        finish_reason=_finish_reason(choice),
        oldest_version=oldest,
        newest_version=newest,
    )


def _logprobs(found: Any, num_tokens: int) -> tuple[float, ...]:
    """The log-probabilities (T,) of the sampled tokens: as many as tokens, finite, at most 0 but for rounding."""
    content = found.get("content") if isinstance(found, dict) else None
    if not isinstance(content, list) or len(content) != num_tokens:
        num = len(content) if isinstance(content, list) else 0
        raise MalformedReplyError("no_logprobs", f"{num_tokens} tokens came with {num} log-probabilities")
    try:
        logprobs = tuple([item["logprob"] for item in content])
        total, largest = sum(logprobs), max(logprobs)
    except (TypeError, KeyError):
        raise MalformedReplyError("no_logprobs", "a token has no log-probability") from None
    if not math.isfinite(total) or largest > 1e-3:
        raise MalformedReplyError("no_logprobs", f"log-probabilities of sum {total}, the largest {largest}, are none")
    return logprobs
