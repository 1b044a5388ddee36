"""What endpoints do wrong, and what the pool owes its caller then (docs/promises.md: 4, 5, 6, 7, 10).

Small forms run always; the full ones are marked slow and differ only in their numbers."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from pipeline.config.endpoints import EndpointSettings, RequestsSection
from pipeline.config.rollout import SamplingSection
from pipeline.errors import EndpointError, FinalEndpointError
from pipeline.inference.client import InferenceClient
from pipeline.inference.token_protocol import Samples
from pipeline.runtime.watchdog import Stuck, Watchdog
from pipeline.types import Message
from servers.mock.faults import CATALOGUE, GENERATE, named
from tests.integration.conftest import StartMock
from tests.scripted_endpoint import serving

VERSION = "l0-s000000"
QUICK = RequestsSection(
    timeout_s=20.0, attempt_timeout_s=0.4, max_attempts=4, backoff_s=0.01, probe_after_s=0.02, max_probe_after_s=0.1
)
FAULTS = {fault.name: fault for fault in CATALOGUE}


def full(*values: Any) -> Any:
    """A parameter of a promise's full form."""
    return pytest.param(*values, marks=pytest.mark.slow)


async def control(url: str, path: str, body: Any = None) -> Any:
    async with aiohttp.ClientSession() as session, session.post(url + path, data=json.dumps(body)) as reply:
        assert reply.status == 200, await reply.text()
        return await reply.json()


