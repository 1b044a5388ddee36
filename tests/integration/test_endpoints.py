"""The endpoint pool against loopback endpoints with faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from pipeline.config import Config
from pipeline.config.endpoints import EndpointSettings, RequestsSection
from pipeline.config.rollout import SamplingSection
from pipeline.errors import (
    EndpointSetupError,
    FinalEndpointError,
    MalformedReplyError,
    RetryableEndpointError,
    WeightSyncError,
)
from pipeline.inference.capabilities import check_endpoint
from pipeline.inference.client import InferenceClient
from pipeline.inference.endpoint import Endpoint
from pipeline.run.folder import RunFolder
from pipeline.types import Message, WeightVersion
from pipeline.weights.publishing import MANIFEST, latest, path_of, prune, publish, verify
from pipeline.weights.sync import ServerAddress, sync_all, sync_server, write_servers
from servers.mock.faults import GENERATE, named
from tests.builders import saving, version
from tests.integration.conftest import StartMock

MESSAGES = (Message(role="user", content="What is 12 + 35 ="),)
REQUESTS = RequestsSection(timeout_s=20.0, attempt_timeout_s=10.0, max_attempts=4)


async def sample(pool: InferenceClient, num_samples: int = 2) -> tuple[str, ...]:
    samples = await pool.sample(MESSAGES, SamplingSection(), num_samples, max_tokens=32, seed=1, stage="rollout")
    return tuple(completion.text for completion in samples.completions)


def make_run(tmp_path: Path) -> RunFolder:
    run = RunFolder.create(Config.model_validate({"run": {"root": tmp_path, "name": "r"}}))
    publish(run, version(0), saving(b"weights"))
    return run


@asynccontextmanager
async def ready_pool(
    tmp_path: Path, *settings: EndpointSettings, requests: RequestsSection = REQUESTS
) -> AsyncIterator[tuple[InferenceClient, RunFolder]]:
    """A pool whose endpoints have passed the checks and have version l0-s000000."""
    run = make_run(tmp_path)

    async def repair(endpoint: Endpoint) -> None:
        newest = latest(run)
        assert newest is not None
        await sync_server(run, endpoint.address, newest)

    async with InferenceClient(settings, "policy", requests, repair=repair) as pool:
        for endpoint in pool.endpoints:
            await check_endpoint(pool, endpoint, training=True)
            await sync_server(run, endpoint.address, version(0))
        yield pool, run


async def break_next(pool: InferenceClient, **fault: object) -> None:
    """Make the next requests of a route fail."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{pool.endpoints[0].url}/_mock/faults", json=[fault]) as reply,
    ):
        assert reply.status == 200


async def test_samples_carry_ids_log_probabilities_and_the_version(tmp_path: Path, start_mock: StartMock) -> None:
    async with ready_pool(tmp_path, await start_mock()) as (pool, _):
        samples = await pool.sample(MESSAGES, SamplingSection(), 3, max_tokens=32, seed=1, stage="rollout")
    assert len(samples.completions) == 3
    assert samples.prompt_ids
    for completion in samples.completions:
        assert len(completion.token_ids) == len(completion.logprobs) > 0
        assert completion.oldest_version == completion.newest_version == version(0)
    assert pool.usage.total("completion_tokens") == sum(len(c.token_ids) for c in samples.completions)


@pytest.mark.parametrize(
    "kind", ["reset", "truncated_json", "choices_null", "empty_choices", "missing_logprobs", "wrong_lengths", "abort"]
)
async def test_a_broken_answer_is_asked_for_again_and_never_returned(
    tmp_path: Path, start_mock: StartMock, kind: str
) -> None:
    async with ready_pool(tmp_path, await start_mock()) as (pool, _):
        expected = await sample(pool)
        await break_next(pool, route=GENERATE, kind=kind, count=3)
        assert await sample(pool) == expected
        assert pool.usage.total("requests", "rollout") == 5


