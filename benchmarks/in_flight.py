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
from collections.abc import Iterator

from benchmarks.machine import client, in_child, median_ratio, server, wrk
from benchmarks.script import WRK, Benchmark, Goal, Row, headroom
from pipeline.inference.client import GENERATE

GOAL_RATIO = 0.9
"""Least requests/s relative to bare aiohttp."""
GOAL_BYTES = 40_000
"""Most memory of a request in flight."""


def counters(url: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{url}/_counters") as reply:  # noqa: S310 - our own server on 127.0.0.1
        return dict(json.load(reply))


def steady(name: str, num_in_flight: int, options: argparse.Namespace) -> Row:
    """One client at full flight against a server of its own, with the connections that the server saw."""
    with server("--delay-s", str(options.delay_s), "--num-tokens", str(options.num_tokens)) as url:
        times = {"steady_s": options.steady_s, "settle_s": options.settle_s}
        result = client(name, url, concurrency=num_in_flight, loop=options.loop, **times)
        seen = counters(url)
    # One more: the connection that asks for the counters.
    if not num_in_flight <= seen["max_open"] <= num_in_flight + 1:
        raise RuntimeError(f"{name}: the server saw {seen['max_open']} connections for {num_in_flight} in flight")
    return {**result, "max_open": seen["max_open"]}


def compare(num_in_flight: int, options: argparse.Namespace) -> Row:
    ours, bare = [], []
    for _ in range(options.rounds):
        ours.append(steady("lanpo", num_in_flight, options))
        bare.append(steady("bare", num_in_flight, options))
    our_rates, bare_rates = ([result["requests_per_s"] for result in results] for results in (ours, bare))
    rate = statistics.median(our_rates)
    return {
        "in flight": num_in_flight,
        "lanpo": rate,
        "bare": statistics.median(bare_rates),
        "lanpo ÷ bare": median_ratio(our_rates, bare_rates),
        "lanpo ÷ ideal": rate / (num_in_flight / options.delay_s),
        "bytes a request": statistics.median(result["bytes_per_request"] for result in ours),
        "bytes a request, bare": statistics.median(result["bytes_per_request"] for result in bare),
        "connections": ours[-1]["max_open"],
    }


def many(options: argparse.Namespace) -> Row:
    """Very many requests, at very many in flight."""
    num, num_in_flight = options.many
    with server("--delay-s", str(options.delay_s), "--num-tokens", str(options.num_tokens)) as url:
        arguments = {"concurrency": num_in_flight, "num_requests": num, "loop": options.loop}
        result = in_child("clients:run", client="lanpo", url=url, **arguments)
        seen = counters(url)
    return {
        "requests": num,
        "in flight": num_in_flight,
        "seconds": result["seconds"],
        "failures": sum(result["failures"].values()),
        "answered by the server": seen["requests"],
        "connections": seen["max_open"],
    }


def measure(options: argparse.Namespace) -> Iterator[Row]:
    fastest = 0.0
    for num_in_flight in options.in_flight:
        yield (row := compare(num_in_flight, options))
        fastest = max(fastest, row["lanpo"], row["bare"])
    yield many(options)
    if WRK.name not in options.missing:
        with server("--num-tokens", str(options.num_tokens)) as url:
            rate = wrk(url, GENERATE, 512)
        yield {"wrk": rate, "wrk ÷ fastest": rate / fastest}


def goals(rows: list[Row]) -> list[Goal]:
    return [
        headroom(rows, "wrk ÷ fastest"),
        Goal.of(rows, "lanpo ÷ bare", least=GOAL_RATIO),
        Goal.of(rows, "bytes a request", most=GOAL_BYTES),
        Goal.of(rows, "failures", most=0),
    ]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--in-flight", type=int, nargs="+", default=[512, 2048, 4096])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--num-tokens", type=int, default=90, help="tokens of an answer (90: about 8 KB)")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="uvloop")
    parser.add_argument("--delay-s", type=float, default=1.0, help="that each answer takes")
    parser.add_argument("--settle-s", type=float, default=4.0, help="before full flight is measured")
    parser.add_argument("--steady-s", type=float, default=6.0, help="that it is measured for")
    parser.add_argument(
        "--many", type=int, nargs=2, default=[20_000, 4_096], metavar=("REQUESTS", "IN_FLIGHT"), help="of the last row"
    )


SMALL = {"in_flight": [8], "rounds": 1, "delay_s": 0.05, "settle_s": 0.2, "steady_s": 0.3, "many": [64, 16]}
main = Benchmark(__file__, __doc__, add_options, measure, SMALL, goals, peers=[WRK]).main

if __name__ == "__main__":
    sys.exit(main())
