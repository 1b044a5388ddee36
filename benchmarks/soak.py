"""Does a long run stay flat? The scheduler at full load against the mock endpoint, with faults, journal, pool and
compaction.

Memory, open files and files of the store are read every few seconds. After a warm-up their slopes are fitted: memory
may grow by 1 % an hour, open files and files of the store must be level (the store's swing between two compactions does
not count).

examples:
  python -m benchmarks.soak                 # two hours
  python -m benchmarks.soak --minutes 3 --readings soak.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.clients import resident_bytes
from benchmarks.loop import accept_weights, scheduler_in
from benchmarks.machine import server
from benchmarks.script import Benchmark, Goal, Row
from pipeline.config import Config
from pipeline.inference.client import client_of
from pipeline.rewards.verifier import Verifier
from pipeline.runtime import event_loop

GOAL_MEMORY = 0.01
"""Most growth of memory, share an hour."""
MAX_OPEN_FILES_AN_HOUR = 20
"""Most that a fitted line through the swing of open files may climb."""
WARM_UP_SHARE = 0.2
MAX_STORE_GROWTH = 0.05
"""Most that a fitted line through the files of the store may climb, share an hour: their number follows the rate of
commits, because what a compaction replaced stays for two minutes."""


class Look(NamedTuple):
    at_s: float
    resident_bytes: int
    num_open_files: int
    num_store_files: int
    num_groups: int


def slope(looks: list[Look], name: str) -> float:
    """Least-squares growth of one reading, per hour."""
    times = [look.at_s for look in looks]
    line = statistics.linear_regression(times, [float(getattr(look, name)) for look in looks])
    return line.slope * 3600.0


async def soak(url: str, seconds: float, look_every_s: float, folder: Path) -> tuple[list[Look], dict[str, Any]]:
    config = Config.model_validate(
        {
            # Large steps, so that the pool is written to as seldom as in training: its versions are kept for resumes.
            "endpoints": [{"url": url, "max_concurrency": 128}],
            "rollout": {
                "group_size": 8,
                "num_problems_per_step": 256,
                "max_staleness": 2,
                "max_groups_in_flight": 64,
            },
            "feedback": {"ratio": 0.5, "intra_share": 0.1, "similarity_threshold": 0.5},
            "abstraction": {"num_per_step": 1},
            "learner": {"num_steps": 10_000_000},
            "requests": {"backoff_s": 0.02},
        }
    )
    looks: list[Look] = []

    async with client_of(config, config.endpoints) as pool, Verifier(config.reward) as verifier:
        await accept_weights(pool, 32_768)
        scheduler, _ = scheduler_in(folder, config, pool, verifier)
        running = asyncio.create_task(scheduler.run(0))
        begin_s = time.monotonic()
        while time.monotonic() - begin_s < seconds and not running.done():
            await asyncio.wait({running}, timeout=look_every_s)
            # os.walk passes over folders that a compaction removes meanwhile, where Path.rglob fails.
            num_files = sum(len(files) for _, _, files in os.walk(folder))
            open_files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the folder of this process itself
            looks.append(
                Look(
                    time.monotonic() - begin_s,
                    resident_bytes(),
                    open_files,
                    num_files,
                    scheduler.outcomes["journalled"],
                )
            )
            if len(looks) % 12 == 0:
                print(looks[-1], flush=True)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        if looks[-1].at_s < seconds - look_every_s:
            running.result()
        totals = {
            "groups": looks[-1].num_groups,
            "requests": pool.usage.total("requests"),
            "retries": pool.usage.total("retries"),
        }
    return looks, totals


def soaked(minutes: float, look_every_s: float = 5.0) -> tuple[dict[str, float], list[Look]]:
    """What came out, fitted after the warm-up, and every reading."""
    with (
        server("--faults", "22", "--fault-rate", "0.01", module="servers.mock") as url,
        tempfile.TemporaryDirectory() as folder,
    ):
        looks, totals = event_loop.run(soak(url, 60 * minutes, look_every_s, Path(folder)))
    steady = [look for look in looks if look.at_s >= WARM_UP_SHARE * looks[-1].at_s]
    memory = statistics.median(look.resident_bytes for look in steady)
    files = statistics.median(look.num_store_files for look in steady)
    row = {
        "minutes": looks[-1].at_s / 60,
        **totals,
        "groups/s": totals["groups"] / looks[-1].at_s,
        "memory, MiB": memory / 2**20,
        "memory, share an hour": slope(steady, "resident_bytes") / memory,
        "open files": steady[-1].num_open_files,
        "open files an hour": slope(steady, "num_open_files"),
        "files in the store": files,
        "files in the store, share an hour": slope(steady, "num_store_files") / files,
        "most files in the store": max(look.num_store_files for look in steady),
    }
    return row, looks


def goals(rows: list[Row]) -> list[Goal]:
    return [
        Goal.of(rows, "memory, share an hour", most=GOAL_MEMORY),
        Goal.of(rows, "open files an hour", most=MAX_OPEN_FILES_AN_HOUR),
        Goal.of(rows, "files in the store, share an hour", most=MAX_STORE_GROWTH),
    ]


def is_flat(row: Row) -> bool:
    return not any(goal.is_missed for goal in goals([row]))


def measure(options: argparse.Namespace) -> Iterator[Row]:
    row, looks = soaked(options.minutes, options.look_every_s)
    if options.readings:
        options.readings.write_text(json.dumps([look._asdict() for look in looks], indent=1), encoding="utf-8")
    yield row


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--look-every-s", type=float, default=5.0)
    parser.add_argument("--readings", type=Path, metavar="FILE", help="write every reading as JSON")


SMALL = {"minutes": 0.04, "look_every_s": 0.3}
main = Benchmark(__file__, __doc__, add_options, measure, SMALL, goals).main

if __name__ == "__main__":
    sys.exit(main())
