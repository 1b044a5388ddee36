"""The mock endpoint answers in vLLM's shapes, the same for the same seed, and fails exactly as told."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from pipeline.errors import MalformedReplyError
from pipeline.inference.protocol import parse_chat
from servers.mock.answers import calculate, conforming, decode
from servers.mock.faults import CATALOGUE, CHAT, GENERATE, RENDER, FaultRate, seeded_faults
from servers.mock.latency import Latency

ROOT = Path(__file__).resolve().parents[2]
MESSAGES = [{"role": "user", "content": "What is 12 + 35 - 4?"}]
SCHEMA = {
    "type": "object",
    "properties": {
        "flow": {"type": "string", "minLength": 5, "maxLength": 12},
        "items": {"type": "array", "items": {"$ref": "#/$defs/item"}, "minItems": 2},
    },
    "required": ["flow", "items"],
    "$defs": {"item": {"enum": ["a", "b"]}},
}


@asynccontextmanager
async def endpoint(*arguments: str) -> AsyncIterator[aiohttp.ClientSession]:
    """A mock process, as a client session with its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "servers.mock", *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            url = (await process.stdout.readline()).decode().strip()
        async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(20)) as session:
            yield session
    finally:
        process.terminate()
        await process.wait()


async def post(session: aiohttp.ClientSession, route: str, body: Any = None) -> Any:
    async with session.post(route, json=body) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def get(session: aiohttp.ClientSession, route: str) -> Any:
    async with session.get(route) as response:
        assert response.status == 200
        return await response.json()


def chat(**changes: Any) -> dict[str, Any]:
    return {"model": "policy", "messages": MESSAGES, "logprobs": True, "return_token_ids": True} | changes


async def test_chat_returns_aligned_ids_and_log_probabilities() -> None:
    async with endpoint("--accuracy", "1") as session:
        reply = await post(session, CHAT, chat(n=3))
        assert [choice["index"] for choice in reply["choices"]] == [0, 1, 2]
        for choice in reply["choices"]:
            assert choice["message"]["content"].endswith("\\boxed{43}.")
            assert decode(choice["token_ids"]) == choice["message"]["content"]
            assert len(choice["token_ids"]) == len(choice["logprobs"]["content"])
            assert choice["finish_reason"] == "stop"
        rendered = await post(session, RENDER, chat())
        assert rendered["token_ids"] == reply["prompt_token_ids"]
        cut = await post(session, CHAT, chat(max_tokens=5))
        assert cut["choices"][0]["finish_reason"] == "length"
        assert len(cut["choices"][0]["token_ids"]) == 5
        assert cut["usage"]["completion_tokens"] == 5


async def test_generate_answers_the_rendered_prompt_as_chat_does_and_names_its_weights() -> None:
    async with endpoint() as session:
        ids = (await post(session, RENDER, chat()))["token_ids"]
        sampling = {"n": 2, "seed": 4, "max_tokens": 200, "logprobs": 0}
        body = {"model": "policy", "token_ids": ids, "sampling_params": sampling, "output_mode": "text"}
        first = await post(session, GENERATE, body)
        via_chat = await post(session, CHAT, chat(n=2, seed=4, max_tokens=200))
        for choice, other in zip(first["choices"], via_chat["choices"], strict=True):
            assert choice["text"] == other["message"]["content"]
            assert choice["token_ids"] == other["token_ids"]
            span = {"version": "default", "start": 0, "end": len(choice["token_ids"])}
            assert choice["weight_versions"] == [span]
        assert "text" not in (await post(session, GENERATE, body | {"output_mode": "tokens"}))["choices"][0]


async def test_answers_depend_on_the_seed_alone_and_are_right_as_often_as_asked() -> None:
    async def texts(*arguments: str) -> list[str]:
        async with endpoint(*arguments) as session:
            reply = await post(session, CHAT, chat(n=200))
            return [choice["message"]["content"] for choice in reply["choices"]]

    first, again, other = await asyncio.gather(texts("--seed", "1"), texts("--seed", "1"), texts("--seed", "2"))
    assert first == again
    assert first != other
    num_right = sum("boxed{43}" in text for text in first)
    assert 70 < num_right < 130


async def test_weights_are_paused_loaded_named_and_resumed(tmp_path: Path) -> None:
    async with endpoint() as session:
        assert await get(session, "/weight_info") == {"weight_version": "default"}
        assert await post(session, "/pause?mode=keep") == {"status": "paused"}
        held = asyncio.create_task(post(session, CHAT, chat()))
        reload = {"method": "reload_weights", "kwargs": {"weights_path": str(tmp_path)}}
        assert await post(session, "/collective_rpc", reload) == {"results": [None]}
        async with session.post(
            "/collective_rpc", json={"method": "reload_weights", "kwargs": {"weights_path": "/no"}}
        ) as r:
            assert r.status == 500
        label = {"new_version": "l0-s000001"}
        assert await post(session, "/update_weight_version", label) == {"success": True, **label}
        assert await post(session, "/reset_prefix_cache") == {"success": True}
        assert (await get(session, "/is_paused"))["is_paused"]
        assert not held.done()
        assert await post(session, "/resume") == {"status": "resumed"}
        assert (await held)["choices"]
        assert await get(session, "/weight_info") == {"weight_version": "l0-s000001"}


