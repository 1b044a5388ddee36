"""JSON in replies, with what models put around it."""

from __future__ import annotations

import json
import time
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import FinalEndpointError
from pipeline.inference.structured_output import described, parse_json_reply, refuses_schema
from pipeline.types import Message


class Verdict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    verdict: Literal["yes", "no"]
    why: str = ""


YES, NO = '{"verdict": "yes"}', '{"verdict": "no"}'


@pytest.mark.parametrize(
    "text",
    [
        YES,
        f"\n {YES}\n",
        f"<think>{NO}? Let me see {{x}}.</think>\n{YES}",
        f"They match, {NO} would be wrong.</think>{YES}",
        f"```json\n{YES}\n```",
        f"~~~\n{YES}\n~~~",
        f"Here is my verdict: {YES}",
        f"Here is my verdict:\n```\n{YES}\n```\nI compared \\frac{{1}}{{2}} with {{0.5}}.",
        f"First {NO}, but on reflection {YES}",
        f'{YES} (as asked, not {{"answer": 1}})',
        '{"verdict": "yes", "why": "a } in a string, and <think>"}',
        "{" * 500 + YES,
    ],
)
def test_the_last_object_of_the_kind_counts(text: str) -> None:
    assert parse_json_reply(Verdict, text).verdict == "yes"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Invalid JSON"),
        ("yes", "Invalid JSON"),
        ("[]", "object"),
        ('{"verdict": "yes"', "Invalid JSON"),
        (f"<think>{YES}", "Invalid JSON"),
        ('Here it is: {"verdict": "maybe"}', "'yes' or 'no'"),
        ('{"verdict": "yes", "sure": true}', "Extra inputs"),
        ('{"other": 1} and {}', "Field required"),
        ('{"verdict": "\ud83d"}', ""),
    ],
)
def test_what_is_no_such_object_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        parse_json_reply(Verdict, text)


def test_hostile_text_costs_little() -> None:
    begin = time.process_time()
    for text in ("{" * 100_000, '{"a":' * 20_000, '{"a":[' * 20_000 + "}", "<think>" * 20_000, '{"' * 50_000):
        with pytest.raises(ValidationError):
            parse_json_reply(Verdict, text)
    assert time.process_time() - begin < 5


def test_a_long_reply_is_read_whole() -> None:
    found = parse_json_reply(Verdict, "So. " * 10_000 + json.dumps({"verdict": "no", "why": "x" * 10_000}))
    assert (found.verdict, len(found.why)) == ("no", 10_000)


@pytest.mark.parametrize(
    ("kind", "message", "refuses"),
    [
        ("http_400", "HTTP 400: This response_format type is unavailable now", True),
        ("http_400", "HTTP 400: model does not support response format `json_schema`", True),
        ("http_422", 'HTTP 422: {"detail": [{"loc": ["body", "response_format"], "type": "extra_forbidden"}]}', True),
        ("http_400", "HTTP 400: Grammar error: Unimplemented keys", True),
        ("http_400", "HTTP 400: This model's maximum context length is 2048 tokens", False),
        ("http_401", "HTTP 401: no key for response_format", False),
        ("quota", "the quota is used up", False),
    ],
)
def test_an_endpoint_that_refuses_schemas_says_so(kind: str, message: str, refuses: bool) -> None:
    assert refuses_schema(FinalEndpointError(kind, message)) == refuses


def test_a_schema_in_words_is_in_the_last_message() -> None:
    messages = (Message(role="system", content="Be brief."), Message(role="user", content="Judge."))
    system, user = described(messages, Verdict.model_json_schema())
    assert system == messages[0]
    assert user.content.startswith("Judge.\n") and '"enum": ["yes", "no"]' in user.content
