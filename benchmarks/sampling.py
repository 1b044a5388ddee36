"""Sampled tokens/s of one real vLLM server: through the scheduler ÷ a raw closed loop at the same concurrency.

The raw loop posts the same rendered prompts to the generate route with bare aiohttp and does nothing with the answers. The scheduler
renders, samples, scores in a worker process and writes groups to the journal. Rounds alternate; the server is the quickstart's.

examples:
  python -m benchmarks.sampling
  python -m benchmarks.sampling --rounds 1 --num-groups 16 --model ./my-model
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from benchmarks.loop import accept_weights, scheduler_in
from benchmarks.machine import described, table
from pipeline.config import Config
from pipeline.config.endpoints import EndpointSettings
from pipeline.config.loading import load_config
from pipeline.experience.contexts import messages_of, prompt_input
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
    parameters = sampling_body(rollout.sampling, rollout.sampling.max_tokens, rollout.group_size, None)
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


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    overrides = {
        "model": {"path": arguments.model},
        "feedback": {"ratio": 0.0},
        "abstraction": {"enabled": False},
        "learner": {"num_steps": arguments.num_groups // GROUPS_PER_STEP},
        "rollout": {
            "num_problems_per_step": GROUPS_PER_STEP,
            # The endpoint is given as many as the raw loop; one group more each is rendered, scored or committed meanwhile.
            "max_groups_in_flight": 2 * arguments.concurrency,
            "max_staleness": 1000,
        },
    }
    with tempfile.TemporaryDirectory() as root:
        config = load_config(None, {**overrides, "run": {"root": root, "name": "sampling"}})
        run = RunFolder.create(config)
        model = await resolve_model(config, run, print)
        ours, bare = [], []
        async with (
            Serving(config, run, model, print) as serving,
            client_of(config, for_load(serving.endpoints, arguments.concurrency)) as pool,
            Verifier(config.reward) as verifier,
        ):
            await accept_weights(pool, config.servers.max_model_len)
            problems = load_problems(config.problems, config.run.seed)
            stream = ProblemStream(problems.train, config.run.seed)
            chosen = [stream.problem_at(index).problem for index in range(arguments.num_groups)]
            prompts = [
                await pool.render(messages_of(prompt_input(problem, Context()), config.rollout.system_prompt))
                for problem in chosen
            ]
            await raw(config, pool, prompts[: arguments.concurrency], arguments.concurrency)  # warm
            for number in range(arguments.rounds):
                bare.append(await raw(config, pool, prompts, arguments.concurrency))
                ours.append(await scheduled(config, pool, verifier, Path(root) / f"round-{number}"))
                print(f"round {number}: raw {bare[-1]:.0f}, scheduler {ours[-1]:.0f} tokens/s", flush=True)
    return {
        "groups in flight": arguments.concurrency,
        "rollouts in flight": arguments.concurrency * config.rollout.group_size,
        "scheduler tokens/s": statistics.median(ours),
        "raw tokens/s": statistics.median(bare),
        "scheduler ÷ raw": statistics.median(a / b for a, b in zip(ours, bare, strict=True)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sampling", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--num-groups", type=int, default=48, help="groups of a round, a multiple of 8")
    parser.add_argument("--concurrency", type=int, default=16, help="groups in flight")
    parser.add_argument("--model", default="embedded", help="as model.path")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    arguments = parser.parse_args()
    row = event_loop.run(measure(arguments))
    print(f"{described()} · medians of {arguments.rounds} rounds\n\n{table([row])}\n")
    if arguments.out:
        arguments.out.write_text(json.dumps(row, indent=1), encoding="utf-8")
    reached = row["scheduler ÷ raw"] >= GOAL
    print(f"goal: scheduler ÷ raw ≥ {GOAL}: {'reached' if reached else 'MISSED'}")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