async def test_a_json_schema_is_kept() -> None:
    async with endpoint() as session:
        form = {"type": "json_schema", "json_schema": {"name": "lesson", "schema": SCHEMA}}
        content = (await post(session, CHAT, chat(response_format=form)))["choices"][0]["message"]["content"]
    reply = json.loads(content)
    assert set(reply) == {"flow", "items"}
    assert 5 <= len(reply["flow"]) <= 12
    assert len(reply["items"]) == 2
    assert set(reply["items"]) <= {"a", "b"}


async def test_a_plain_endpoint_has_neither_token_ids_nor_vllms_routes() -> None:
    async with endpoint("--no-token-ids", "--model", "other") as session:
        assert (await get(session, "/v1/models"))["data"][0]["id"] == "other"
        reply = await post(session, CHAT, chat(model="other"))
        assert reply["prompt_token_ids"] is None
        assert reply["choices"][0]["token_ids"] is None
        assert reply["choices"][0]["logprobs"]["content"]
        for route in (RENDER, GENERATE, "/pause"):
            async with session.post(route, json={}) as response:
                assert response.status == 404
        async with session.post(CHAT, json=chat()) as response:
            assert response.status == 404
            assert "The model `policy` does not exist" in await response.text()


async def test_each_fault_hits_as_many_requests_as_planned() -> None:
    async with endpoint() as session:
        plan = [{"route": CHAT, "kind": "status", "code": 429, "retry_after": "7", "count": 2}]
        await post(session, "/_mock/faults", plan)
        for _ in range(2):
            async with session.post(CHAT, json=chat()) as response:
                assert response.status == 429
                assert response.headers["Retry-After"] == "7"
        await post(session, CHAT, chat())
        await post(session, "/_mock/faults", [{"kind": "reset"}])
        with pytest.raises(aiohttp.ClientError):
            await post(session, CHAT, chat())
        counters = await get(session, "/_mock/counters")
        assert counters["faults"] == {"status": 2, "reset": 1}
        assert counters["requests"] == {CHAT: 4}


@pytest.mark.parametrize("kind", ["choices_null", "empty_choices"])
async def test_a_reply_without_choices_is_malformed_to_the_client(kind: str) -> None:
    async with endpoint() as session:
        await post(session, "/_mock/faults", [{"kind": kind}])
        with pytest.raises(MalformedReplyError):
            parse_chat(await post(session, CHAT, chat()))
        assert parse_chat(await post(session, CHAT, chat())).text


async def test_other_faults_spoil_what_they_name() -> None:
    async with endpoint() as session:
        kinds = ("missing_logprobs", "wrong_lengths", "abort", "truncated_json")
        await post(session, "/_mock/faults", [{"kind": kind} for kind in kinds])
        assert (await post(session, CHAT, chat()))["choices"][0]["logprobs"] is None
        (choice,) = (await post(session, CHAT, chat()))["choices"]
        assert len(choice["logprobs"]["content"]) == len(choice["token_ids"]) - 1
        assert (await post(session, CHAT, chat()))["choices"][0]["finish_reason"] == "abort"
        with pytest.raises(json.JSONDecodeError):
            await post(session, CHAT, chat())


async def test_a_plan_comes_from_a_file_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    plan = tmp_path / "faults.json"
    plan.write_text('[{"kind": "status", "code": 500}]')
    async with endpoint("--faults", str(plan)) as session:
        async with session.post(CHAT, json=chat()) as response:
            assert response.status == 500
        async with session.post("/_mock/faults", json=[{"kind": "nonsense"}]) as response:
            assert response.status == 400
    assert seeded_faults(3) == seeded_faults(3) != seeded_faults(4)
    rates = [FaultRate(seed=seed, probability=0.2) for seed in (1, 1, 2)]
    first, again, other = ([rate.at(CHAT, number) for number in range(200)] for rate in rates)
    assert first == again != other
    assert 20 < sum(fault is not None for fault in first) < 60


def test_the_catalogue_names_at_least_forty_faults_each_once() -> None:
    names = [fault.name for fault in CATALOGUE]
    assert len(names) == len(set(names)) >= 40
    assert {fault.duty for fault in CATALOGUE} == {"retry", "final", "accept"}


