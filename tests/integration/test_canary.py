"""A server may bear a version's label only after it answered that version's canary (docs/promises.md: 9, 10)."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from pipeline.commands.session import Session
from pipeline.commands.stages import Stages
from pipeline.config.endpoints import RequestsSection
from pipeline.config.rollout import SamplingSection
from pipeline.errors import EndpointSetupError, MalformedReplyError, WeightsRefusedError, WeightSyncError
from pipeline.inference.capabilities import take_label
from pipeline.inference.client import InferenceClient
from pipeline.inference.token_protocol import Samples
from pipeline.observability.live_view import View
from pipeline.problems.dataset import ProblemSet
from pipeline.rewards.verifier import Verifier
from pipeline.run.folder import RunFolder
from pipeline.weights.canary import FILE, Canary, CanarySequence
from pipeline.weights.publishing import publish
from pipeline.weights.sync import CHECKING, REJECTED, UNKNOWN, clear_version_label, sync_server
from tests.builders import saving, version
from tests.integration.conftest import StartMock
from tests.integration.test_endpoints import MESSAGES, break_next, ready_pool, sample
from tests.integration.test_faults import control

ONE_ATTEMPT = RequestsSection(max_attempts=1, check_every_s=60.0)


def with_canary(logprob: float) -> Callable[[Path], None]:
    """What `publish` calls to write weights that give each token of the canary `logprob`."""

    def save(folder: Path) -> None:
        saving(b"x")(folder)
        sequence = CanarySequence(token_ids=(1, 2, 3), logprobs=(logprob, logprob))
        (folder / FILE).write_text(Canary(sequences=(sequence,)).model_dump_json())

    return save


async def label_of(pool: InferenceClient) -> str:
    return (await pool.get(pool.endpoints[0], "/weight_info"))["weight_version"]


async def bring(pool: InferenceClient, run: RunFolder, step: int) -> None:
    await sync_server(run, pool.endpoints[0].address, version(step))


async def test_a_server_that_answers_right_gets_the_label(tmp_path: Path, start_mock: StartMock) -> None:
    async with ready_pool(tmp_path, await start_mock()) as (pool, run):
        for step in (1, 2):
            publish(run, version(step), with_canary(-2.0 - step / 1000))
            await bring(pool, run, step)
            assert await label_of(pool) == version(step).label
        counters = await pool.get(pool.endpoints[0], "/_mock/counters")
    assert counters["requests"]["/v1/completions"] == 2


async def test_a_reload_without_an_effect_is_found_however_small_the_update(
    tmp_path: Path, start_mock: StartMock
) -> None:
    async with ready_pool(tmp_path, await start_mock(), requests=ONE_ATTEMPT) as (pool, run):
        publish(run, version(1), with_canary(-2.001))
        await bring(pool, run, 1)
        publish(run, version(2), with_canary(-2.002))
        for _ in range(2):  # the label of a server that was refused does not say what it has
            await break_next(pool, route="/collective_rpc", kind="no_effect")
            with pytest.raises(WeightSyncError, match="l0-s000002 was loaded, but it still answers as l0-s000001"):
                await bring(pool, run, 2)
        assert await label_of(pool) == REJECTED + version(2).label
        assert (await pool.get(pool.endpoints[0], "/is_paused")) == {"is_paused": False}
        with pytest.raises(MalformedReplyError, match="rejected-l0-s000002"):
            await sample(pool)
        await bring(pool, run, 2)
        assert await label_of(pool) == version(2).label
        await sample(pool)


async def test_a_reference_that_came_without_a_canary_is_known_by_its_learners(
    tmp_path: Path, start_mock: StartMock
) -> None:
    async with ready_pool(tmp_path, await start_mock()) as (pool, run):
        publish(run, version(0), saving(b"r"))
        await bring(pool, run, 0)
        with_canary(-1.0)(run.weights)  # the mock endpoint gives -1 to every token that no canary names
        publish(run, version(1), with_canary(-1.001))
        await break_next(pool, route="/collective_rpc", kind="no_effect")
        with pytest.raises(WeightSyncError, match="it still answers as l0-s000000"):
            await bring(pool, run, 1)


async def test_the_label_that_another_run_gave_is_not_believed(tmp_path: Path, start_mock: StartMock) -> None:
    """Both runs begin with version 0, each with weights of its own."""
    async with ready_pool(tmp_path, await start_mock()) as (pool, run):
        publish(run, version(0), with_canary(-2.0))
        await bring(pool, run, 0)
        loaded = await num_loads(pool)
        await bring(pool, run, 0)
        assert await num_loads(pool) == loaded
        await clear_version_label(run, pool.endpoints[0].address)
        await bring(pool, run, 0)
        assert await num_loads(pool) == loaded + 1


async def test_a_label_that_cannot_be_taken_at_once_is_taken_at_the_next_try(
    tmp_path: Path, start_mock: StartMock
) -> None:
    async with ready_pool(tmp_path, await start_mock()) as (pool, run):
        await break_next(pool, route="/update_weight_version", kind="status", code=503)
        await take_label(run, pool.endpoints[0])
        assert await label_of(pool) == UNKNOWN
        await break_next(pool, route="/update_weight_version", kind="status", code=503, count=99)
        with pytest.raises(EndpointSetupError, match="does not take the label"):
            await take_label(run, pool.endpoints[0])


async def test_a_reference_is_asked_the_canary_that_its_learner_made(tmp_path: Path, start_mock: StartMock) -> None:
    async with ready_pool(tmp_path, await start_mock()) as (pool, run):
        with_canary(-3.0)(run.weights)  # and the mock endpoint gives -1
        await clear_version_label(run, pool.endpoints[0].address)
        with pytest.raises(WeightsRefusedError, match=r"servers\.canary_tolerance"):
            await bring(pool, run, 0)


async def test_the_base_model_is_evaluated_whatever_an_endpoint_elsewhere_had(
    tmp_path: Path, start_mock: StartMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have another run's weights still, and the first accuracy of the summary would be that one's."""
    settings = await start_mock()
    model = tmp_path / "model"
    model.mkdir()
    saving(b"base model")(model)
    async with ready_pool(tmp_path, settings) as (pool, run):
        shutil.rmtree(run.weights / version(0).label)
        before = await num_loads(pool)
        evaluated = []

        async def evaluate(self: Stages, name: str, *_: object) -> None:
            evaluated.append((name, await num_loads(pool) - before, await label_of(pool)))

        async def seeded(*_: object) -> tuple[Path, dict[str, object]]:
            return model, {}

        monkeypatch.setattr(Stages, "_evaluate", evaluate)
        monkeypatch.setattr(Stages, "_probe", evaluate)  # it asks the same model, before
        monkeypatch.setattr("pipeline.commands.stages.seeded_model", seeded)
        config = run.config().model_copy(update={"endpoints": (settings,)})
        session = Session(run, config, View(0, live=False))
        await session.stages(cast("ProblemSet", None), pool, cast("Verifier", None)).seed(model)
    assert evaluated == [("base model", 1, UNKNOWN)] * 2
    assert [folder.name for folder in run.weights.iterdir() if folder.is_dir()] == [version(0).label]


