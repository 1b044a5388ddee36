"""Replies of endpoints: what is accepted, and what each malformed one is called."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.config.rollout import SamplingSection
from pipeline.errors import FinalEndpointError, MalformedReplyError, RetryableEndpointError
from pipeline.inference import protocol, token_protocol
from pipeline.types import Message
from tests.builders import version


def choice(**changes: Any) -> dict[str, Any]:
    return {
        "index": 0,
        "text": "12",
        "finish_reason": "stop",
        "token_ids": [5, 6],
        "logprobs": {"content": [{"logprob": -0.1}, {"logprob": -0.2}]},
        "weight_versions": [
            {"version": "l0-s000003", "start": 0, "end": 1},
            {"version": "l0-s000004", "start": 1, "end": 2},
        ],
    } | changes


def test_a_sample_has_its_ids_log_probabilities_and_oldest_and_newest_version() -> None:
    samples = token_protocol.parse_generate({"choices": [choice(index=1, text="b"), choice()]}, (1, 2), 2)
    assert [completion.text for completion in samples.completions] == ["12", "b"]
    first = samples.completions[0]
    assert (first.token_ids, first.logprobs) == ((5, 6), (-0.1, -0.2))
    assert (first.oldest_version, first.newest_version) == (version(3), version(4))


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ({"choices": None}, "wrong_choices"),
        ({"choices": []}, "wrong_choices"),
        ([], "wrong_choices"),
        ({"choices": [choice(token_ids=None)]}, "no_token_ids"),
        ({"choices": [choice(logprobs=None)]}, "no_logprobs"),
        ({"choices": [choice(logprobs={"content": [{"logprob": -0.1}]})]}, "no_logprobs"),
        ({"choices": [choice(logprobs={"content": [{"logprob": None}, {"logprob": 0}]})]}, "no_logprobs"),
        ({"choices": [choice(finish_reason="abort")]}, "aborted"),
        ({"choices": [choice(finish_reason=None)]}, "aborted"),
        ({"choices": [choice(text=None)]}, "no_content"),
        ({"choices": [choice(weight_versions=[{"version": "default"}])]}, "unverified_weights"),
        ({"choices": [choice(weight_versions=[{"version": "loading-l0-s000004"}])]}, "unverified_weights"),
    ],
)
def test_a_partial_answer_is_refused_by_name(reply: Any, kind: str) -> None:
    with pytest.raises(MalformedReplyError) as caught:
        token_protocol.parse_generate(reply, (1,), 1)
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("status", "body", "kind", "failure"),
    [
        (429, "slow down", "http_429", RetryableEndpointError),
        (429, '{"error": {"code": "insufficient_quota"}}', "quota", FinalEndpointError),
        (503, "", "http_503", RetryableEndpointError),
        (529, "", "http_529", RetryableEndpointError),
        (400, "too long", "http_400", FinalEndpointError),
        (401, "", "http_401", FinalEndpointError),
    ],
)
def test_statuses_are_retried_or_final(status: int, body: str, kind: str, failure: type) -> None:
    error = protocol.error_of(status, body, {"Retry-After": "3"})
    assert type(error) is failure
    assert error.kind == kind


@pytest.mark.parametrize(
    ("header", "seconds"), [("3", 3.0), ("0.5", 0.5), ("-1", None), (None, None), ("Wed, 21 Oct", None)]
)
def test_retry_after_is_read_in_seconds(header: str | None, seconds: float | None) -> None:
    assert protocol.error_of(503, "", {} if header is None else {"Retry-After": header}).retry_after_s == seconds


def test_only_what_differs_from_the_servers_defaults_is_sent() -> None:
    assert "top_p" not in token_protocol.sampling_body(SamplingSection(), 8, 2, 1)
    body = token_protocol.sampling_body(SamplingSection(top_p=0.9, top_k=5, min_p=0.1), 8, 2, 1)
    assert (body["top_p"], body["top_k"], body["min_p"], body["n"]) == (0.9, 5, 0.1, 2)


def test_a_schema_asks_for_structured_outputs() -> None:
    body = protocol.chat_body(
        "m", (Message(role="user", content="x"),), max_tokens=4, temperature=0.0, schema={"type": "object"}
    )
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}


@pytest.mark.parametrize(
    "reply",
    [
        {"choices": [{"index": None, "finish_reason": "stop"}, {"index": 1, "finish_reason": "stop"}]},
        {"choices": [{"index": "0"}, {"index": [1]}]},
        {"choices": [{"index": 0, "message": "text", "token_ids": [1]}, {"index": 1}], "prompt_token_ids": [1]},
        {"choices": [{"index": 0, "message": ["text"]}, {"index": 1}], "prompt_token_ids": 7},
        {"choices": [{"index": 0, "token_ids": {"a": 1}, "message": {"content": "x"}}, {"index": 1}], "prompt_token_ids": [1]},
        {"choices": {"0": {}}},
        "text",
        None,
    ],
)  # fmt: skip
def test_whatever_stands_where_something_else_was_promised_is_a_malformed_reply(reply: object) -> None:
    for parse in (
        lambda: token_protocol.parse_generate(reply, (1,), 2),
        lambda: token_protocol.parse_chat_samples(reply, 2, "l0-s000000", "l0-s000000"),
        lambda: protocol.parse_chat(reply),
    ):
        with pytest.raises(MalformedReplyError):
            parse()


def test_a_stream_of_oddities_is_a_malformed_reply_and_has_no_content() -> None:
    for event in ({"choices": ["text"]}, {"choices": [{"delta": "text"}]}, {"choices": {"0": 1}}, {"usage": [1]}):
        assert not protocol.has_content(event)
        with pytest.raises(MalformedReplyError):
            protocol.parse_stream([event], None)


def chat(message: Any, finish_reason: Any = "stop") -> dict[str, Any]:
    usage = {"prompt_tokens": 5, "completion_tokens": 16}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}], "usage": usage}


@pytest.mark.parametrize(
    ("message", "finish_reason", "expected"),
    [
        # vLLM with --reasoning-parser on an answer that was cut while it reasoned; newer ones name the field
        # `reasoning`.
        ({"content": None, "reasoning_content": "First,"}, "length", ("", "length", "First,")),
        ({"content": None, "reasoning": "First,"}, "length", ("", "length", "First,")),
        ({"role": "assistant"}, "length", ("", "length", "")),
        ({"content": None, "reasoning": "So 7."}, "stop", ("", "stop", "So 7.")),
        ({"content": "7", "reasoning_content": "So"}, "stop", ("7", "stop", "So")),
        ({"content": None, "refusal": "I cannot."}, "stop", ("I cannot.", "stop", "")),
        ({"content": None}, "content_filter", ("", "content_filter", "")),
        ({"content": "Half"}, "SAFETY", ("Half", "content_filter", "")),
        ({"content": "7"}, "eos_token", ("7", "stop", "")),
        ({"content": "7"}, "end_turn", ("7", "stop", "")),
        ({"content": "7"}, "STOP", ("7", "stop", "")),
        ({"content": "7"}, "max_tokens", ("7", "length", "")),
        ({"content": [{"type": "thinking", "thinking": "Hm"}, {"type": "text", "text": "7"}]}, "stop", ("7", "stop", "Hm")),
        ({"content": ""}, "stop", ("", "stop", "")),
    ],
)  # fmt: skip
def test_an_answer_without_text_is_an_answer(message: Any, finish_reason: str, expected: tuple[str, str, str]) -> None:
    reply = protocol.parse_chat(chat(message, finish_reason), "http://here")
    assert (reply.text, reply.finish_reason, reply.reasoning) == expected
    assert (reply.endpoint, reply.num_completion_tokens) == ("http://here", 16)


@pytest.mark.parametrize(
    ("message", "finish_reason", "kind"),
    [
        ({"content": None}, "stop", "no_content"),
        (None, "length", "no_content"),
        ({"content": "7"}, "abort", "aborted"),
        ({"content": "7"}, None, "aborted"),
        ({"content": "7"}, "tired", "aborted"),
    ],
)
def test_an_answer_that_did_not_come_is_asked_for_again(message: Any, finish_reason: Any, kind: str) -> None:
    with pytest.raises(MalformedReplyError) as caught:
        protocol.parse_chat(chat(message, finish_reason))
    assert caught.value.kind == kind


def test_what_was_filtered_is_no_sample_to_train_on() -> None:
    with pytest.raises(MalformedReplyError, match="content_filter"):
        token_protocol.parse_generate({"choices": [choice(finish_reason="content_filter")]}, (1,), 1)


def test_a_stream_keeps_its_reasoning_apart() -> None:
    events = [
        {"choices": [{"delta": {"reasoning_content": "Let "}}]},
        {"choices": [{"delta": {"reasoning_content": "me"}}]},
        {"choices": [{"delta": {"content": "7"}, "finish_reason": "eos"}], "usage": {"completion_tokens": 3}},
    ]
    reply = protocol.parse_stream(events, 0.1)
    assert (reply.text, reply.reasoning, reply.finish_reason) == ("7", "Let me", "stop")