async def test_the_openai_client_completes_streams_and_embeds() -> None:
    async with endpoint("--accuracy", "1") as session:
        base = str(session._base_url).rstrip("/") + "/"
        async with openai.AsyncOpenAI(base_url=f"{base}v1", api_key="none", max_retries=0) as client:
            question: Any = [{"role": "user", "content": "What is 12 + 35 ="}]
            whole = await client.chat.completions.create(model="policy", messages=question, temperature=0)
            pieces, counted = "", None
            async for chunk in await client.chat.completions.create(
                model="policy", messages=question, temperature=0, stream=True, stream_options={"include_usage": True}
            ):
                pieces += "".join(choice.delta.content or "" for choice in chunk.choices)
                counted = chunk.usage or counted
            assert pieces == whole.choices[0].message.content
            assert counted is not None
            assert whole.usage is not None
            assert counted.completion_tokens == whole.usage.completion_tokens
            text = await client.completions.create(model="policy", prompt="12 + 35 =", max_tokens=64)
            assert "47" in text.choices[0].text
            vectors = (await client.embeddings.create(model="policy", input=["a", "b", "a"])).data
            assert vectors[0].embedding == vectors[2].embedding != vectors[1].embedding
            assert abs(sum(value**2 for value in vectors[0].embedding) - 1) < 1e-5


async def test_connections_retries_and_early_retries_are_counted() -> None:
    async with endpoint() as session:

        async def ask(name: str) -> int:
            async with session.post(CHAT, json=chat(), headers={"X-Request-Id": name}) as response:
                return response.status

        await post(session, "/_mock/faults", [{"kind": "status", "code": 429, "retry_after": "30"}])
        assert [await ask("a-0"), await ask("a-1"), await ask("b-0")] == [429, 200, 200]
        counters = await get(session, "/_mock/counters")
    assert (counters["retries"], counters["max_attempts"], counters["retry_after_undercut"]) == (1, 2, 1)
    assert counters["connections"] == 1
    assert counters["unverified"] == 3, "the weights are the fresh server's own"


async def test_a_crash_drops_what_is_generating_and_forgets_the_weights() -> None:
    async with endpoint("--latency-s", "30") as session:
        await post(session, "/update_weight_version", {"new_version": "l0-s000001"})
        asking = asyncio.create_task(post(session, CHAT, chat()))
        while (await get(session, "/_mock/counters"))["in_flight"] == 0:  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(0.01)
        assert (await post(session, "/_mock/crash"))["dropped"] == 1
        with pytest.raises(aiohttp.ClientError):
            await asking
        assert await get(session, "/weight_info") == {"weight_version": "default"}


async def test_weights_that_change_while_tokens_are_sampled_show_in_the_spans() -> None:
    async with endpoint("--s-per-token", "0.01", "--num-tokens", "30") as session:
        ids = (await post(session, RENDER, chat()))["token_ids"]
        await post(session, "/update_weight_version", {"new_version": "l0-s000001"})
        body = {"model": "policy", "token_ids": ids, "sampling_params": {"max_tokens": 64}, "output_mode": "text"}
        asking = asyncio.create_task(post(session, GENERATE, body))
        while (await get(session, "/_mock/counters"))["in_flight"] == 0:  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(0.01)
        await post(session, "/update_weight_version", {"new_version": "l0-s000002"})
        spans = (await asking)["choices"][0]["weight_versions"]
    assert [span["version"] for span in spans] == ["l0-s000001", "l0-s000002"]
    assert spans[0]["end"] == spans[1]["start"]


async def test_keys_limits_and_outages_are_enforced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOCK_KEY", "right")
    async with endpoint("--api-key-env", "MOCK_KEY", "--max-concurrency", "1", "--latency-s", "0.2") as session:
        async with session.post(CHAT, json=chat()) as response:
            assert response.status == 401
        keyed = {"Authorization": "Bearer right"}

        async def status() -> int:
            async with session.post(CHAT, json=chat(), headers=keyed) as response:
                return response.status

        assert sorted(await asyncio.gather(status(), status())) == [200, 429]
        assert await get(session, "/weight_info"), "vLLM's key does not guard the control routes"
        await post(session, "/_mock/flap", {"period_s": 1000, "down_share": 1.0, "how": "status"})
        assert await status() == 503


@pytest.mark.parametrize("spec", ["fixed", "uniform:1", "lognormal:1,x", "gamma:1,2", "fixed:-1"])
def test_a_latency_that_is_none_is_refused_by_the_forms_there_are(spec: str) -> None:
    with pytest.raises(ValueError, match="is none of fixed:seconds"):
        Latency(spec, 0)


def test_latencies_follow_their_distribution_and_seed() -> None:
    medians = {
        "fixed:0.5": 0.5,
        "uniform:0.2,0.8": 0.5,
        "exponential:1": 0.69,
        "lognormal:0.3,0.8": 0.3,
        "pareto:0.1,1": 0.2,
    }
    for spec, median in medians.items():
        draws = [Latency(spec, 3).draw_s() for _ in range(2)]
        assert draws[0] == draws[1]
        latency = Latency(spec, 3)
        assert abs(statistics.median(latency.draw_s() for _ in range(4000)) - median) < 0.06 * median + 0.01


def test_sums_are_calculated_with_precedence() -> None:
    assert calculate("12 + 35") == 47
    assert calculate("2 - 3 * 4 + 1") == -9


def test_the_lesson_schema_is_conformed_to() -> None:
    import random

    from prompts.schemas import Lesson

    Lesson.model_validate(conforming(Lesson.model_json_schema(), random.Random(0)))
