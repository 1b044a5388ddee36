"""The canary of published weights: a few token sequences with the log-probabilities that the learner gives them.

A server that claims a version must give them too. Loading can fail without an error: weights of another version, a head
that kept its packed copy, a wrong dtype all answer HTTP 200 (docs/lab-notebook.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from pipeline.errors import WeightSyncError
from pipeline.types import Record

FILE = "canary.json"
# How many times nearer to other weights than to the new ones an answer must be to be taken for theirs. Between equal
# weights both distances are rounding and the quotient is about 1.
NEARER = 3.0


class CanarySequence(Record):
    """`token_ids` (T,) and `logprobs` (T - 1,): of each token but the first, given those before it, at temperature
    1."""

    token_ids: tuple[int, ...] = Field(min_length=2)
    logprobs: tuple[float, ...]


class Canary(Record):
    sequences: tuple[CanarySequence, ...]


def read_canary(folder: Path) -> Canary | None:
    """The canary of the weights in `folder`; None where they have none (a model that nobody of this project saved)."""
    try:
        return Canary.model_validate_json((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def body_of(canary: Canary, model: str) -> dict[str, Any]:
    """The request (/v1/completions) that asks a vLLM server for the log-probabilities of the sequences."""
    prompts = [list(sequence.token_ids) for sequence in canary.sequences]
    return {"model": model, "prompt": prompts, "max_tokens": 1, "temperature": 1.0, "prompt_logprobs": 1}


def logprobs_in(reply: Any, canary: Canary) -> list[float]:
    """The log-probabilities of all sequences in `reply`, one after the other. Raises WeightSyncError."""
    try:
        choices = sorted(reply["choices"], key=lambda choice: choice["index"])
        return [
            float(at_position[str(token)]["logprob"])
            for choice, sequence in zip(choices, canary.sequences, strict=True)
            for token, at_position in zip(sequence.token_ids[1:], choice["prompt_logprobs"][1:], strict=True)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise WeightSyncError(
            f"the server did not answer the canary with log-probabilities of the prompt ({type(error).__name__}: "
            f"{error}): {str(reply)[:200]}"
        ) from error


def disagreement(found: list[float], expected: Canary, others: Mapping[str, Canary], tolerance: float) -> str | None:
    """What speaks against a server that gave `found`; None if nothing does.

    Its mean gap to `expected` must be at most `tolerance` nats per token, and it must not be that of `others`, weights
    by their names: after one small update those differ by less than a tolerance that allows for bfloat16."""
    gap = _mean_gap(found, expected)
    if not gap <= tolerance:
        return (
            f"its log-probabilities differ from the learner's by {gap:.4g} nats per token, more than "
            f"servers.canary_tolerance = {tolerance}"
        )
    gaps = {name: _mean_gap(found, other) for name, other in others.items() if _tokens(other) == _tokens(expected)}
    nearest = min(gaps, key=gaps.__getitem__, default=None)
    if nearest is not None and gap > NEARER * gaps[nearest]:
        return (
            f"it still answers as {nearest} ({gaps[nearest]:.3g} nats per token from those weights, {gap:.3g} from the "
            "new ones)"
        )
    return None


def _mean_gap(found: list[float], canary: Canary) -> float:
    """Nats per token; not a number when an answer is none."""
    expected = [logprob for sequence in canary.sequences for logprob in sequence.logprobs]
    return math.fsum(abs(a - b) for a, b in zip(found, expected, strict=True)) / len(expected)


def _tokens(canary: Canary) -> list[tuple[int, ...]]:
    return [sequence.token_ids for sequence in canary.sequences]
