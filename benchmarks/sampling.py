"""Sampled tokens/s of one real vLLM server: through the scheduler ÷ a raw closed loop at the same concurrency.

The raw loop posts the same rendered prompts to the generate route with bare aiohttp and does nothing with the answers.
The scheduler renders, samples, scores in a worker process and writes groups to the journal. Rounds alternate; the
server is the quickstart's.

examples:
  python -m benchmarks.sampling
  python -m benchmarks.sampling --rounds 1 --num-groups 16 --model ./my-model
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import aiohttp
import orjson

from benchmarks.loop import accept_weights, scheduler_in
from benchmarks.machine import median_ratio, server
from benchmarks.script import Benchmark, Goal, Row
from pipeline.config import Config
from pipeline.config.endpoints import EndpointSettings
from pipeline.config.loading import load_config
from pipeline.experience.contexts import messages_in
from pipeline.inference.client import GENERATE, InferenceClient, client_of
from pipeline.inference.local_servers import Serving, resolve_model
from pipeline.inference.token_protocol import generate_body, sampling_body
from pipeline.problems.dataset import ProblemStream, load_problems
from pipeline.rewards.verifier import Verifier
from pipeline.run.folder import RunFolder
from pipeline.runtime import event_loop
from pipeline.types import Context

GOAL = 0.95
"""Least tokens/s through the scheduler relative to the raw loop."""
GROUPS_PER_STEP = 8


async def raw(config: Config, pool: InferenceClient, prompts: list[tuple[int, ...]], concurrency: int) -> float:
    """Tokens/s of a closed loop with nothing around it."""
    rollout, endpoint = config.rollout, pool.endpoints[0]
    parameters = sampling_body(rollout.sampling, rollout.sampling.longest, rollout.group_size, None)
    waiting = list(prompts)
    num_tokens = 0

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal num_tokens
        while waiting:
            body = orjson.dumps(generate_body(endpoint.model, waiting.pop(), parameters))
            headers = {"Content-Type": "application/json"}
            async with session.post(endpoint.url + GENERATE, data=body, headers=headers) as reply:
                choices = orjson.loads(await reply.read())["choices"]
            num_tokens += sum(len(choice["token_ids"]) for choice in choices)

    begin_s = time.perf_counter()
    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(work(session) for _ in range(concurrency)))
    return num_tokens / (time.perf_counter() - begin_s)


async def scheduled(config: Config, pool: InferenceClient, verifier: Verifier, folder: Path) -> float:
    """Tokens/s of the scheduler's loop, journal included."""
    scheduler, journal = scheduler_in(folder, config, pool, verifier)
    begin_s, before = time.perf_counter(), pool.usage.total("completion_tokens", "rollout")
    await scheduler.run(0)
    seconds = time.perf_counter() - begin_s
    num_groups = journal.num_groups()
    if num_groups != config.learner.num_steps * GROUPS_PER_STEP:
        raise RuntimeError(f"{num_groups} groups in the journal")
    return (pool.usage.total("completion_tokens", "rollout") - before) / seconds


def for_load(endpoints: tuple[EndpointSettings, ...], num: int) -> tuple[EndpointSettings, ...]:
    return tuple(endpoint.model_copy(update={"max_concurrency": num}) for endpoint in endpoints)


async def sampled(options: argparse.Namespace, url: str) -> Row:
    """Tokens/s of both, from a server started here, or the one at `url`."""
    overrides = {
        "model": {"path": options.model},
        "endpoints": [{"url": url}] if url else [],
        "feedback": {"ratio": 0.0},
        "abstraction": {"enabled": False},
        "learner": {"num_steps": options.num_groups // GROUPS_PER_STEP},
        "rollout": {
            "num_problems_per_step": GROUPS_PER_STEP,
            # The endpoint is given as many as the raw loop; one group more each is rendered, scored or committed
            # meanwhile.
            "max_groups_in_flight": 2 * options.concurrency,
            "max_staleness": 1000,
        },
    }
    with tempfile.TemporaryDirectory() as root:
        config = load_config(None, {**overrides, "run": {"root": root, "name": "sampling"}})
        run = RunFolder.create(config)
        model = None if url else await resolve_model(config, run, print)
        ours, bare = [], []
        async with (
            Serving(config, run, model, print) as serving,
            client_of(config, for_load(serving.endpoints, options.concurrency)) as pool,
            Verifier(config.reward) as verifier,
        ):
            await accept_weights(pool, config.servers.max_model_len or 1024)
            problems = load_problems(config.problems, config.run.seed)
            stream = ProblemStream(problems.train, config.run.seed)
            chosen = [stream.problem_at(index).problem for index in range(options.num_groups)]
            prompts = [await pool.render(messages_in(problem, Context(), config)) for problem in chosen]
            await raw(config, pool, prompts[: options.concurrency], options.concurrency)  # warm
            for number in range(options.rounds):
                bare.append(await raw(config, pool, prompts, options.concurrency))
                ours.append(await scheduled(config, pool, verifier, Path(root) / f"round-{number}"))
                print(f"round {number}: raw {bare[-1]:.0f}, scheduler {ours[-1]:.0f} tokens/s", flush=True)
    return {
        "groups in flight": options.concurrency,
        "rollouts in flight": options.concurrency * config.rollout.group_size,
        "scheduler tokens/s": statistics.median(ours),
        "raw tokens/s": statistics.median(bare),
        "scheduler ÷ raw": median_ratio(ours, bare),
    }


def measure(options: argparse.Namespace) -> Iterator[Row]:
    with server(module="servers.mock") if options.small else nullcontext("") as url:
        yield event_loop.run(sampled(options, url))


def goals(rows: list[Row]) -> list[Goal]:
    return [Goal.of(rows, "scheduler ÷ raw", least=GOAL)]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--num-groups", type=int, default=48, help="groups of a round, a multiple of 8")
    parser.add_argument("--concurrency", type=int, default=16, help="groups in flight")
    parser.add_argument("--model", default="embedded", help="as model.path; the small form has a mock endpoint")


SMALL = {"rounds": 1, "num_groups": 8, "concurrency": 2}
main = Benchmark(__file__, __doc__, add_options, measure, SMALL, goals).main

if __name__ == "__main__":
    sys.exit(main())
