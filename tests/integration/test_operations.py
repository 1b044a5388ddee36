"""What an operator asks over HTTP, of a pool that asks loopback endpoints; and that no key is told or logged."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from pipeline.config import Config
from pipeline.config.endpoints import EndpointSettings, RequestsSection
from pipeline.config.operations import OperationsSection
from pipeline.errors import EndpointError, ServerStartError
from pipeline.inference.client import InferenceClient
from pipeline.inference.telemetry import request_fields
from pipeline.observability import http_server, logs
from pipeline.observability.http_server import OperationsServer
from pipeline.observability.secrets import secrets_of
from pipeline.observability.snapshot import RunSources
from pipeline.runtime.child_process import free_port
from pipeline.runtime.watchdog import Watchdog
from pipeline.types import Message
from servers.mock.faults import CHAT, Fault
from tests.integration.conftest import StartMock
from tests.scripted_endpoint import serving

QUESTION = (Message(role="user", content="What is 12 + 35 ="),)
REQUESTS = RequestsSection(timeout_s=20.0, attempt_timeout_s=10.0, max_attempts=4, backoff_s=0.01, breaker_failures=99)
KEY = "canary-7f3a91c0d2"


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@asynccontextmanager
async def operating(sources: RunSources, **kwargs: Any) -> AsyncIterator[OperationsServer]:
    async with OperationsServer(free_port(), sources, **kwargs) as server:
        yield server


async def get(session: aiohttp.ClientSession, url: str) -> tuple[int, Any]:
    async with session.get(url) as reply:
        return reply.status, await (reply.json() if reply.content_type == "application/json" else reply.text())


async def scrape(
    session: aiohttp.ClientSession, server: OperationsServer
) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Labels and values by the name of the sample."""
    status, text = await get(session, f"{server.url}/metrics")
    assert status == 200
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


async def ask(pool: InferenceClient, stage: str = "eval") -> None:
    await pool.chat(QUESTION, max_tokens=8, temperature=0.0, stage=stage)


async def test_a_scrape_equals_what_was_done(start_mock: StartMock, session: aiohttp.ClientSession) -> None:
    faults = [Fault(route=CHAT, kind="status", code=503, count=2)]
    settings = (await start_mock(faults=faults)).model_copy(update={"prompt_price": 1.0, "completion_price": 3.0})
    watchdog = Watchdog()
    async with (
        InferenceClient((settings,), "policy", REQUESTS, watchdog=watchdog) as pool,
        operating(RunSources(pools={"policy": pool}, watchdog=watchdog)) as server,
    ):
        for stage, num in (("eval", 3), ("abstract", 2)):
            for _ in range(num):
                await ask(pool, stage)
        found = await scrape(session, server)
        port = str(pool.endpoints[0].host_and_port[1])

    def by_stage(name: str, **labels: str) -> dict[str, float]:
        return {at["stage"]: value for at, value in found[name] if labels.items() <= at.items()}

    assert by_stage("lanpo_requests_total") == {"eval": 5, "abstract": 2}
    assert by_stage("lanpo_requests_succeeded_total") == {"eval": 3, "abstract": 2}
    assert by_stage("lanpo_request_retries_total") == {"eval": 2}
    assert by_stage("lanpo_request_failures_total", error_type="http_503") == {"eval": 2}
    duration = "gen_ai_client_operation_duration_seconds"
    named = {"server_address": "127.0.0.1", "server_port": port, "gen_ai_request_model": "policy"}
    assert by_stage(f"{duration}_count", **named) == {"eval": 3, "abstract": 2}
    assert by_stage(f"{duration}_bucket", le="+Inf", **named) == {"eval": 3, "abstract": 2}
    tokens = {
        kind: sum(by_stage("gen_ai_client_token_usage_sum", gen_ai_token_type=kind).values())
        for kind in ("input", "output")
    }
    assert tokens == {"input": pool.usage.total("prompt_tokens"), "output": pool.usage.total("completion_tokens")}
    assert all(tokens.values())
    assert sum(by_stage("lanpo_cost_total").values()) == pytest.approx(pool.usage.cost())
    assert found["lanpo_requests_waiting"] == [({"pool": "policy"}, 0)]
    assert {at["state"]: value for at, value in found["lanpo_endpoint_breaker_state"]} == {
        "closed": 1, "open": 0, "half_open": 0,
    }  # fmt: skip


