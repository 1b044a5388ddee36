"""Weights as LoRA adapters beside each other, over loopback: what a server is asked, and what a sample is labelled with
(docs/promises.md: 8, 9, 10)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pipeline.config import Config
from pipeline.config.endpoints import EndpointSettings, RequestsSection
from pipeline.config.rollout import SamplingSection
from pipeline.errors import EndpointSetupError, RetryableEndpointError, WeightSyncError
from pipeline.inference.capabilities import _check_adapter, check_adapters, check_endpoint
from pipeline.inference.client import CHAT, GENERATE, InferenceClient
from pipeline.inference.endpoint import Endpoint
from pipeline.inference.token_protocol import Samples
from pipeline.run.folder import RunFolder
from pipeline.weights.canary import FILE, Canary, CanarySequence
from pipeline.weights.publishing import ADAPTER_CONFIG, latest, path_of, prune, publish
from pipeline.weights.sync import REJECTED, sync_server
from servers.mock.control import Adapter
from servers.mock.endpoint import MockEndpoint, Settings
from tests.builders import version
from tests.integration.conftest import StartMock
from tests.integration.test_canary import label_of, with_canary
from tests.integration.test_endpoints import MESSAGES, break_next
from tests.integration.test_faults import control
from tests.scripted_endpoint import serving

REQUESTS = RequestsSection(
    timeout_s=20.0, attempt_timeout_s=10.0, max_attempts=4, check_every_s=60.0, probe_after_s=0.02
)
LOAD, UNLOAD, CANARY, LABEL = (
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/v1/completions",
    "/update_weight_version",
)
Call = tuple[str, str]
"""Path of a POST, and the name in its body: of an adapter, a model or a label."""


class Recorded:
    """A mock endpoint, and what was asked of it."""

    def __init__(self, url: str, mock: MockEndpoint, calls: list[Call]) -> None:
        self.url = url
        self.adapters = mock._control.adapters
        self.calls = calls
        self.spoil: Callable[[str], None] = lambda name: None
        """Called when an adapter was loaded."""

    def generated(self) -> set[str]:
        return {name for path, name in self.calls if path in (CHAT, GENERATE)}


@pytest.fixture
async def recorded() -> AsyncIterator[Callable[..., Awaitable[Recorded]]]:
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Recorded:
            mock = MockEndpoint(Settings(max_lora_rank=8, **settings))
            server = Recorded("", mock, [])

            @web.middleware
            async def record(request: web.Request, handler: Any) -> web.StreamResponse:
                if request.method == "POST" and not request.path.startswith("/_mock/"):
                    body = json.loads(await request.read() or b"{}")
                    name = body.get("lora_name") or body.get("model") or body.get("new_version") or ""
                    server.calls.append((request.path, name))
                response: web.StreamResponse = await handler(request)
                if request.path == LOAD and response.status == 200:
                    server.spoil(name)
                return response

            app = mock.application()
            app.middlewares.append(record)
            server.url = await stack.enter_async_context(serving(app))
            return server

        yield start


Start = Callable[..., Awaitable[Recorded]]


def adapter(logprob: float) -> Callable[[Path], None]:
    """What `publish` calls to write an adapter that gives each token of the canary `logprob`."""

    def save(folder: Path) -> None:
        (folder / ADAPTER_CONFIG).write_text(json.dumps({"r": 4}))
        (folder / "adapter_model.safetensors").write_bytes(b"x")
        sequence = CanarySequence(token_ids=(1, 2, 3), logprobs=(logprob, logprob))
        (folder / FILE).write_text(Canary(sequences=(sequence,)).model_dump_json())

    return save


@asynccontextmanager
async def adapter_pool(
    tmp_path: Path, server: Recorded, *, token_route: bool = True
) -> AsyncIterator[tuple[InferenceClient, RunFolder]]:
    """A pool over a server that has the reference, and its run."""
    run = RunFolder.create(
        Config.model_validate(
            {"run": {"root": tmp_path, "name": "r"}, "learner": {"transfer": "lora", "lora": {"rank": 4}}}
        )
    )
    publish(run, version(0), with_canary(-2.0))

    async def repair(endpoint: Endpoint) -> None:
        newest = latest(run)
        assert newest is not None
        await sync_server(run, endpoint.address, newest)

    settings = EndpointSettings(url=server.url, max_concurrency=32)
    async with InferenceClient((settings,), "policy", REQUESTS, repair=repair, adapters=True) as pool:
        pool.endpoints[0].has_token_route = token_route
        await sync_server(run, pool.endpoints[0].address, version(0))
        server.calls.clear()
        yield pool, run


async def bring(pool: InferenceClient, run: RunFolder, step: int, lineage: int = 0) -> float:
    return await sync_server(run, pool.endpoints[0].address, version(step, lineage))


async def sampled(pool: InferenceClient, **wanted: Any) -> Samples:
    return await pool.sample(MESSAGES, SamplingSection(), 2, max_tokens=16, seed=1, stage="rollout", **wanted)


def versions_of(samples: Samples) -> set[Any]:
    return {version for each in samples.completions for version in (each.oldest_version, each.newest_version)}


async def test_an_adapter_is_loaded_checked_and_only_then_named(tmp_path: Path, recorded: Start) -> None:
    server = await recorded()
    async with adapter_pool(tmp_path, server) as (pool, run):
        publish(run, version(1), adapter(-2.1))
        assert await bring(pool, run, 1) == 0.0, "nothing was paused"
        label = version(1).label
        assert server.calls == [(LOAD, label), (CANARY, label), (LABEL, label)]
        assert server.adapters[label].folder == path_of(run, version(1))
        server.calls.clear()
        assert await bring(pool, run, 1) == 0.0
        assert server.calls == [], "it has it"
        publish(run, version(2), adapter(-2.2))
        await bring(pool, run, 2)
        assert list(server.adapters) == [
            version(1).label,
            version(2).label,
        ], "what asked for the old one may still need it"


@pytest.mark.parametrize("token_route", [True, False])
async def test_each_request_names_its_weights_and_its_samples_bear_them(
    tmp_path: Path, recorded: Start, token_route: bool
) -> None:
    server = await recorded()
    async with adapter_pool(tmp_path, server, token_route=token_route) as (pool, run):
        assert versions_of(await sampled(pool)) == {version(0)}
        assert server.generated() == {"policy"}, "the reference is the base"
        for step in (1, 2):
            publish(run, version(step), adapter(-2.0 - step / 10))
            await bring(pool, run, step)
            server.calls.clear()
            assert versions_of(await sampled(pool)) == {version(step)}
            assert (await pool.chat(MESSAGES, max_tokens=8, temperature=0.0, stage="abstract")).text
            await pool.probe(pool.endpoints[0])
            assert server.generated() == {version(step).label}


async def test_a_sample_bears_the_weights_that_it_was_asked_of_whatever_the_server_is_brought_to_meanwhile(
    tmp_path: Path, recorded: Start
) -> None:
    server = await recorded(s_per_token=0.01, num_tokens=40)
    async with adapter_pool(tmp_path, server) as (pool, run):
        publish(run, version(1), adapter(-2.1))
        await bring(pool, run, 1)
        server.calls.clear()
        sampling = asyncio.create_task(
            pool.generate((5, 6), SamplingSection(), 1, max_tokens=40, seed=1, stage="rollout")
        )
        while not server.generated():  # noqa: ASYNC110 - the event is in the mock endpoint
            await asyncio.sleep(0.005)
        publish(run, version(2), adapter(-2.2))
        await bring(pool, run, 2)
        assert not sampling.done(), "nothing waited for it"
        assert versions_of(await sampling) == {version(1)}
        assert pool.usage.total("retries") == 0


async def test_an_adapter_that_does_not_load_leaves_the_server_with_the_one_before(
    tmp_path: Path, recorded: Start
) -> None:
    server = await recorded()
    async with adapter_pool(tmp_path, server) as (pool, run):
        publish(run, version(1), adapter(-2.1))
        await bring(pool, run, 1)
        publish(run, version(2), adapter(-2.2))
        await break_next(pool, route=LOAD, kind="status", code=500)
        with pytest.raises(WeightSyncError, match="/v1/load_lora_adapter answered 500"):
            await bring(pool, run, 2)
        assert await label_of(pool) == version(1).label
        assert versions_of(await sampled(pool)) == {version(1)}
        await bring(pool, run, 2)
        assert versions_of(await sampled(pool)) == {version(2)}


@pytest.mark.parametrize("wrong", ["other", "before"])
async def test_a_wrong_answer_to_the_canary_sets_the_server_aside_until_base_and_adapter_are_right(
    tmp_path: Path, recorded: Start, wrong: str
) -> None:
    server = await recorded()
    async with adapter_pool(tmp_path, server) as (pool, run):
        publish(run, version(1), adapter(-2.001))
        await bring(pool, run, 1)
        publish(run, version(2), adapter(-2.002))
        label, before = version(2).label, server.adapters[version(1).label].canary

        def spoil(name: str) -> None:
            server.adapters[name] = Adapter(server.adapters[name].folder, before if wrong == "before" else None)

        server.spoil = spoil
        with pytest.raises(WeightSyncError, match="l0-s000002 was loaded, but it"):
            await bring(pool, run, 2)
        assert await label_of(pool) == REJECTED + label
        server.spoil = lambda name: None
        server.calls.clear()
        assert versions_of(await sampled(pool)) == {version(2)}, "repaired first"
        repaired = [call for call in server.calls if call[0] not in (CHAT, GENERATE, "/v1/chat/completions/render")]
        assert repaired == [
            ("/pause", ""),
            (LABEL, f"loading-{version(0).label}"),
            ("/collective_rpc", ""),
            ("/reset_prefix_cache", ""),
            (LABEL, f"checking-{version(0).label}"),
            ("/resume", ""),
            (CANARY, "policy"),
            (LABEL, version(0).label),
            (UNLOAD, label),
            ("/reset_prefix_cache", ""),
            (LOAD, label),
            (CANARY, label),
            (LABEL, label),
        ]


@pytest.mark.parametrize("busy", [True, False])
async def test_a_restarted_server_gets_nothing_until_it_has_base_and_adapter_again(
    tmp_path: Path, recorded: Start, busy: bool
) -> None:
    server = await recorded(latency_s=0.05)
    async with adapter_pool(tmp_path, server) as (pool, run):
        publish(run, version(1), adapter(-2.1))
        await bring(pool, run, 1)
        server.calls.clear()
        asking = [asyncio.create_task(sampled(pool)) for _ in range(4)] if busy else []
        while busy and len([path for path, _ in server.calls if path == GENERATE]) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        await control(server.url, "/_mock/crash")
        server.calls.clear()
        samples = await asyncio.gather(*asking, sampled(pool))
        assert {found for each in samples for found in versions_of(each)} == {version(1)}
        verified = server.calls.index((LABEL, version(1).label))
        assert {path for path, _ in server.calls[:verified]}.isdisjoint({CHAT, GENERATE})
        assert ("/collective_rpc", "") in server.calls[:verified]


async def test_an_adapter_that_is_gone_is_missed_by_name_and_loaded_again(tmp_path: Path, recorded: Start) -> None:
    server = await recorded()
    async with adapter_pool(tmp_path, server) as (pool, run):
        publish(run, version(1), adapter(-2.1))
        await bring(pool, run, 1)
        server.adapters.clear()
        server.calls.clear()
        assert versions_of(await sampled(pool)) == {version(1)}
        assert pool.usage.total("failed_missing_adapter") == 1
        assert pool.usage.total("succeeded", "rejoin") == 1
        assert ("/collective_rpc", "") not in server.calls, "its base was right"


async def test_what_is_too_old_is_refused_and_not_trained(tmp_path: Path, recorded: Start) -> None:
    server = await recorded()
    async with adapter_pool(tmp_path, server) as (pool, run):
        publish(run, version(1), adapter(-2.1))
        await bring(pool, run, 1)
        with pytest.raises(RetryableEndpointError) as caught:
            await sampled(pool, accept=lambda found: found.step >= 2)
        assert caught.value.kind == "stale_weights"
        publish(run, version(2), adapter(-2.2))
        assert versions_of(await sampled(pool, accept=lambda found: found.step >= 2)) == {version(2)}


async def test_a_resumed_run_gives_its_servers_adapters_of_its_own_lineage(tmp_path: Path, recorded: Start) -> None:
    server = await recorded()
    async with adapter_pool(tmp_path, server) as (pool, run):
        for step in (1, 2):
            publish(run, version(step), adapter(-2.0 - step / 10))
            await bring(pool, run, step)
        publish(run, version(1, 1), adapter(-2.5))
        await bring(pool, run, 1, lineage=1)
        assert versions_of(await sampled(pool)) == {version(1, 1)}


async def test_adapters_stay_while_a_request_may_need_them_and_go_with_their_folders(
    tmp_path: Path, recorded: Start
) -> None:
    server = await recorded()
    async with adapter_pool(tmp_path, server) as (pool, run):
        for step in range(1, 6):
            publish(run, version(step), adapter(-2.0 - step / 10))
            await bring(pool, run, step)
            prune(run, 2, asked_for_s=300.0)
        assert len(server.adapters) == 5, "a request of this minute may have named any of them"
        prune(run, 2)
        assert len(server.adapters) == 5
        publish(run, version(6), adapter(-2.6))
        await bring(pool, run, 6)
        assert list(server.adapters) == [version(step).label for step in (4, 5, 6)]


async def test_another_runs_adapter_of_the_same_name_is_not_taken_for_ours(tmp_path: Path, recorded: Start) -> None:
    server = await recorded()
    async with adapter_pool(tmp_path, server) as (pool, run):
        publish(run, version(1), adapter(-2.1))
        other = tmp_path / "other" / version(1).label
        other.mkdir(parents=True)
        adapter(-7.0)(other)
        server.adapters[other.name] = Adapter(other, None)
        await control(server.url, LABEL, {"new_version": other.name})
        await bring(pool, run, 1)
        assert server.adapters[other.name].folder == path_of(run, version(1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"loads no such adapters \(.*404.*VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora --max-loras 4 --max-lora-rank 16"),
        ({"max_lora_rank": 8}, r"LoRA rank 9 is greater than max_lora_rank 8.*or set learner\.transfer = 'filesystem'"),
        ({"max_lora_rank": 16}, None),
    ],
)  # fmt: skip
async def test_what_an_endpoint_lacks_for_adapters_is_named(
    tmp_path: Path, start_mock: StartMock, settings: dict[str, Any], message: str | None
) -> None:
    config = Config.model_validate(
        {"learner": {"transfer": "lora", "lora": {"rank": 9}}, "rollout": {"max_staleness": 2}}
    )
    async with InferenceClient((await start_mock(**settings),), "policy", REQUESTS) as pool:
        (endpoint,) = pool.endpoints
        await check_endpoint(pool, endpoint, training=True)
        if message is None:
            await check_adapters(pool, endpoint, config, tmp_path)
        else:
            with pytest.raises(EndpointSetupError, match=message):
                await check_adapters(pool, endpoint, config, tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_an_endpoint_that_does_not_see_the_run_folder_is_named(start_mock: StartMock) -> None:
    async with InferenceClient((await start_mock(max_lora_rank=8),), "policy", REQUESTS) as pool:
        with pytest.raises(EndpointSetupError, match=r"does not see the folder /runs-there \(.*by the same path"):
            await _check_adapter(pool, pool.endpoints[0], Path("/runs-there/.adapter-x"), ["--enable-lora"])
