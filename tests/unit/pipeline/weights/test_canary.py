"""What a server's answer to the canary says of its weights."""

from __future__ import annotations

import math

import pytest

from pipeline.errors import WeightSyncError
from pipeline.weights.canary import Canary, CanarySequence, disagreement, logprobs_in


def canary(shift: float = 0.0) -> Canary:
    """Two sequences; `shift` moves every log-probability."""
    return Canary(
        sequences=(
            CanarySequence(token_ids=(1, 2, 3), logprobs=(-1.0 + shift, -2.0 + shift)),
            CanarySequence(token_ids=(4, 5), logprobs=(-0.5 + shift,)),
        )
    )


def answer(shift: float) -> list[float]:
    return [logprob + shift for logprob in (-1.0, -2.0, -0.5)]


def test_an_equal_answer_passes_and_one_beyond_the_tolerance_does_not() -> None:
    assert disagreement(answer(0.0), canary(), {}, 0.05) is None
    assert disagreement(answer(0.04), canary(), {}, 0.05) is None
    assert "differ from the learner's by 0.06" in (disagreement(answer(0.06), canary(), {}, 0.05) or "")


def test_the_weights_before_are_known_although_they_are_within_the_tolerance() -> None:
    before = canary(0.01)
    assert "still answers as l0-s000001" in (disagreement(answer(0.0101), canary(), {"l0-s000001": before}, 0.05) or "")
    assert disagreement(answer(0.0001), canary(), {"l0-s000001": before}, 0.05) is None
    assert disagreement(answer(0.002), canary(), {"l0-s000001": before}, 0.05) is None, "noise of a fifth of the update"


def test_weights_that_did_not_change_pass() -> None:
    assert disagreement(answer(1e-6), canary(), {"l0-s000001": canary()}, 0.05) is None
    assert disagreement(answer(0.0), canary(), {"l0-s000001": canary()}, 0.05) is None


def test_an_answer_that_is_no_number_does_not_pass() -> None:
    assert disagreement([math.nan, -2.0, -0.5], canary(), {}, 0.05) is not None


def choice(index: int, *positions: dict[str, float]) -> dict[str, object]:
    """A choice of vLLM's: nothing for the first token, then candidates by token id."""
    candidates = [{token: {"logprob": value, "rank": 1} for token, value in at.items()} for at in positions]
    return {"index": index, "prompt_logprobs": [None, *candidates]}


def test_log_probabilities_are_found_by_token_in_the_order_of_the_sequences() -> None:
    first = choice(0, {"9": -0.1, "2": -1.0}, {"3": -2.0})
    assert logprobs_in({"choices": [choice(1, {"5": -0.5}), first]}, canary()) == [-1.0, -2.0, -0.5]


@pytest.mark.parametrize(
    "reply",
    [
        {},
        [],
        {"choices": None},
        {"choices": [choice(0, {"2": -1.0}, {"3": -2.0})]},
        {"choices": [choice(0, {"2": -1.0}), choice(1, {"5": -0.5})]},
        {"choices": [choice(0, {"2": -1.0}, {"7": -2.0}), choice(1, {"5": -0.5})]},
        {"choices": [{"index": 0, "prompt_logprobs": None}, choice(1, {"5": -0.5})]},
    ],
)
def test_an_answer_without_them_is_named(reply: object) -> None:
    with pytest.raises(WeightSyncError, match="did not answer the canary"):
        logprobs_in(reply, canary())
