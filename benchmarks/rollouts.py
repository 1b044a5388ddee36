"""Whole rollouts/s (render → sample → score → journal) at 512 rollouts in flight, side by side with verifiers.

Both sides ask the same canned server for the same tokens and score with the same function. lanpo asks for a group of 8 with one
request, scores in a worker process and writes the groups to a LanceDB journal; verifiers asks for one rollout a request, scores in
its own process and keeps the results in memory: the work that each does by itself.

The peer lives in an environment of its own, made by `python -m benchmarks.peers`.

examples:
  python -m benchmarks.peers && python -m benchmarks.rollouts
  python -m benchmarks.rollouts --rounds 1 --profile rollouts.prof
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

from benchmarks.machine import HEADROOM, NOT_COUNTED, described, measured, server, table, wrk
from benchmarks.peers import PYTHON
from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.experience.pool import Pool
from pipeline.experience.retrieval import retriever_of
from pipeline.inference.client import CHAT, GENERATE, client_of
from pipeline.loop.rollouts import GroupKey, GroupSampler
from pipeline.loop.writers import journal_writer
from pipeline.rewards.verifier import Verifier
from pipeline.run.lineage import Lineage
from pipeline.runtime import event_loop
from pipeline.runtime.stage_clock import StageClock
from pipeline.runtime.watchdog import Watchdog
from pipeline.storage.journal import Journal
from pipeline.types import Label, Problem, Task

GOAL = 4.0
"""Least rate relative to verifiers with its transport replaced by aiohttp."""
GROUP_SIZE = 8
NUM_ROLLOUTS = {"lanpo": 24_000, "verifiers": 1_200, "verifiers-aiohttp": 3_000}
ANSWER = "47"


async def lanpo(url: str, num_rollouts: int, num_in_flight: int) -> dict[str, float]:
    """Rollouts/s of the orchestrator's own parts, from the prompt to the acknowledged commit."""
    groups_in_flight = num_in_flight // GROUP_SIZE
    config = Config.model_validate(
        {
            "endpoints": [{"url": url, "max_concurrency": num_in_flight}],
            "rollout": {"group_size": GROUP_SIZE},
            "reward": {"scorer": "math"},
            "feedback": {"ratio": 0.0},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        clock, watchdog = StageClock(), Watchdog()
        journal = Journal(folder)
        writer = journal_writer(journal, clock, watchdog)
        async with client_of(config, config.endpoints, watchdog=watchdog) as pool, Verifier(config.reward) as verifier:
            pool.endpoints[0].has_token_route = True
            pool.endpoints[0].max_model_len = 32_768
            sampler = GroupSampler(config, pool, verifier, journal, retriever_of(config, Pool(folder), pool), clock)
            writing = asyncio.create_task(writer.run())
            num_left = num_rollouts // GROUP_SIZE
            num_correct = 0

            async def work() -> None:
                nonlocal num_left, num_correct
                while num_left > 0:
                    num_left -= 1
                    problem = Problem(id=f"p{num_left}", text="What is 12 + 35?")
                    task = Task(problem=problem, label=Label(problem_id=problem.id, answer=ANSWER))
                    place = GroupKey([Lineage(number=0, start_step=0)], 0, num_left, 0, 1, 0, order=num_left)
                    group = await sampler.sample(task, place)
                    await writer.write([group])
                    num_correct += sum(rollout.verdict.correct for rollout in group.rollouts)

            begin_s = time.perf_counter()
            await asyncio.gather(*(work() for _ in range(groups_in_flight)))
            seconds = time.perf_counter() - begin_s
            writing.cancel()
            num_stored = journal.num_groups() * GROUP_SIZE
    if not num_stored == num_correct == num_rollouts:
        raise RuntimeError(f"{num_rollouts} rollouts: {num_stored} in the journal, {num_correct} correct")
    return {"rollouts_per_s": num_rollouts / seconds}


def measured_client(name: str, url: str, num_in_flight: int) -> float:
    """Rollouts/s of one client, in a process of its own."""
    common = ["--url", url, "--num-rollouts", str(NUM_ROLLOUTS[name]), "--in-flight", str(num_in_flight)]
    if name == "lanpo":
        result = measured("-m", "benchmarks.rollouts", "--only-lanpo", *common)
    else:
        transport = ["--transport", "aiohttp" if name.endswith("aiohttp") else "default"]
        result = measured("-m", "benchmarks.verifiers_peer", *common, *transport, python=str(PYTHON))
    return float(result["rollouts_per_s"])


def compare(rounds: int, num_in_flight: int) -> dict[str, Any]:
    rates: dict[str, list[float]] = {name: [] for name in NUM_ROLLOUTS}
    with (
        server("--num-choices", str(GROUP_SIZE), "--num-tokens", "90") as groups,
        server("--num-tokens", "90") as singles,
    ):
        for _ in range(rounds):
            for name in NUM_ROLLOUTS:
                rates[name].append(measured_client(name, groups if name == "lanpo" else singles, num_in_flight))
        fastest_groups = wrk(groups, GENERATE, num_in_flight // GROUP_SIZE)
        fastest_singles = wrk(singles, CHAT, num_in_flight)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    ratios = [ours / theirs for ours, theirs in zip(rates["lanpo"], rates["verifiers-aiohttp"], strict=True)]
    return {
        "in flight": num_in_flight,
        **medians,
        "lanpo ÷ verifiers-aiohttp": statistics.median(ratios),
        "lanpo ÷ verifiers": medians["lanpo"] / medians["verifiers"],
        "wrk ÷ lanpo (groups)": fastest_groups / (medians["lanpo"] / GROUP_SIZE),
        "wrk ÷ verifiers": fastest_singles / medians["verifiers-aiohttp"],
    }


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rollouts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in-flight", type=int, default=512, help="rollouts in flight")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--only-lanpo", action="store_true", help="measure this side only, once, and print JSON")
    parser.add_argument("--url", help="with --only-lanpo: a canned server with 8 choices; default: started here")
    parser.add_argument("--num-rollouts", type=int, default=NUM_ROLLOUTS["lanpo"])
    parser.add_argument("--profile", type=Path, metavar="FILE", help="write a cProfile of this side")
    return parser


def only_lanpo(arguments: argparse.Namespace, url: str) -> None:
    if arguments.profile is None:
        print(json.dumps(event_loop.run(lanpo(url, arguments.num_rollouts, arguments.in_flight))))
        return
    import cProfile
    import pstats

    profile = cProfile.Profile()
    result = profile.runcall(event_loop.run, lanpo(url, arguments.num_rollouts, arguments.in_flight))
    profile.dump_stats(arguments.profile)
    pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    print(json.dumps(result))


def main() -> int:
    arguments = build_parser().parse_args()
    if arguments.only_lanpo or arguments.profile:
        if arguments.url:
            only_lanpo(arguments, arguments.url)
        else:
            with server("--num-choices", str(GROUP_SIZE)) as url:
                only_lanpo(arguments, url)
        return 0
    if not PYTHON.exists():
        raise UserError(f"{PYTHON} is missing; make the peers' environment with: python -m benchmarks.peers")
    row = compare(arguments.rounds, arguments.in_flight)
    print(f"{described()} · rollouts/s, medians of {arguments.rounds} rounds\n\n{table([row])}\n")
    if arguments.out:
        arguments.out.write_text(json.dumps(row, indent=1), encoding="utf-8")
    if min(row["wrk ÷ lanpo (groups)"], row["wrk ÷ verifiers"]) < HEADROOM:
        print(f"does not count: a server was less than {HEADROOM:g} times as fast as its client")
        return NOT_COUNTED
    reached = row["lanpo ÷ verifiers-aiohttp"] >= GOAL
    print(f"goal: lanpo ÷ verifiers-aiohttp ≥ {GOAL}: {'reached' if reached else 'MISSED'}")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
