"""Requests/s of the endpoint pool, everything on, side by side with bare aiohttp + orjson, the openai client and TRL's
pattern.

Closed loops against a canned server, 8 KB answers with log-probabilities, each client in a process of its own, rounds
alternating, medians. A comparison counts only if wrk gets three times the faster client's rate from the same server,
and all read the same.

examples:
  python -m benchmarks.requests
  python -m benchmarks.requests --rounds 7 --loop asyncio --out requests.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator

from benchmarks.machine import client, median_ratio, server, wrk
from benchmarks.script import WRK, Benchmark, Goal, Row, headroom
from pipeline.inference.client import GENERATE

GOAL = 0.8
"""Least rate of the pool relative to bare aiohttp + orjson."""
NUM_REQUESTS = {"lanpo": 10_000, "bare": 10_000, "trl": 6_000, "openai": 600, "openai-aiohttp": 1_500}


def compare(url: str, concurrency: int, loop: str, options: argparse.Namespace) -> Row:
    """Medians of every client at one concurrency."""
    rates: dict[str, list[float]] = {name: [] for name in NUM_REQUESTS}
    answers: set[str] = set()
    for _ in range(options.rounds):
        for name, num_requests in NUM_REQUESTS.items():
            num = round(options.share * num_requests)
            result = client(name, url, concurrency=concurrency, num_requests=num, loop=loop)
            rates[name].append(result["requests_per_s"])
            answers.add(json.dumps(result["answers"]))
    if len(answers) != 1:
        raise RuntimeError(f"the clients read different answers: {answers}")
    medians = {name: statistics.median(values) for name, values in rates.items()}
    row: Row = {
        "loop": loop,
        "concurrent": concurrency,
        **medians,
        "lanpo ÷ bare": median_ratio(rates["lanpo"], rates["bare"]),
        "lanpo ÷ openai-aiohttp": medians["lanpo"] / medians["openai-aiohttp"],
        "lanpo ÷ trl": medians["lanpo"] / medians["trl"],
    }
    if WRK.name not in options.missing:
        row["wrk"] = wrk(url, GENERATE, concurrency)
        row["wrk ÷ faster"] = row["wrk"] / max(medians.values())
    return row


def measure(options: argparse.Namespace) -> Iterator[Row]:
    with server() as url:
        for loop in options.loop:
            for concurrency in options.concurrency:
                yield compare(url, concurrency, loop, options)


def goals(rows: list[Row]) -> list[Goal]:
    return [headroom(rows, "wrk ÷ faster"), Goal.of(rows, "lanpo ÷ bare", least=GOAL)]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), nargs="+", default=["asyncio", "uvloop"])
    parser.add_argument("--share", type=float, default=1.0, help="of the requests of a full round")


SMALL = {"rounds": 1, "concurrency": [4], "loop": ["uvloop"], "share": 0.02}
main = Benchmark(__file__, __doc__, add_options, measure, SMALL, goals, peers=[WRK]).main

if __name__ == "__main__":
    sys.exit(main())