async def test_retries_stop_at_the_configured_attempts(tmp_path: Path, start_mock: StartMock) -> None:
    endpoint = await start_mock()
    async with ready_pool(tmp_path, endpoint) as (pool, _):
        await break_next(pool, route=GENERATE, kind="status", code=503, count=99)
        with pytest.raises(RetryableEndpointError) as caught:
            await sample(pool)
        assert caught.value.kind == "http_503"
        assert pool.usage.total("requests", "rollout") == 4


async def test_a_final_error_is_not_retried(tmp_path: Path, start_mock: StartMock) -> None:
    async with ready_pool(tmp_path, await start_mock()) as (pool, _):
        await break_next(pool, route=GENERATE, kind="status", code=400, count=99)
        with pytest.raises(FinalEndpointError):
            await sample(pool)
        assert pool.usage.total("requests", "rollout") == 1


async def test_a_dead_endpoint_is_set_aside_and_the_other_one_answers(tmp_path: Path, start_mock: StartMock) -> None:
    alive = await start_mock()
    async with ready_pool(tmp_path, alive) as (pool, _):
        dead = Endpoint(EndpointSettings(url="http://127.0.0.1:9"), "policy", REQUESTS)
        dead.has_token_route = True
        pool.endpoints.insert(0, dead)
        for _ in range(5):
            assert await sample(pool)
        assert not dead.available
        assert pool.usage.total("failed_refused") == 1


async def test_a_restarted_server_gets_requests_only_after_it_has_the_weights_again(
    tmp_path: Path, start_mock: StartMock
) -> None:
    async with ready_pool(tmp_path, await start_mock()) as (pool, _):
        await pool.post(pool.endpoints[0], "/update_weight_version", {"new_version": "default"}, 5.0)
        samples = await pool.sample(MESSAGES, SamplingSection(), 2, max_tokens=32, seed=1, stage="rollout")
        assert {c.oldest_version for c in samples.completions} == {version(0)}
        assert pool.usage.total("succeeded", "rejoin") == 1


async def test_requests_in_flight_stay_within_the_bound(tmp_path: Path, start_mock: StartMock) -> None:
    endpoint = (await start_mock(latency_s=0.01)).model_copy(update={"max_concurrency": 3})
    async with ready_pool(tmp_path, endpoint) as (pool, _):
        await asyncio.gather(*(sample(pool) for _ in range(20)))
        counters = await pool.get(pool.endpoints[0], "/_mock/counters")
    assert counters["max_in_flight"] <= 3


@pytest.mark.parametrize(
    ("settings", "model", "message"),
    [
        ({"model": "other"}, "policy", r"has no model 'policy', it serves \['other'\]"),
        ({"token_ids": False}, "policy", r"has no /weight_info.*VLLM_SERVER_DEV_MODE"),
        ({"raw_logprobs": True}, "policy", r"ignore the temperature.*--logprobs-mode processed_logprobs"),
        ({"faults": [{"kind": "missing_logprobs", "count": 99}]}, "policy", "returns no log-probabilities"),
    ],
)
async def test_what_an_endpoint_lacks_is_named_before_training(
    start_mock: StartMock, settings: dict[str, object], model: str, message: str
) -> None:
    async with InferenceClient((await start_mock(**settings),), model, REQUESTS) as pool:
        with pytest.raises(EndpointSetupError, match=message):
            await check_endpoint(pool, pool.endpoints[0], training=True)


async def test_an_endpoint_without_token_ids_is_refused_for_training_and_fine_for_evaluation(
    start_mock: StartMock,
) -> None:
    async with InferenceClient((await start_mock(hide_token_ids=True),), "policy", REQUESTS) as pool:
        await check_endpoint(pool, pool.endpoints[0], training=False)
        with pytest.raises(EndpointSetupError, match="returns no token ids"):
            await check_endpoint(pool, pool.endpoints[0], training=True)
        assert (await pool.chat(MESSAGES, max_tokens=16, temperature=0.0, stage="eval")).text