async def test_a_scrape_sees_what_is_under_way(start_mock: StartMock, session: aiohttp.ClientSession) -> None:
    settings = (await start_mock(latency_s=30.0)).model_copy(update={"max_concurrency": 2})
    async with (
        InferenceClient((settings,), "policy", REQUESTS) as pool,
        operating(RunSources(pools={"policy": pool})) as server,
    ):
        asking = [asyncio.ensure_future(ask(pool)) for _ in range(5)]
        while pool.num_waiting < 3:  # noqa: ASYNC110 - the event is the pool's state
            await asyncio.sleep(0.01)
        found = await scrape(session, server)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    assert [value for _, value in found["lanpo_endpoint_requests_in_flight"]] == [2]
    assert found["lanpo_requests_waiting"] == [({"pool": "policy"}, 3)]


async def test_readiness_follows_the_breaker(start_mock: StartMock, session: aiohttp.ClientSession) -> None:
    requests = REQUESTS.model_copy(
        update={"breaker_failures": 1, "max_attempts": 1, "probe_after_s": 0.01, "max_probe_after_s": 0.01}
    )
    settings = await start_mock(faults=[Fault(route=CHAT, kind="status", code=500, count=1)])
    sources = RunSources()
    async with operating(sources) as server:
        assert (await get(session, f"{server.url}/readyz"))[0] == 503
        async with InferenceClient((settings,), "policy", requests) as pool:
            sources.pools["policy"] = pool
            assert await get(session, f"{server.url}/readyz") == (200, {"ready": True, "reasons": []})
            closed, pool.endpoints[0].breaker.state = pool.endpoints[0].breaker.state, "open"
            status, body = await get(session, f"{server.url}/readyz")
            assert status == 503
            assert "no endpoint of the pool 'policy' has a closed breaker: 127.0.0.1:" in body["reasons"][0]
            pool.endpoints[0].breaker.state = closed
            with pytest.raises(EndpointError):
                await ask(pool)
            while pool.all_unavailable:  # noqa: ASYNC110 - the event is the pool's state
                await asyncio.sleep(0.01)
            assert (await get(session, f"{server.url}/readyz"))[0] == 200


async def test_a_live_loop_says_how_late_it_is(session: aiohttp.ClientSession) -> None:
    sources = RunSources()
    async with operating(sources) as server:
        status, body = await get(session, f"{server.url}/livez")
        assert status == 200
        assert body["alive"] is True
        assert 0 <= body["loop_lag_s"] < http_server.DEAD_AFTER_S
        found = await scrape(session, server)
        assert found["lanpo_event_loop_lag_seconds_count"][0][1] >= 1


def blocking_get(url: str) -> tuple[int, Any]:
    """Keeps the event loop of its caller from turning."""
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def stuck_until_it_is_noticed(url: str) -> Any:
    while True:
        status, body = blocking_get(f"{url}/livez")
        if status != 200:
            return status, body


async def test_a_loop_that_is_stuck_is_told_from_outside_with_what_it_is_at(
    monkeypatch: pytest.MonkeyPatch, session: aiohttp.ClientSession
) -> None:
    monkeypatch.setattr(http_server, "DEAD_AFTER_S", 0.3)
    monkeypatch.setattr(http_server, "ANSWER_WITHIN_S", 0.1)
    async with operating(RunSources()) as server:
        status, body = stuck_until_it_is_noticed(server.url)
        assert (status, body["alive"]) == (503, False)
        assert body["loop_lag_s"] > 0
        assert re.match(r"the event loop has not turned for \d+\.\d s; ", body["reason"])
        assert any(frame.endswith("stuck_until_it_is_noticed") for frame in body["frames"])
        assert blocking_get(f"{server.url}/metrics")[0] == 503
        assert blocking_get(f"{server.url}/readyz") == (
            503, {"ready": False, "reasons": ["the event loop does not turn; see /livez"]},
        )  # fmt: skip
        monkeypatch.undo()
        assert (await get(session, f"{server.url}/livez"))[0] == 200
        assert (await get(session, f"{server.url}/metrics"))[0] == 200


