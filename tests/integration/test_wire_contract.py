"""Our client and the openai client say the same over the wire, and read the same answers.

Both ask a recording server: what each sent (method, path, body, key) and what each made of the answer are compared. The
server is the mock endpoint behind a recorder, so that the answers are real ones."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import openai
import pytest
from aiohttp import web

from pipeline.config.endpoints import EndpointSettings, RequestsSection
from pipeline.config.rollout import SamplingSection
from pipeline.errors import EndpointError, FinalEndpointError, RetryableEndpointError
from pipeline.inference.client import InferenceClient
from pipeline.types import Message
from servers.mock.endpoint import MockEndpoint, Settings
from tests.scripted_endpoint import serving

KEY_ENV, KEY = "LANPO_TEST_KEY", "a-key-for-the-test"
MESSAGES = (Message(role="system", content="You solve problems."), Message(role="user", content="What is 12 + 35 ="))
AS_JSON: Any = [message.model_dump() for message in MESSAGES]
SCHEMA = {"type": "object", "properties": {"flow": {"type": "string", "maxLength": 20}}, "required": ["flow"]}
TEMPLATE = {"enable_thinking": False}


class Sent(NamedTuple):
    """What went over the wire, without what may differ: the order of keys, the names of the clients."""

    method: str
    path: str
    body: Any
    authorization: str
    content_type: str


class Recorder:
    """A mock endpoint that remembers what it was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.sent: list[Sent] = []

    def taken(self) -> list[Sent]:
        sent, self.sent = self.sent, []
        return sent


