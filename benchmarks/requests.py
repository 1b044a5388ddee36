"""Requests/s of the endpoint pool, everything on, side by side with bare aiohttp + orjson, the openai client and TRL's pattern.

Closed loops against a canned server, 8 KB answers with log-probabilities, each client in a process of its own, rounds alternating,
medians. A comparison counts only if wrk gets three times the faster client's rate from the same server, and all read the same.

examples:
  python -m benchmarks.requests
  python -m benchmarks.requests --rounds 7 --loop asyncio --out requests.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.machine import HEADROOM, NOT_COUNTED, described, measured, server, table, wrk
from pipeline.inference.client import GENERATE

GOAL = 0.8
"""Least rate of the pool relative to bare aiohttp + orjson."""
NUM_REQUESTS = {"lanpo": 10_000, "bare": 10_000, "trl": 6_000, "openai": 600, "openai-aiohttp": 1_500}


def compare(url: str, concurrency: int, rounds: int, loop: str) -> dict[str, Any]:
    """Medians of every client at one concurrency."""
    rates: dict[str, list[float]] = {name: [] for name in NUM_REQUESTS}
    answers: set[str] = set()
    for _ in range(rounds):
        for name, num_requests in NUM_REQUESTS.items():
            arguments = [
                "--url",
                url,
                "--concurrency",
                str(concurrency),
                "--num-requests",
                str(num_requests),
                "--loop",
                loop,
            ]
            result = measured("-m", "benchmarks.clients", name, *arguments)
            if result["failures"]:
                raise RuntimeError(f"{name} failed: {result['failures']}")
            rates[name].append(result["requests_per_s"])
            answers.add(json.dumps(result["answers"]))
    if len(answers) != 1:
        raise RuntimeError(f"the clients read different answers: {answers}")
    # Ratios round by round: neighbours in time share whatever else the machine was doing.
    ratios = [ours / bare for ours, bare in zip(rates["lanpo"], rates["bare"], strict=True)]
    server_rate = wrk(url, GENERATE, concurrency)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "loop": loop,
        "concurrent": concurrency,
        **medians,
        "lanpo ÷ bare": statistics.median(ratios),
        "lanpo ÷ openai-aiohttp": medians["lanpo"] / medians["openai-aiohttp"],
        "lanpo ÷ trl": medians["lanpo"] / medians["trl"],
        "wrk": server_rate,
        "wrk ÷ faster": server_rate / max(medians.values()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.requests", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), nargs="+", default=["asyncio", "uvloop"])
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    arguments = parser.parse_args()
    with server() as url:
        rows = [compare(url, c, arguments.rounds, loop) for loop in arguments.loop for c in arguments.concurrency]
    print(f"{described()} · requests/s, medians of {arguments.rounds} rounds\n\n{table(rows)}\n")
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    if any(row["wrk ÷ faster"] < HEADROOM for row in rows):
        print(f"does not count: the server was less than {HEADROOM:g} times as fast as the faster client")
        return NOT_COUNTED
    reached = all(row["lanpo ÷ bare"] >= GOAL for row in rows)
    print(f"goal: lanpo ÷ bare ≥ {GOAL}: {'reached' if reached else 'MISSED'}")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