async def test_the_port_is_free_again_afterwards_and_named_while_taken() -> None:
    port = free_port()
    async with OperationsServer(port, RunSources()):
        with pytest.raises(
            ServerStartError, match=rf"operations\.port = {port} .*\(Address already in use\).*another one, or to 0"
        ):
            async with OperationsServer(port, RunSources()):
                pass
    async with OperationsServer(port, RunSources()):
        pass


# No key is told


async def _echo(request: web.Request) -> web.Response:
    """Refuses the key, and repeats it in header and body, as some gateways do."""
    key = request.headers.get("Authorization", "-").split()[-1]
    return web.Response(status=401, text=f"Incorrect API key provided: {key}", headers={"X-Your-Key": key})


@pytest.fixture
async def echo() -> AsyncIterator[EndpointSettings]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", _echo)
    async with serving(app) as url:
        yield EndpointSettings(url=url, api_key_env="CANARY_KEY")


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.usefixtures("logging_as_before")
async def test_a_canary_key_is_in_no_log_no_metric_and_no_output(
    tmp_path: Path,
    echo: EndpointSettings,
    session: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    log_format: str,
) -> None:
    monkeypatch.setenv("CANARY_KEY", KEY)
    config = Config.model_validate(
        {"endpoints": [echo], "operations": {"log_format": log_format, "log_level": "debug"}}
    )
    secrets = secrets_of(config)
    reported = await _fail_with_the_key(config.operations, config.endpoints, tmp_path / "log", secrets, session)
    log = (tmp_path / "log").read_text(encoding="utf-8")
    assert "Incorrect API key provided: ***" in log
    assert "http_401" in log or log_format == "text"
    assert 'error_type="http_401"' in reported
    assert KEY not in log
    assert KEY not in reported
    assert KEY not in "".join(capfd.readouterr())


@pytest.mark.usefixtures("logging_as_before")
async def test_the_canary_would_be_found(
    tmp_path: Path, echo: EndpointSettings, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail: of the same failures, the log of a run that does not know its key has it."""
    monkeypatch.setenv("CANARY_KEY", KEY)
    debug = OperationsSection(log_level="debug")
    await _fail_with_the_key(debug, (echo,), tmp_path / "log", (), session)
    assert KEY in (tmp_path / "log").read_text(encoding="utf-8")


async def _fail_with_the_key(
    settings: OperationsSection,
    endpoints: tuple[EndpointSettings, ...],
    log: Path,
    secrets: tuple[str, ...],
    session: aiohttp.ClientSession,
) -> str:
    """Requests that are refused, by the pool and by the openai client, logged as a run would; returns what a scrape
    says."""
    logs.configure(log, settings, secrets)
    logger = logging.getLogger("pipeline.test")
    async with InferenceClient(endpoints, "policy", REQUESTS) as pool:
        try:
            await ask(pool)
        except EndpointError as error:
            logger.debug("%s", error, extra=request_fields(pool.endpoints[0], "eval", "a-0", error))
            logger.exception("the request failed")
        async with openai.AsyncOpenAI(base_url=f"{endpoints[0].url}/v1", api_key=KEY, max_retries=0) as client:
            try:
                await client.chat.completions.create(model="policy", messages=[{"role": "user", "content": "Hi"}])
            except openai.AuthenticationError:
                logger.exception("the client failed too")
        async with operating(RunSources(pools={"policy": pool}), secrets=secrets) as server:
            return "".join(
                [str(await get(session, f"{server.url}{path}")) for path in ("/metrics", "/readyz", "/livez")]
            )
