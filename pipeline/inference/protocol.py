"""The OpenAI wire protocol as pure functions: bodies of requests are made, replies become records or errors.

A reply that is HTTP 200 but not what its route promises raises MalformedReplyError, so a partial answer never reaches
the journal. Of use for any reply with choices: `finished_choices`, `object_at`."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipeline.errors import EndpointError, FinalEndpointError, MalformedReplyError, RetryableEndpointError
from pipeline.types import Message

RETRYABLE_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
FINISH_REASONS = {
    "stop": ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "completed"),
    "length": ("length", "max_tokens", "max_output_tokens", "max_new_tokens", "model_length"),
}
"""The two ends of a whole answer, each with the names that servers give it."""
FILTERED = ("content_filter", "safety", "refusal", "recitation")
"""Finish reasons of an answer that a provider ends or withholds: another attempt would be paid for and end alike."""
_ENDS = {name: end for end, names in FINISH_REASONS.items() for name in names}
MAX_SHOWN_CHARS = 300
Json = dict[str, Any]


class Reply(BaseModel):
    """One chat answer, by `endpoint` (its URL). `finish_reason` is 'stop', 'length' or 'content_filter'; `reasoning` is
    what a server keeps apart from the answer, whose `text` is empty when the answer was cut before it began."""

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
        "seed": seed,
        "top_p": top_p if top_p < 1 else None,
        "chat_template_kwargs": chat_template_kwargs or None,
        "response_format": None
        if schema is None
        else {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema, "strict": True}},
    }
    return {name: value for name, value in body.items() if value is not None}


def error_of(status: int, body: str, headers: Mapping[str, str]) -> EndpointError:
    """The failure that an HTTP status other than 200 stands for. An exhausted quota is final although its status is
    429."""
    brief = body[:MAX_SHOWN_CHARS]
    if status == 429 and ("insufficient_quota" in body or "billing_hard_limit" in body):
        return FinalEndpointError("quota", f"the quota is used up: {brief}")
    if status in RETRYABLE_STATUS:
        return RetryableEndpointError(f"http_{status}", brief, retry_after_s=retry_after_s(headers))
    return FinalEndpointError(f"http_{status}", f"HTTP {status}: {brief}")


def error_in(reply: Any) -> EndpointError | None:
    """The failure that a reply of HTTP 200 reports in its body, as gateways do; None where it reports none. A code that
    is an HTTP status counts as one."""
    if not isinstance(reply, dict):
        return None
    error = reply.get("error")
    body = error if isinstance(error, dict) else reply
    message = (
        error
        if isinstance(error, str)
        else next((body[name] for name in ("message", "detail", "msg") if isinstance(body.get(name), str)), "")
    )
    if not message and not error:
        return None
    text, code = (str(message) or str(error))[:MAX_SHOWN_CHARS], str(body.get("code") or body.get("status") or "")
    if code.isdecimal() and 400 <= int(code) < 600:
        found = error_of(int(code), text, {})
        return type(found)(found.kind, f"HTTP 200, and in it an error with the code {code}: {text}")
    return MalformedReplyError("error_body", f"HTTP 200, and in it an error: {text}")


def models_in(reply: Any) -> dict[str, Json]:
    """What a reply of /v1/models says of each model, by name; what names none is left out."""
    listed = reply.get("data") if isinstance(reply, dict) else reply
    items = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    return {str(item["id"]): item for item in items if item.get("id")}


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that the endpoint asks to wait (retry-after-ms, Retry-After in seconds or as a date), None where it does
    not ask."""
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
    """Seconds from now until an HTTP date, 0 if it has passed; NaN for what is none. Dates have whole seconds: rounded
    up."""
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() + 1.0 - time.time())
    except (ValueError, TypeError):
        return float("nan")


