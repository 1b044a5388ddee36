"""Promise 8: no trained token lags by more than S updates, with servers that are late, fail or forget, and after
crashes.

The scheduler, the store, the endpoint pool with its repair and the learner's reader are real; the optimizer is not:
what is counted here is which tokens a learner would have been given."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.config.endpoints import EndpointSettings
from pipeline.experience.pool_snapshots import rollback
from pipeline.hashing import seed_of
from pipeline.inference.endpoint import Endpoint
from pipeline.run.folder import RunFolder
from pipeline.run.lineage import is_current
from pipeline.weights.publishing import latest, publish
from pipeline.weights.sync import sync_server
from servers.mock.faults import GENERATE, named
from tests.builders import saving, version
from tests.integration.conftest import StartMock
from tests.integration.test_faults import control, full
from tests.integration.wired_loop import SETTINGS, Loop, session, write_status
from trainer.batches import JournalReader
from trainer.stop import StopRequested, StopSignal

NUM_TOKENS = 64
CHECKPOINT_EVERY = 3
FAULTS = [
    {"route": GENERATE, **named(name).values} for name in ("http_503", "reset", "truncated_json", "unknown_version")
]


class Consumer:
    """Takes batches as the learner does and brings the weights to the servers, one of them late; counts what it was
    given."""

    def __init__(self, run: RunFolder, config: Config, servers: tuple[EndpointSettings, ...]) -> None:
        self.run, self.config, self.servers = run, config, servers
        self.rng = random.Random(8)
        self.checkpoint = 0
        self.lags: Counter[int] = Counter()
        """Trained tokens by the updates that they lag."""
        self.num_abandoned = 0

    async def train(self, loop: Loop, first_step: int, last_step: int) -> None:
        """Train the steps before `last_step`; ends between two steps when cancelled, as a killed learner would."""
        lineages, stop = self.run.lineages(), StopSignal()
        reader = JournalReader(loop.journal, lineages, self.config, stop)
        await self._serve(loop, first_step)
        for step in range(first_step, last_step):
            waiting = asyncio.create_task(asyncio.to_thread(reader.wait_for, step))
            try:
                batch = await asyncio.shield(waiting)
            except asyncio.CancelledError:
                stop.request()
                with suppress(StopRequested):
                    await waiting
                raise
            for ids, lag in zip(batch.completion_ids, batch.staleness, strict=True):
                self.lags[lag] += len(ids)
            self.num_abandoned += sum(
                not is_current(rollout.oldest_version, lineages)
                for group in await asyncio.to_thread(loop.journal.read_step, step, lineages)
                for rollout in group.rollouts
            )
            if (step + 1) % CHECKPOINT_EVERY == 0:
                self.checkpoint = step + 1
            await self._serve(loop, step + 1)

    async def _serve(self, loop: Loop, step: int) -> None:
        lineage = self.run.lineages()[-1].number
        wanted = version(step, lineage)
        publish(self.run, wanted, saving(b"x"))
        for endpoint in loop.endpoints.endpoints:
            await sync_server(self.run, endpoint.address, wanted)
            await asyncio.sleep(self.rng.uniform(0, 0.05))
        write_status(self.run, step, lineage)
        if step % 2:
            await control(self.rng.choice(self.servers).url, "/_mock/faults", FAULTS)
        if step:
            # One was restarted behind everybody's back: it serves what it was launched with.
            await control(self.rng.choice(self.servers).url, "/update_weight_version", {"new_version": "l0-s000000"})


@asynccontextmanager
async def running(
    consumer: Consumer, last_step: int
) -> AsyncIterator[tuple[Loop, asyncio.Task[None], asyncio.Task[None]]]:
    """One session of scheduler and consumer from the last checkpoint; what is not done at its end is cancelled."""
    run = consumer.run
    for server in consumer.servers:
        await control(server.url, "/_mock/faults", [])

    async def repair(endpoint: Endpoint) -> None:
        newest = latest(run)
        assert newest is not None
        await sync_server(run, endpoint.address, newest)

    async with session(run, consumer.config, consumer.servers, repair) as loop:
        await asyncio.to_thread(rollback, loop.pool, consumer.checkpoint)
        learner = asyncio.create_task(consumer.train(loop, consumer.checkpoint, last_step))
        scheduler = asyncio.create_task(loop.scheduler().run(consumer.checkpoint))
        try:
            yield loop, learner, scheduler
        finally:
            learner.cancel()
            scheduler.cancel()
            await asyncio.gather(learner, scheduler, return_exceptions=True)


@pytest.mark.parametrize(("num_steps", "num_crashes"), [(5, 1), full(24, 6)])
@pytest.mark.parametrize("staleness", [0, 1, 2])
async def test_no_trained_token_lags_by_more_than_s_also_after_a_crash_and_a_resume(
    tmp_path: Path, start_mock: StartMock, staleness: int, num_steps: int, num_crashes: int
) -> None:
    servers = (
        await start_mock(num_tokens=NUM_TOKENS, latency="uniform:0.0,0.02"),
        await start_mock(num_tokens=NUM_TOKENS, latency="uniform:0.0,0.1", seed=1),
    )
    sections = {
        **SETTINGS,
        "rollout": {**SETTINGS["rollout"], "group_size": 8, "num_problems_per_step": 6, "max_staleness": staleness},
        "learner": {"num_steps": num_steps},
        "requests": {"backoff_s": 0.01, "probe_after_s": 0.05, "check_every_s": 5.0},
        "run": {"root": tmp_path, "name": "r"},
    }
    config = Config.model_validate(sections)
    consumer = Consumer(RunFolder.create(config), config, servers)
    rng = random.Random(seed_of("crash", staleness))
    num_refused, crash_at = 0, sorted(rng.sample(range(1, num_steps), num_crashes))
    for crash in [*crash_at, None]:
        async with running(consumer, num_steps) as (loop, learner, scheduler):
            if crash is None:
                await asyncio.gather(learner, scheduler)
            else:
                while loop.journal.read_step(crash, consumer.run.lineages()) == []:
                    await asyncio.wait({learner, scheduler}, timeout=0.02)
                    assert not learner.done() and not scheduler.done()
            num_refused += loop.endpoints.usage.total("failed_stale_weights")
        if crash is not None:
            consumer.run.begin_lineage(consumer.checkpoint)
    print(
        f"S = {staleness}: trained tokens by lag {dict(sorted(consumer.lags.items()))}, {num_refused} stale answers "
        "refused"
    )
    assert sum(consumer.lags.values()) >= num_steps * 6 * 8 * NUM_TOKENS
    assert sum(num for lag, num in consumer.lags.items() if lag > staleness or lag < 0) == 0
    assert consumer.num_abandoned == 0
    assert num_refused > 0
    assert max(consumer.lags) == staleness, "the bound was reached, so that it was tested"