async def counters(url: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/_mock/counters") as reply:
        return await reply.json()


@asynccontextmanager
async def pool_over(
    *endpoints: EndpointSettings, requests: RequestsSection = QUICK, **parts: Any
) -> AsyncIterator[InferenceClient]:
    """A pool over mock endpoints that serve version l0-s000000 through the token routes."""
    async with InferenceClient(endpoints, "policy", requests, **parts) as pool:
        for endpoint in pool.endpoints:
            endpoint.has_token_route = True
            await control(endpoint.url, "/update_weight_version", {"new_version": VERSION})
        yield pool


async def generate(pool: InferenceClient, num_samples: int = 2) -> Samples:
    return await pool.generate((5, 6, 7), SamplingSection(), num_samples, max_tokens=16, seed=1, stage="rollout")


# Promise 5: every fault is classified


@pytest.mark.parametrize("num", [2, full(50)])
@pytest.mark.parametrize("name", sorted(FAULTS))
async def test_every_fault_is_classified(start_mock: StartMock, name: str, num: int) -> None:
    fault = FAULTS[name]
    async with pool_over(await start_mock(), requests=QUICK.model_copy(update={"breaker_failures": 3})) as pool:
        url = pool.endpoints[0].url
        expected = await generate(pool)
        for _ in range(num):
            await control(url, "/_mock/faults", [{"route": GENERATE, **fault.values}])
            before = pool.usage.total("requests", "rollout")
            if fault.duty == "final":
                with pytest.raises(FinalEndpointError):
                    await generate(pool)
                assert pool.usage.total("requests", "rollout") == before + 1
            else:
                assert await generate(pool) == expected, "a whole answer, never part of one"
                assert pool.usage.total("requests", "rollout") == before + (2 if fault.duty == "retry" else 1)
        seen = await counters(url)
    assert sum(seen["faults"].values()) == num, "each fault was met"
    kinds = {kind for tally in pool.usage.tallies.values() for kind in tally.others if kind.startswith("failed_")}
    assert len(kinds) <= 1, f"one fault has one name: {kinds}"


async def test_a_stream_that_is_cut_is_asked_for_again(start_mock: StartMock) -> None:
    """A provider that closes a stream early: no [DONE], so no answer."""
    num = 0

    async def chat(request: web.Request) -> web.StreamResponse:
        nonlocal num
        num += 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        chunk = '{"choices": [{"index": 0, "delta": {"content": "4"}, "finish_reason": "stop"}]}'
        await response.write(f"data: {chunk}\n\n".encode() + (b"data: [DONE]\n\n" if num > 1 else b""))
        return response

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    async with (
        serving(app) as url,
        InferenceClient((EndpointSettings(url=url),), "policy", QUICK) as pool,
    ):
        reply = await pool.chat(
            (Message(role="user", content="?"),), max_tokens=4, temperature=0.0, stage="eval", stream=True
        )
        assert (reply.text, num) == ("4", 2)
        assert pool.usage.total("failed_cut_stream") == 1


# Promise 6: retries are bounded, Retry-After is kept


@pytest.mark.parametrize("num", [5, full(100)])
async def test_no_request_is_on_the_wire_more_often_than_configured(start_mock: StartMock, num: int) -> None:
    hedged = QUICK.model_copy(update={"hedge_after_s": 0.05, "max_attempts": 3, "breaker_failures": 10_000})
    first, second = await start_mock(latency_s=0.06), await start_mock(latency_s=0.06)
    async with pool_over(first, second, requests=hedged) as pool:
        for endpoint in pool.endpoints:
            await control(
                endpoint.url, "/_mock/faults", [{"route": GENERATE, "kind": "status", "code": 500, "count": 10_000}]
            )
        results = await asyncio.gather(*(generate(pool) for _ in range(num)), return_exceptions=True)
        assert all(isinstance(result, EndpointError) for result in results)
        sent = sum([(await counters(endpoint.url))["requests"][GENERATE] for endpoint in pool.endpoints])
    assert sent <= 3 * num


@pytest.mark.parametrize("num", [12, full(500)])
async def test_retry_after_is_never_undercut(start_mock: StartMock, num: int) -> None:
    rng = random.Random(6)
    patient = QUICK.model_copy(update={"max_attempts": 3, "breaker_failures": 10_000})
    async with pool_over(await start_mock(), requests=patient) as pool:
        url = pool.endpoints[0].url
        for _ in range(num):
            asked = {"retry_after": f"{rng.uniform(0.02, 0.3):.3f}", "code": rng.choice([429, 503])}
            await control(url, "/_mock/faults", [{"route": GENERATE, "kind": "status", **asked}])
            assert await generate(pool)
        seen = await counters(url)
    assert (seen["retry_after_kept"], seen["retry_after_undercut"]) == (num, 0)


async def test_a_retry_after_beyond_the_deadline_ends_the_request_at_once(start_mock: StartMock) -> None:
    async with pool_over(await start_mock()) as pool:
        await control(
            pool.endpoints[0].url,
            "/_mock/faults",
            [{"route": GENERATE, "kind": "status", "code": 429, "retry_after": "3600"}],
        )
        begin = time.monotonic()
        with pytest.raises(EndpointError) as caught:
            await generate(pool)
    assert caught.value.kind == "http_429"
    assert time.monotonic() - begin < 5


# Promise 7: nothing hangs


@pytest.mark.parametrize("num", [10, full(100)])
async def test_black_holes_are_named_and_ended(start_mock: StartMock, num: int) -> None:
    reported: list[Stuck] = []
    once = QUICK.model_copy(update={"attempt_timeout_s": 1.0, "max_attempts": 1, "breaker_failures": 10_000})
    async with pool_over(await start_mock(), requests=once, watchdog=Watchdog(reported.append)) as pool:
        await control(pool.endpoints[0].url, "/_mock/faults", [{"route": GENERATE, "kind": "black_hole", "count": num}])
        begin = time.monotonic()
        results = await asyncio.gather(*(generate(pool) for _ in range(num)), return_exceptions=True)
        # 32 at a time fit the endpoint, fewer when time-outs make the bound shrink.
        assert time.monotonic() - begin < num * 1.0 + 10
        assert {getattr(result, "kind", result) for result in results} == {"timeout"}
        url = pool.endpoints[0].url
    assert len(reported) == num
    assert all(stuck.waited_s < stuck.deadline_s + 10 and url in stuck.what for stuck in reported)


# Promise 4: endpoints may flap


@pytest.mark.parametrize(("seconds", "period_s"), [(4.0, 0.8), full(60.0, 4.0)])
async def test_one_of_three_down_half_of_the_time_costs_less_than_its_share(
    start_mock: StartMock, seconds: float, period_s: float
) -> None:
    async def rate(*, flap: bool) -> float:
        endpoints = [(await start_mock(latency_s=0.05)).model_copy(update={"max_concurrency": 8}) for _ in range(3)]
        async with pool_over(*endpoints) as pool:
            if flap:
                await control(endpoints[0].url, "/_mock/flap", {"period_s": period_s})
            end, num = time.monotonic() + seconds, 0

            async def ask() -> None:
                nonlocal num
                while time.monotonic() < end:
                    await generate(pool)
                    num += 1

            await asyncio.gather(*(ask() for _ in range(24)))
            return num / seconds

    steady, flapping = await rate(flap=False), await rate(flap=True)
    assert flapping >= 0.6 * steady, f"{flapping:.0f} of {steady:.0f} requests/s"


@pytest.mark.parametrize("outage_s", [1.5, full(600.0)])
async def test_work_resumes_soon_after_every_endpoint_was_down(start_mock: StartMock, outage_s: float) -> None:
    endpoint = await start_mock()
    async with pool_over(
        endpoint, requests=QUICK.model_copy(update={"max_probe_after_s": 10.0, "probe_after_s": 0.5, "timeout_s": 1.0})
    ) as pool:
        await control(endpoint.url, "/_mock/flap", {"period_s": 10_000, "down_share": 1.0})
        waiting = [asyncio.create_task(generate(pool)) for _ in range(8)]
        first = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, EndpointError) for result in first), "their attempts are used up"
        waiting = [asyncio.create_task(generate(pool)) for _ in range(8)]
        await asyncio.wait(waiting, timeout=outage_s)
        assert pool.all_unavailable
        await control(endpoint.url, "/_mock/flap", None)
        async with asyncio.timeout(30):
            done = await asyncio.gather(*waiting, return_exceptions=True)
        assert any(isinstance(result, Samples) for result in done)
        assert await generate(pool)