async def test_an_endpoint_that_is_down_is_named() -> None:
    async with InferenceClient((EndpointSettings(url="http://127.0.0.1:9"),), "policy", REQUESTS) as pool:
        with pytest.raises(EndpointSetupError, match=r"http://127\.0\.0\.1:9 does not answer"):
            await check_endpoint(pool, pool.endpoints[0], training=False)


@pytest.mark.parametrize("fault", ["empty_body", "missing_token_ids", "missing_logprobs", "reset", "http_503"])
async def test_one_lost_answer_does_not_fail_the_check_but_a_lack_does(start_mock: StartMock, fault: str) -> None:
    async with InferenceClient((await start_mock(),), "policy", REQUESTS) as pool:
        endpoint = pool.endpoints[0]
        await break_next(pool, **named(fault).values)
        await check_endpoint(pool, endpoint, training=True)
        await break_next(pool, **named(fault).values, count=99)
        with pytest.raises(EndpointSetupError, match=r"127\.0\.0\.1"):
            await check_endpoint(pool, endpoint, training=True)


# weights


async def test_a_server_is_brought_to_a_version_and_serves_again(tmp_path: Path, start_mock: StartMock) -> None:
    async with ready_pool(tmp_path, await start_mock()) as (pool, run):
        publish(run, version(1), saving(b"new"))
        write_servers(run, [endpoint.address for endpoint in pool.endpoints])
        report = await asyncio.to_thread(sync_all, run, version(1))
        assert report.paused_s > 0
        assert await sync_server(run, pool.endpoints[0].address, version(1)) == 0.0, "it has the version already"
        samples = await pool.sample(MESSAGES, SamplingSection(), 1, max_tokens=32, seed=1, stage="rollout")
    assert samples.completions[0].oldest_version == version(1)


