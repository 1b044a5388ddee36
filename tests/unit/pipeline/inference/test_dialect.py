"""What an endpoint's refusals teach, in the words of those that are known."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import FinalEndpointError
from pipeline.inference.dialect import Dialect

BODY: dict[str, Any] = {"model": "m", "messages": [], "max_tokens": 16, "temperature": 0.0, "seed": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            (
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'"
                " instead."
            ),
            {"model": "m", "messages": [], "max_completion_tokens": 16, "temperature": 0.0, "seed": 1},
        ),
        (
            (
                "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is "
                "supported."
            ),
            {"model": "m", "messages": [], "max_tokens": 16, "seed": 1},
        ),
        ("`temperature` is deprecated for this model.", {"model": "m", "messages": [], "max_tokens": 16, "seed": 1}),
        (
            (
                '{"detail":[{"type":"extra_forbidden","loc":["body","seed"],"msg":"Extra inputs are not '
                'permitted","input":1}]}'
            ),
            {"model": "m", "messages": [], "max_tokens": 16, "temperature": 0.0},
        ),
    ],
)
def test_a_refused_parameter_is_renamed_or_left_out(text: str, expected: dict[str, Any]) -> None:
    dialect = Dialect()
    assert dialect.learn(FinalEndpointError("http_400", f"HTTP 400: {text}"), BODY)
    assert dialect.spoken(BODY) == expected
    assert BODY["max_tokens"] == 16


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (
            "http_400",
            (
                "'max_tokens' or 'max_completion_tokens' is too large: 9000. This model's maximum context length is "
                "8192 tokens"
            ),
        ),
        ("http_400", "This model's maximum context length is 4096 tokens, which is not supported"),
        ("http_400", "messages.0.content: an image is not supported"),
        ("http_400", "temperature must be at most 2"),
        ("http_401", "temperature is not supported"),
    ],
)
def test_any_other_refusal_teaches_nothing(kind: str, text: str) -> None:
    dialect = Dialect()
    assert not dialect.learn(FinalEndpointError(kind, text), BODY)
    assert dialect.spoken(BODY) is BODY


def test_what_was_not_sent_cannot_be_left_out() -> None:
    dialect = Dialect()
    assert not dialect.learn(FinalEndpointError("http_400", "'top_p' is not supported"), BODY)