async def num_loads(pool: InferenceClient) -> int:
    return (await pool.get(pool.endpoints[0], "/_mock/counters"))["requests"].get("/collective_rpc", 0)


async def test_a_canary_that_is_not_answered_rejects_the_server(tmp_path: Path, start_mock: StartMock) -> None:
    async with ready_pool(tmp_path, await start_mock()) as (pool, run):
        publish(run, version(1), with_canary(-2.0))
        await break_next(pool, route="/v1/completions", kind="status", code=400)
        with pytest.raises(WeightSyncError, match="/v1/completions answered 400"):
            await bring(pool, run, 1)
        assert await label_of(pool) == REJECTED + version(1).label


@pytest.mark.parametrize("passes", [True, False])
async def test_what_is_sampled_while_the_canary_is_asked_waits_for_the_verdict(
    tmp_path: Path, start_mock: StartMock, passes: bool
) -> None:
    """The request is in flight over the whole reload: half of its tokens are of weights under check."""
    endpoint = await start_mock(s_per_token=0.01, num_tokens=40)
    async with ready_pool(tmp_path, endpoint, requests=ONE_ATTEMPT) as (pool, run):
        publish(run, version(1), with_canary(-2.0 if passes else -9.0))
        faults = [{"route": "/v1/completions", "kind": "slow", "delay_s": 1.0}]
        if not passes:
            faults.append({"route": "/collective_rpc", "kind": "no_effect"})
        await control(endpoint.url, "/_mock/faults", faults)
        prompt_ids = await pool.render(MESSAGES)

        async def request() -> Samples:
            return await pool.generate(prompt_ids, SamplingSection(), 1, max_tokens=40, seed=1, stage="rollout")

        sampling = asyncio.create_task(request())
        while not (  # noqa: ASYNC110 - the event is in the mock endpoint
            await pool.get(pool.endpoints[0], "/_mock/counters")
        )["requests"].get("/inference/v1/generate"):
            await asyncio.sleep(0)
        reloading = asyncio.create_task(bring(pool, run, 1))
        await asyncio.wait({sampling, reloading}, timeout=0.7)
        assert await label_of(pool) == CHECKING + version(1).label
        assert not sampling.done(), "it was answered, and waits"
        if passes:
            await reloading
            (completion,) = (await sampling).completions
            assert (completion.oldest_version, completion.newest_version) == (version(0), version(1))
        else:
            with pytest.raises(WeightSyncError):
                await reloading
            with pytest.raises(MalformedReplyError, match="rejected"):
                await sampling