async def test_an_outage_longer_than_allowed_fails_what_waits_by_name(start_mock: StartMock) -> None:
    endpoint = await start_mock()
    async with pool_over(endpoint, requests=QUICK.model_copy(update={"max_outage_s": 0.3, "max_attempts": 50})) as pool:
        await control(endpoint.url, "/_mock/flap", {"period_s": 10_000, "down_share": 1.0})
        with pytest.raises(EndpointError) as caught:
            await generate(pool)
        assert caught.value.kind in ("no_endpoint", "deadline")
        with pytest.raises(FinalEndpointError, match="no endpoint was fit"):
            await generate(pool)


# Promise 10: nothing before it is verified


@pytest.mark.parametrize("num", [3, full(50)])
async def test_a_restarted_endpoint_gets_nothing_until_it_was_repaired(start_mock: StartMock, num: int) -> None:
    async def repair(endpoint: Any) -> None:
        await control(endpoint.url, "/update_weight_version", {"new_version": VERSION})

    settings = QUICK.model_copy(update={"check_every_s": 0.05})
    async with pool_over(await start_mock(), requests=settings, repair=repair) as pool:
        (endpoint,) = pool.endpoints
        await control(endpoint.url, "/_mock/counters/reset")
        for index in range(num):
            begin = time.monotonic()
            before = endpoint.breaker.num_opened
            await control(endpoint.url, "/_mock/crash")
            while endpoint.breaker.num_opened == before or not endpoint.available:  # noqa: ASYNC110 - the inspection finds it
                await asyncio.sleep(0.01)
            assert time.monotonic() - begin < 10, "noticed while nothing was asked of it"
            assert await generate(pool), index
        seen = await counters(endpoint.url)
    assert seen["unverified"] == 0, "not even the canary came before the weights"


async def test_before_a_run_has_weights_no_server_is_set_aside_for_lacking_them(start_mock: StartMock) -> None:
    published = False

    async def repair(endpoint: Any) -> None:
        assert published, "there is nothing yet to bring it to"
        await control(endpoint.url, "/update_weight_version", {"new_version": VERSION})

    settings = QUICK.model_copy(update={"check_every_s": 0.05})
    parts: dict[str, Any] = {"repair": repair, "has_weights": lambda: published}
    async with InferenceClient((await start_mock(),), "policy", settings, **parts) as pool:
        (endpoint,) = pool.endpoints
        for _ in range(20):
            assert (
                await pool.chat((Message(role="user", content="?"),), max_tokens=8, temperature=0.0, stage="eval")
            ).text
            await asyncio.sleep(0.02)
        assert endpoint.breaker.num_opened == 0
        published = True
        while not endpoint.breaker.num_opened or not endpoint.available:  # noqa: ASYNC110 - now it lacks something
            await asyncio.sleep(0.01)
        assert await pool._weight_version(endpoint) == VERSION


# Promise 8: nothing older than the bound is trained


async def test_what_an_endpoint_samples_with_older_weights_is_refused_until_it_was_repaired(
    start_mock: StartMock,
) -> None:
    repaired: list[str] = []

    async def repair(endpoint: Any) -> None:
        repaired.append(endpoint.url)
        await control(endpoint.url, "/update_weight_version", {"new_version": "l0-s000003"})

    settings = QUICK.model_copy(update={"check_every_s": 100.0, "affinity": False})
    async with pool_over(await start_mock(), await start_mock(), requests=settings, repair=repair) as pool:
        fresh, stale = (endpoint.url for endpoint in pool.endpoints)
        await control(fresh, "/update_weight_version", {"new_version": "l0-s000003"})
        samples = await asyncio.gather(
            *(
                pool.generate(
                    (5,),
                    SamplingSection(),
                    2,
                    max_tokens=4,
                    seed=0,
                    stage="rollout",
                    accept=lambda version: version.step >= 2,
                )
                for _ in range(40)
            )
        )
        oldest = [completion.oldest_version for sample in samples for completion in sample.completions]
        assert {version.step for version in oldest if version} == {3}
        assert pool.usage.total("failed_stale_weights", endpoint=stale) > 0
        assert repaired == [stale]


async def test_an_open_breaker_lets_only_its_probe_through_and_closes_after_it(start_mock: StartMock) -> None:
    settings = QUICK.model_copy(update={"breaker_failures": 2, "max_attempts": 2, "probe_after_s": 0.3})
    async with pool_over(await start_mock(), requests=settings) as pool:
        (endpoint,) = pool.endpoints
        await control(endpoint.url, "/_mock/faults", [{"route": GENERATE, "kind": "status", "code": 500, "count": 2}])
        with pytest.raises(EndpointError):
            await generate(pool)
        assert endpoint.breaker.state == "open"
        sent = (await counters(endpoint.url))["requests"][GENERATE]
        asking = asyncio.create_task(generate(pool))
        await asyncio.wait({asking}, timeout=0.1)
        assert (await counters(endpoint.url))["requests"][GENERATE] == sent
        assert await asking
        assert pool.usage.total("succeeded", "rejoin") == 1


def test_names_of_faults_are_found_or_refused() -> None:
    assert named("http_500").duty == "retry"
    with pytest.raises(KeyError, match="there are http_400"):
        named("http_599")