def parse_chat(reply: Any, endpoint: str = "") -> Reply:
    """The single answer of a chat completion. Raises MalformedReplyError.

    No text is an answer too: one that was cut while the model still reasoned, or that it or its provider refused to
    give."""
    choice = choices_of(reply, 1)[0]
    message, reason = object_at(choice, "message"), _chat_finish_reason(choice)
    text, reasoning = _text_and_reasoning(message)
    if text is None:
        if not message or not (reasoning or message.get("refusal") or reason != "stop"):
            shown = str(message)[:MAX_SHOWN_CHARS]
            raise MalformedReplyError("no_content", f"the choice has no message content: {shown}")
        text = str(message.get("refusal") or "")
    return Reply(text=text, finish_reason=reason, reasoning=reasoning, endpoint=endpoint, **_usage(reply))


def _text_and_reasoning(message: Json) -> tuple[str | None, str]:
    """The text of a message or a delta, None without any, and its reasoning: a field of its own (vLLM, DeepSeek), or
    parts (Mistral)."""
    content = message.get("content")
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    thought = reasoning if isinstance(reasoning, str) else ""
    if not isinstance(content, list):
        return (content if isinstance(content, str) else None), thought
    parts = [part for part in content if isinstance(part, dict)]
    texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
    thoughts = [str(part["thinking"]) for part in parts if part.get("thinking")]
    return "".join(texts), thought or "".join(thoughts)


def check_probe(reply: Any) -> None:
    """Raise MalformedReplyError unless an answer of one token came. A model that reasons may have no text in it yet."""
    _chat_finish_reason(choices_of(reply, 1)[0])


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
            text, thought = _text_and_reasoning(object_at(choice, "delta"))
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
    """Token counts of a reply; one that is missing is 0."""
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
    return any(object_at(choice, "delta").get("content") for choice in _chunks(event))


def _chunks(event: Any) -> list[Json]:
    """The choices of an event of a stream; those that are no objects are left out."""
    choices = event.get("choices") if isinstance(event, dict) else None
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


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


def object_at(holder: Json, name: str) -> Json:
    """The object under `name`, or an empty one where there is none."""
    value = holder.get(name)
    return value if isinstance(value, dict) else {}


def choices_of(reply: Any, expected: int) -> list[Json]:
    """The choices of a reply, `expected` of them, by their indices. Raises MalformedReplyError, or the error that the
    reply reports instead."""
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list) or len(choices) != expected:
        if (error := error_in(reply)) is not None:
            raise error
        found = len(choices) if isinstance(choices, list) else choices
        shown = str(reply)[:MAX_SHOWN_CHARS]
        raise MalformedReplyError(
            "wrong_choices", f"choices requested: {expected}, choices in the reply: {found!r}; it begins {shown}"
        )
    if not all(isinstance(choice, dict) for choice in choices):
        raise MalformedReplyError("wrong_choices", "a choice is no object")
    if expected > 1:
        indices = [choice.get("index", 0) for choice in choices]
        if any(indices.count(index) != 1 for index in range(expected)):
            raise MalformedReplyError("wrong_choices", f"the choices have the indices {indices}")
        choices.sort(key=lambda choice: choice["index"])
    return choices


def finished_choices(reply: Any, expected: int) -> list[tuple[Json, str]]:
    """As `choices_of`, each with its end, 'stop' or 'length'. Raises MalformedReplyError."""
    return [(choice, finish_reason_of(choice)) for choice in choices_of(reply, expected)]


def finish_reason_of(choice: Json) -> str:
    """'stop' or 'length', as the server may name them. Raises MalformedReplyError for an answer that did not come to
    its end."""
    reason = choice.get("finish_reason")
    end = _ENDS.get(reason.lower()) if isinstance(reason, str) else None
    if end is None:
        raise MalformedReplyError(
            "aborted", f"finish_reason is {reason!r}, so that nobody knows whether the answer is whole"
        )
    return end


def _chat_finish_reason(choice: Json) -> str:
    """As `finish_reason_of`, or 'content_filter': for an answer that nobody trains on, that is an outcome."""
    reason = choice.get("finish_reason")
    if isinstance(reason, str) and reason.lower() in FILTERED:
        return "content_filter"
    return finish_reason_of(choice)
