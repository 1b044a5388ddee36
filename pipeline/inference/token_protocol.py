"""vLLM's token-in/token-out routes as pure functions: exact token ids, log-probabilities, the weight version of every
token."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, Required, TypedDict

from pipeline.config.rollout import SamplingSection
from pipeline.errors import MalformedReplyError
from pipeline.inference.protocol import Json, finished_choices, object_at
from pipeline.types import Completion, WeightVersion
from pipeline.weights.sync import CHECKING


class SamplingRequest(TypedDict, total=False):
    """A request for samples: all of it but the prompt and how to sample."""

    max_tokens: Required[int]
    seed: Required[int]
    stage: Required[str]
    priority: int
    affinity: str
    accept: Callable[[WeightVersion], bool] | None
    """Which weights may have sampled; what others sampled is not returned."""


class Samples(NamedTuple):
    """G completions of one prompt, with the prompt's exact token ids (P,)."""

    prompt_ids: tuple[int, ...]
    completions: tuple[Completion, ...]
    num_prompt_tokens: int
    num_completion_tokens: int
    num_cached_prompt_tokens: int = 0
    under_check: bool = False
    """Whether some tokens come from weights that had not yet answered their canary."""


def sampling_body(sampling: SamplingSection, max_tokens: int, num_samples: int, seed: int | None) -> Json:
    """vLLM's sampling parameters for `num_samples` rollouts with the log-probability of each sampled token."""
    body: Json = {
        "n": num_samples,
        "temperature": sampling.temperature,
        "max_tokens": max_tokens,
        "seed": seed,
        "top_p": sampling.top_p if sampling.top_p < 1 else None,
        "top_k": sampling.top_k or None,
        "min_p": sampling.min_p or None,
    }
    return {name: value for name, value in body.items() if value is not None}


def generate_body(model: str, prompt_ids: tuple[int, ...], sampling: Json) -> Json:
    """Body of /inference/v1/generate: token ids in, token ids, log-probabilities, text and weight versions out."""
    return {
        "model": model,
        "token_ids": list(prompt_ids),
        "sampling_params": {**sampling, "logprobs": 0},
        "output_mode": "text",
    }


def parse_render(reply: Any) -> tuple[int, ...]:
    """Token ids (P,) of the render route. Raises MalformedReplyError."""
    token_ids = reply.get("token_ids") if isinstance(reply, dict) else None
    if not isinstance(token_ids, list) or not token_ids:
        raise MalformedReplyError("no_token_ids", "the render route returned no token_ids")
    return tuple(token_ids)


def parse_weight_version(reply: Any) -> str:
    """The label of the weights that a server reports (/weight_info); a fresh vLLM says 'default'."""
    if not isinstance(reply, dict):
        raise MalformedReplyError("no_versions", f"/weight_info answered {str(reply)[:100]}")
    return str(reply.get("weight_version", ""))


def parse_generate(
    reply: Any, prompt_ids: tuple[int, ...], num_samples: int, named: WeightVersion | None = None
) -> Samples:
    """Samples of /inference/v1/generate with the weight versions of their tokens, or `named` for all, where the request
    named its weights. Raises MalformedReplyError."""
    completions, under_check = [], False
    for choice, finish_reason in finished_choices(reply, num_samples):
        labels = _labels_of(choice.get("weight_versions"))
        oldest, newest = _span_of(labels)
        under_check |= any(map(is_under_check, labels))
        completions.append(_completion(choice, choice.get("text"), finish_reason, named or oldest, named or newest))
    return _samples(prompt_ids, completions, under_check=under_check)


def parse_chat_samples(
    reply: Any, num_samples: int, before: str, after: str, named: WeightVersion | None = None
) -> Samples:
    """Samples of a chat completion with `return_token_ids`. Their weight versions are between `before` and `after`, the
    server's around the request, or are `named`, where the request named its weights. Raises MalformedReplyError."""
    prompt_ids = reply.get("prompt_token_ids") if isinstance(reply, dict) else None
    if not isinstance(prompt_ids, list) or not prompt_ids:
        raise MalformedReplyError("no_token_ids", "the reply has no prompt_token_ids")
    oldest, newest = version_of(before), version_of(after)
    completions = [
        _completion(
            choice, object_at(choice, "message").get("content"), finish_reason, named or oldest, named or newest
        )
        for choice, finish_reason in finished_choices(reply, num_samples)
    ]
    return _samples(tuple(prompt_ids), completions, under_check=is_under_check(before) or is_under_check(after))


def _samples(prompt_ids: tuple[int, ...], completions: list[Completion], *, under_check: bool) -> Samples:
    num_completion_tokens = sum(len(completion.token_ids) for completion in completions)
    return Samples(prompt_ids, tuple(completions), len(prompt_ids), num_completion_tokens, under_check=under_check)


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
    """Whether a server's label is of weights that have not yet answered their canary."""
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


# A run has a few thousand versions, and each is parsed for every choice.
parsed_version = lru_cache(maxsize=256)(WeightVersion.parse)


def _completion(
    choice: Json, text: Any, finish_reason: str, oldest: WeightVersion | None, newest: WeightVersion | None
) -> Completion:
    """A choice as a record. Raises MalformedReplyError."""
    token_ids = choice.get("token_ids")
    try:
        # A sum tells numbers from anything else without a loop in Python.
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
        finish_reason=finish_reason,
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
