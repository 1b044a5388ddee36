"""How many requests the pool keeps in flight against an endpoint that takes one second, and what each costs in memory.

Achieved requests/s at full flight ÷ what bare aiohttp achieves in the same run (and ÷ the ideal), memory per request in
flight, connections as the server counts them; then 20,000 requests at 4,096 in flight.

examples:
  python -m benchmarks.in_flight
  python -m benchmarks.in_flight --in-flight 512 --rounds 1
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.machine import HEADROOM, NOT_COUNTED, described, measured, server, table, wrk
from pipeline.inference.client import GENERATE

GOAL_RATIO = 0.9
"""Least requests/s relative to bare aiohttp."""
GOAL_BYTES = 40_000
"""Most memory of a request in flight."""
DELAY_S = 1.0
STEADY_S = 6.0
MANY, MANY_IN_FLIGHT = 20_000, 4_096


def counters(url: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{url}/_counters") as reply:  # noqa: S310 - our own server on 127.0.0.1
        return dict(json.load(reply))


def steady(client: str, num_in_flight: int, loop: str, num_tokens: int) -> dict[str, Any]:
    """One client at full flight against a server of its own, with the connections that the server saw."""
    with server("--delay-s", str(DELAY_S), "--num-tokens", str(num_tokens)) as url:
        arguments = ["--url", url, "--concurrency", str(num_in_flight), "--steady-s", str(STEADY_S), "--loop", loop]
        result = measured("-m", "benchmarks.clients", client, *arguments)
        seen = counters(url)
    if result["failures"]:
        raise RuntimeError(f"{client} at {num_in_flight} in flight failed: {result['failures']}")
    # One more: the connection that asks for the counters.
    if not num_in_flight <= seen["max_open"] <= num_in_flight + 1:
        raise RuntimeError(f"{client}: the server saw {seen['max_open']} connections for {num_in_flight} in flight")
    return {**result, "max_open": seen["max_open"]}


def compare(num_in_flight: int, rounds: int, loop: str, num_tokens: int) -> dict[str, Any]:
    ours, bare = [], []
    for _ in range(rounds):
        ours.append(steady("lanpo", num_in_flight, loop, num_tokens))
        bare.append(steady("bare", num_in_flight, loop, num_tokens))
    ratios = [a["requests_per_s"] / b["requests_per_s"] for a, b in zip(ours, bare, strict=True)]
    rate = statistics.median(result["requests_per_s"] for result in ours)
    return {
        "in flight": num_in_flight,
        "lanpo": rate,
        "bare": statistics.median(result["requests_per_s"] for result in bare),
        "lanpo ÷ bare": statistics.median(ratios),
        "lanpo ÷ ideal": rate / (num_in_flight / DELAY_S),
        "bytes a request": statistics.median(result["bytes_per_request"] for result in ours),
        "bytes a request, bare": statistics.median(result["bytes_per_request"] for result in bare),
        "connections": ours[-1]["max_open"],
    }


def many(loop: str, num_tokens: int) -> dict[str, Any]:
    """20,000 requests at 4,096 in flight."""
    with server("--delay-s", str(DELAY_S), "--num-tokens", str(num_tokens)) as url:
        arguments = ["--url", url, "--concurrency", str(MANY_IN_FLIGHT), "--num-requests", str(MANY), "--loop", loop]
        result = measured("-m", "benchmarks.clients", "lanpo", *arguments)
        seen = counters(url)
    return {
        "requests": MANY,
        "in flight": MANY_IN_FLIGHT,
        "seconds": result["seconds"],
        "failures": sum(result["failures"].values()),
        "answered by the server": seen["requests"],
        "connections": seen["max_open"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.in_flight", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--in-flight", type=int, nargs="+", default=[512, 2048, 4096])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--num-tokens", type=int, default=90, help="tokens of an answer (90: about 8 KB)")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="uvloop")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    arguments = parser.parse_args()
    rows = [compare(n, arguments.rounds, arguments.loop, arguments.num_tokens) for n in arguments.in_flight]
    total = many(arguments.loop, arguments.num_tokens)
    with server("--num-tokens", str(arguments.num_tokens)) as url:
        headroom = wrk(url, GENERATE, 512) / max(max(row["lanpo"], row["bare"]) for row in rows)
    print(f"{described()} · {arguments.loop}, medians of {arguments.rounds} rounds, wrk ÷ fastest {headroom:.1f}\n")
    print(f"{table(rows)}\n\n{table([total])}\n")
    if arguments.out:
        arguments.out.write_text(
            json.dumps({"rows": rows, "many": total, "headroom": headroom}, indent=1), encoding="utf-8"
        )
    if headroom < HEADROOM:
        print(f"does not count: the server was less than {HEADROOM:g} times as fast as the faster client")
        return NOT_COUNTED
    reached = all(row["lanpo ÷ bare"] >= GOAL_RATIO and row["bytes a request"] <= GOAL_BYTES for row in rows)
    reached = reached and total["failures"] == 0
    print(
        f"goals: ÷ bare ≥ {GOAL_RATIO}, ≤ {GOAL_BYTES} bytes a request, 0 failures: {'reached' if reached else 'MISSED'}"
    )
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