@pytest.fixture
async def recorder(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Recorder]:
    monkeypatch.setenv(KEY_ENV, KEY)
    app = MockEndpoint(Settings(accuracy=1.0)).application()
    record = Recorder("")

    @web.middleware
    async def recording(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        content = await request.read()
        if not request.path.startswith(("/_mock", "/update_weight_version", "/weight_info")):
            kind = request.headers.get("Content-Type", "").partition(";")[0] if content else ""
            key = request.headers.get("Authorization", "")
            record.sent.append(Sent(request.method, request.path, json.loads(content or b"null"), key, kind))
        return await handler(request)

    app.middlewares.insert(0, recording)
    async with serving(app) as record.url:
        yield record


def pool_for(recorder: Recorder, *, key: bool = True, **parts: Any) -> InferenceClient:
    settings = EndpointSettings(url=recorder.url, api_key_env=KEY_ENV if key else "")
    return InferenceClient((settings,), "policy", RequestsSection(max_attempts=1), **parts)


def reference(recorder: Recorder) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{recorder.url}/v1", api_key=KEY, max_retries=0)


class Case(NamedTuple):
    """One kind of chat request: what our pool is given, and what the openai client is given for the same."""

    ours: dict[str, Any]
    theirs: dict[str, Any]
    pool: dict[str, Any] = {}  # noqa: RUF012 - never changed


SCHEMA_FORMAT = {"type": "json_schema", "json_schema": {"name": "reply", "schema": SCHEMA, "strict": True}}
CHATS = {
    "plain": Case({"max_tokens": 64, "temperature": 0.7}, {"max_tokens": 64, "temperature": 0.7}),
    "greedy": Case({"max_tokens": 8, "temperature": 0.0}, {"max_tokens": 8, "temperature": 0.0}),
    "seeded": Case(
        {"max_tokens": 64, "temperature": 1.0, "seed": 7},
        {"max_tokens": 64, "temperature": 1.0, "seed": 7},
        {"seeded": True},
    ),
    "schema": Case(
        {"max_tokens": 64, "temperature": 0.0, "schema": SCHEMA},
        {"max_tokens": 64, "temperature": 0.0, "response_format": SCHEMA_FORMAT},
    ),
    "template": Case(
        {"max_tokens": 64, "temperature": 0.0},
        {"max_tokens": 64, "temperature": 0.0, "extra_body": {"chat_template_kwargs": TEMPLATE}},
        {"chat_template_kwargs": TEMPLATE},
    ),
}


@pytest.mark.parametrize("name", sorted(CHATS))
async def test_a_chat_is_the_same_on_the_wire_and_read_the_same(recorder: Recorder, name: str) -> None:
    case = CHATS[name]
    async with pool_for(recorder, **case.pool) as pool, reference(recorder) as client:
        ours = await pool.chat(MESSAGES, stage="eval", **case.ours)
        ours_sent = recorder.taken()
        theirs = await client.chat.completions.create(model="policy", messages=AS_JSON, **case.theirs)
        assert ours_sent == recorder.taken()
    assert theirs.usage is not None
    assert ours.text == theirs.choices[0].message.content
    assert ours.finish_reason == theirs.choices[0].finish_reason
    assert (ours.num_prompt_tokens, ours.num_completion_tokens) == (
        theirs.usage.prompt_tokens,
        theirs.usage.completion_tokens,
    )


async def test_a_streamed_chat_is_the_same_on_the_wire_and_read_the_same(recorder: Recorder) -> None:
    async with pool_for(recorder) as pool, reference(recorder) as client:
        ours = await pool.chat(MESSAGES, max_tokens=64, temperature=0.0, stage="eval", stream=True)
        ours_sent = recorder.taken()
        text, reason, usage = "", None, None
        async for chunk in await client.chat.completions.create(
            model="policy", messages=AS_JSON, max_tokens=64, temperature=0.0, stream=True,
            stream_options={"include_usage": True},
        ):  # fmt: skip
            usage = chunk.usage or usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
                reason = choice.finish_reason or reason
        assert ours_sent == recorder.taken()
    assert usage is not None
    assert (ours.text, ours.finish_reason) == (text, reason)
    assert (ours.num_prompt_tokens, ours.num_completion_tokens) == (usage.prompt_tokens, usage.completion_tokens)
    assert ours.time_to_first_token_s is not None


async def test_rollouts_by_the_chat_route_are_the_same_on_the_wire_and_read_the_same(recorder: Recorder) -> None:
    sampling = SamplingSection(temperature=0.9, top_p=0.8, top_k=20, min_p=0.05)
    async with pool_for(recorder, seeded=True) as pool, reference(recorder) as client:
        await pool.post(pool.endpoints[0], "/update_weight_version", {"new_version": "l0-s000000"}, 5.0)
        ours = await pool.sample(MESSAGES, sampling, 3, max_tokens=32, seed=5, stage="rollout")
        ours_sent = recorder.taken()
        theirs: Any = await client.chat.completions.create(
            model="policy", messages=AS_JSON, max_tokens=32, temperature=0.9, top_p=0.8, n=3, seed=5, logprobs=True,
            extra_body={"top_k": 20, "min_p": 0.05, "return_token_ids": True},
        )  # fmt: skip
        assert ours_sent == recorder.taken()
    assert ours.prompt_ids == tuple(theirs.prompt_token_ids)
    for completion, choice in zip(ours.completions, theirs.choices, strict=True):
        assert completion.text == choice.message.content
        assert completion.token_ids == tuple(choice.token_ids)
        assert completion.logprobs == tuple(item.logprob for item in choice.logprobs.content)
        assert completion.finish_reason == choice.finish_reason


async def test_models_are_asked_for_in_the_same_way(recorder: Recorder) -> None:
    async with pool_for(recorder) as pool, reference(recorder) as client:
        ours = await pool.get(pool.endpoints[0], "/v1/models")
        (ours_sent,) = recorder.taken()
        theirs = [model.id async for model in client.models.list()]
        (theirs_sent,) = recorder.taken()
    assert ours_sent == theirs_sent
    assert [item["id"] for item in ours["data"]] == theirs


async def test_without_a_key_none_is_sent(recorder: Recorder) -> None:
    async with pool_for(recorder, key=False) as pool:
        await pool.chat(MESSAGES, max_tokens=4, temperature=0.0, stage="eval")
    assert [sent.authorization for sent in recorder.taken()] == [""]


@pytest.mark.parametrize(
    ("status", "theirs", "ours"),
    [
        (400, openai.BadRequestError, FinalEndpointError),
        (401, openai.AuthenticationError, FinalEndpointError),
        (403, openai.PermissionDeniedError, FinalEndpointError),
        (404, openai.NotFoundError, FinalEndpointError),
        (409, openai.ConflictError, RetryableEndpointError),
        (422, openai.UnprocessableEntityError, FinalEndpointError),
        (429, openai.RateLimitError, RetryableEndpointError),
        (500, openai.InternalServerError, RetryableEndpointError),
        (503, openai.InternalServerError, RetryableEndpointError),
    ],
)
async def test_errors_are_told_apart_as_the_reference_does(
    recorder: Recorder, status: int, theirs: type[Exception], ours: type[EndpointError]
) -> None:
    fault = {"kind": "status", "code": status, "count": 2, "retry_after": "3"}
    async with pool_for(recorder) as pool, reference(recorder) as client:
        await pool.post(pool.endpoints[0], "/_mock/faults", [fault], 5.0)  # type: ignore[arg-type]
        with pytest.raises(theirs):
            await client.chat.completions.create(model="policy", messages=AS_JSON, max_tokens=4)
        with pytest.raises(ours) as caught:
            await pool.chat(MESSAGES, max_tokens=4, temperature=0.0, stage="eval")
    assert caught.value.kind == f"http_{status}"
    assert caught.value.retry_after_s == (3.0 if ours is RetryableEndpointError else None)


async def test_a_difference_would_be_found(recorder: Recorder) -> None:
    async with pool_for(recorder) as pool, reference(recorder) as client:
        await pool.chat(MESSAGES, max_tokens=64, temperature=0.0, stage="eval")
        (ours,) = recorder.taken()
        await client.chat.completions.create(model="policy", messages=AS_JSON, max_tokens=65, temperature=0.0)
        (theirs,) = recorder.taken()
    assert ours != theirs
    assert ours._replace(body={**ours.body, "max_tokens": 65}) == theirs
