"""Whole rollouts/s (render → sample → score → journal) at 512 rollouts in flight, side by side with verifiers.

Both sides ask the same canned server for the same tokens and score with the same function. lanpo asks for a group of 8
with one request, scores in a worker process and writes the groups to a LanceDB journal; verifiers asks for one rollout
a request, scores in its own process and keeps the results in memory: the work that each does by itself.

The peer lives in an environment of its own, made by `python -m benchmarks.peers`.

examples:
  python -m benchmarks.peers && python -m benchmarks.rollouts
  python -m benchmarks.rollouts --rounds 1 --profile rollouts.prof
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.machine import in_child, median_ratio, server, wrk
from benchmarks.peers import PYTHON
from benchmarks.script import VERIFIERS, WRK, Benchmark, Goal, Row, headroom
from pipeline.config import Config
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


def lanpo(url: str, num_rollouts: int, num_in_flight: int) -> float:
    """Rollouts/s of the orchestrator's own parts, from the prompt to the acknowledged commit."""
    return event_loop.run(_lanpo(url, num_rollouts, num_in_flight))


async def _lanpo(url: str, num_rollouts: int, num_in_flight: int) -> float:
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
    return num_rollouts / seconds


def rate_of(name: str, url: str, num_rollouts: int, num_in_flight: int) -> float:
    """Rollouts/s of one client, in a process of its own."""
    load: dict[str, Any] = {"url": url, "num_rollouts": num_rollouts, "num_in_flight": num_in_flight}
    if name == "lanpo":
        return float(in_child("rollouts:lanpo", **load))
    transport = "aiohttp" if name.endswith("aiohttp") else "default"
    return float(in_child("verifiers_peer:run", str(PYTHON), **load, transport=transport))


def compare(options: argparse.Namespace) -> Row:
    rates: dict[str, list[float]] = {
        name: [] for name in NUM_ROLLOUTS if name == "lanpo" or VERIFIERS.name not in options.missing
    }
    groups_in_flight, fastest = options.in_flight // GROUP_SIZE, dict[str, float]()
    with server("--num-choices", str(GROUP_SIZE)) as groups, server() as singles:
        for _ in range(options.rounds):
            for name, found in rates.items():
                # Whole groups of 8.
                num_rollouts = round(options.share * NUM_ROLLOUTS[name] / GROUP_SIZE) * GROUP_SIZE
                url = groups if name == "lanpo" else singles
                found.append(rate_of(name, url, num_rollouts, options.in_flight))
        if WRK.name not in options.missing:
            fastest = {"lanpo": GROUP_SIZE * wrk(groups, GENERATE, groups_in_flight)}
            fastest["verifiers-aiohttp"] = wrk(singles, CHAT, options.in_flight)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    row: Row = {"in flight": options.in_flight, **medians}
    if "verifiers" in medians:
        row["lanpo ÷ verifiers-aiohttp"] = median_ratio(rates["lanpo"], rates["verifiers-aiohttp"])
        row["lanpo ÷ verifiers"] = medians["lanpo"] / medians["verifiers"]
    return row | {f"wrk ÷ {name}": rate / medians[name] for name, rate in fastest.items() if name in medians}


def profiled(options: argparse.Namespace) -> Row:
    """Our side alone, in this process; prints its most expensive functions."""
    import cProfile
    import pstats

    profile = cProfile.Profile()
    num_rollouts = round(options.share * NUM_ROLLOUTS["lanpo"] / GROUP_SIZE) * GROUP_SIZE
    with server("--num-choices", str(GROUP_SIZE)) as url:
        rate = profile.runcall(lanpo, url, num_rollouts, options.in_flight)
    profile.dump_stats(options.profile)
    pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    return {"in flight": options.in_flight, "lanpo": rate}


def measure(options: argparse.Namespace) -> Iterator[Row]:
    yield profiled(options) if options.profile else compare(options)


def goals(rows: list[Row]) -> list[Goal]:
    conditions = [headroom(rows, f"wrk ÷ {name}") for name in ("lanpo", "verifiers-aiohttp")]
    return [*conditions, Goal.of(rows, "lanpo ÷ verifiers-aiohttp", least=GOAL)]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in-flight", type=int, default=512, help="rollouts in flight")
    parser.add_argument("--share", type=float, default=1.0, help="of the rollouts of a full round")
    parser.add_argument(
        "--profile", type=Path, metavar="FILE", help="write a cProfile of our side, measure nothing else"
    )


SMALL = {"rounds": 1, "in_flight": 16, "share": 0.01}
main = Benchmark(__file__, __doc__, add_options, measure, SMALL, goals, peers=[WRK, VERIFIERS]).main

if __name__ == "__main__":
    sys.exit(main())