async def test_weights_are_read_once_for_all_servers_and_not_while_none_answers(
    tmp_path: Path, start_mock: StartMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A learner tries again every two seconds while a server is down, and a model may have many gigabytes."""
    read: list[str] = []
    monkeypatch.setattr("pipeline.weights.sync.verify", lambda folder: read.append(folder.name))
    async with ready_pool(tmp_path, await start_mock(), await start_mock()) as (pool, run):
        publish(run, version(1), saving(b"new"))
        read.clear()
        write_servers(run, [ServerAddress(url="http://127.0.0.1:1", model="policy")])
        with pytest.raises(WeightSyncError, match="ConnectError"):
            await asyncio.to_thread(sync_all, run, version(1))
        assert read == []
        write_servers(run, [endpoint.address for endpoint in pool.endpoints])
        await asyncio.to_thread(sync_all, run, version(1))
    assert read == [version(1).label]


async def test_a_server_that_packs_weights_is_told_to_pack_them_again_after_the_reload(
    tmp_path: Path, start_mock: StartMock
) -> None:
    endpoint = (await start_mock()).model_copy(update={"packs_weights": True})
    async with ready_pool(tmp_path, endpoint) as (pool, _):
        counters = await pool.get(pool.endpoints[0], "/_mock/counters")
    assert counters["requests"]["/collective_rpc"] == 2


async def test_a_failed_reload_leaves_the_server_running_and_unverified(tmp_path: Path, start_mock: StartMock) -> None:
    async with ready_pool(tmp_path, await start_mock()) as (pool, run):
        publish(run, version(1), saving(b"new"))
        await break_next(pool, route="/collective_rpc", kind="status", code=500)
        with pytest.raises(WeightSyncError, match="/collective_rpc answered 500"):
            await sync_server(run, pool.endpoints[0].address, version(1))
        assert (await pool.get(pool.endpoints[0], "/is_paused")) == {"is_paused": False}
        assert WeightVersion.parse((await pool.get(pool.endpoints[0], "/weight_info"))["weight_version"]) is None


async def test_torn_weights_are_never_loaded(tmp_path: Path, start_mock: StartMock) -> None:
    async with ready_pool(tmp_path, await start_mock()) as (pool, run):
        publish(run, version(1), saving(b"whole"))
        (path_of(run, version(1)) / "model.safetensors").write_bytes(b"torn")
        with pytest.raises(WeightSyncError, match="differs from its manifest"):
            await sync_server(run, pool.endpoints[0].address, version(1))
        counters = await pool.get(pool.endpoints[0], "/_mock/counters")
    assert counters["requests"].get("/collective_rpc", 0) == 1, "only the first, good version was loaded"


async def test_weights_that_a_server_is_loading_are_not_pruned(tmp_path: Path, start_mock: StartMock) -> None:
    async with ready_pool(tmp_path, await start_mock()) as (pool, run):
        for step in (1, 2, 3):
            publish(run, version(step), saving(b"newer"))
        seen = []

        def send(server: ServerAddress) -> None:
            prune(run, 2)
            seen.append(sorted(folder.name for folder in run.weights.iterdir() if folder.is_dir()))

        await sync_server(run, pool.endpoints[0].address, version(1), send=send)
        prune(run, 2)
        assert seen == [["l0-s000000", "l0-s000001", "l0-s000002", "l0-s000003"]]
        assert not path_of(run, version(1)).exists(), "nobody loads it any more"


async def test_weights_that_are_gone_are_named(tmp_path: Path, start_mock: StartMock) -> None:
    async with ready_pool(tmp_path, await start_mock()) as (pool, run):
        with pytest.raises(WeightSyncError, match="l0-s000007 has no readable manifest"):
            await sync_server(run, pool.endpoints[0].address, version(7))


def test_a_publication_that_fails_leaves_the_latest_one(tmp_path: Path) -> None:
    run = make_run(tmp_path)

    def fail(folder: Path) -> None:
        (folder / "half").write_bytes(b"x")
        raise RuntimeError("the process was killed here")

    with pytest.raises(RuntimeError):
        publish(run, version(1), fail)
    assert latest(run) == version(0)
    assert [folder.name for folder in run.weights.iterdir() if folder.is_dir()] == ["l0-s000000"]
    verify(path_of(run, version(0)))
    assert (path_of(run, version(0)) / MANIFEST).exists()


def test_pruning_spares_the_reference_and_the_latest(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for step in range(1, 6):
        publish(run, version(step), saving(b"x"))
    prune(run, 2)
    assert sorted(folder.name for folder in run.weights.iterdir() if folder.is_dir()) == [
        "l0-s000000",
        "l0-s000004",
        "l0-s000005",
    ]


async def test_malformed_replies_have_a_name(tmp_path: Path, start_mock: StartMock) -> None:
    async with ready_pool(tmp_path, await start_mock(), requests=RequestsSection(max_attempts=1)) as (pool, _):
        await break_next(pool, route=GENERATE, kind="wrong_lengths")
        with pytest.raises(MalformedReplyError) as caught:
            await sample(pool)
        assert caught.value.kind == "no_logprobs"
        assert pool.usage.total("failed_no_logprobs", "rollout") == 1


async def test_an_endpoint_is_asked_as_it_wants_to_be_after_one_refusal(start_mock: StartMock) -> None:
    """OpenAI's reasoning models want `max_completion_tokens` and no temperature."""
    settings = await start_mock(refused=("max_tokens", "temperature"))
    async with InferenceClient((settings,), "policy", RequestsSection()) as pool:
        for _ in range(3):
            reply = await pool.chat(
                (Message(role="user", content="1 + 2"),), max_tokens=5, temperature=0.0, stage="eval"
            )
            assert (reply.num_completion_tokens, reply.finish_reason, reply.endpoint) == (5, "length", settings.url)
        assert pool.endpoints[0].dialect.dropped == {"temperature"}
        assert pool.usage.total("requests") == 3
        await pool.probe(pool.endpoints[0])
    async with aiohttp.ClientSession() as session, session.get(f"{settings.url}/_mock/counters") as counters:
        assert (await counters.json())["requests"]["/v1/chat/completions"] == 2 + 3 + 1
