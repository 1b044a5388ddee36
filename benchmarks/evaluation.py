"""What an evaluation costs beside its requests: the command `eval` in its three modes ÷ a bare closed loop, on the same
mock endpoint.

The command is the real one: prompts, lessons found in a pool, replies kept in a table, verdicts by worker processes,
every answer written. The loop posts with aiohttp and orjson and reads text and usage. Rounds alternate, both at the
same number of requests in flight; without latency both are as fast as two cores let them, with the endpoint on one of
these.

examples:
  python -m benchmarks.evaluation
  python -m benchmarks.evaluation --latency-s 0 --rounds 1
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.machine import client, median_ratio, orchestrate, server
from benchmarks.pool import entries_of
from benchmarks.script import Benchmark, Goal, Row
from pipeline.config.loading import load_recipe
from pipeline.experience.pool import Pool
from pipeline.problems.reasoning_gym import generate
from pipeline.run.folder import RunFolder

GOAL = 0.8
"""Least requests/s relative to the bare loop."""
MODES = "zero-shot,retrieval,reflect"


def run_with_lessons(root: Path, num_lessons: int) -> RunFolder:
    """A run folder whose pool holds lessons of the quickstart's training problems."""
    config = load_recipe("quickstart")
    run = RunFolder.create(
        config.model_copy(update={"run": config.run.model_copy(update={"root": root, "name": "run"})})
    )
    _, train = generate(config.problems, config.run.seed)
    Pool(run.store).add(entries_of([task.problem.text for task in train[:num_lessons]], 0))
    return run


def evaluated(url: str, run: RunFolder, out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The report of one evaluation."""
    settings = {"endpoint": url, "concurrency": options.in_flight, "benchmark": "heldout", "mode": MODES}
    settings |= {"pool": run.path, "limit": options.problems, "n": options.samples, "out": out}
    orchestrate("eval", settings)
    report: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    if report["failures"]:
        raise RuntimeError(f"failed: {report['failures']}")
    return report


def compare(latency_s: float, options: argparse.Namespace) -> Row:
    ours, bare, answers = [], [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        server("--latency", f"fixed:{latency_s}", module="servers.mock") as url,
    ):
        run = run_with_lessons(Path(folder), options.lessons)
        for number in range(options.rounds):
            report = evaluated(url, run, Path(folder) / f"e{number}", options)
            ours.append(report["num_asked"] / report["asking_s"])
            answers.append(sum(row["num_problems"] * row["num_samples"] for row in report["rows"]) / report["asking_s"])
            result = client("chat", url, concurrency=options.in_flight, num_requests=report["num_asked"])
            bare.append(result["requests_per_s"])
    return {
        "latency, s": latency_s,
        "in flight": options.in_flight,
        "requests": report["num_asked"],
        "answers/s": statistics.median(answers),
        "requests/s": statistics.median(ours),
        "bare loop": statistics.median(bare),
        "÷ bare": median_ratio(ours, bare),
    }


def measure(options: argparse.Namespace) -> Iterator[Row]:
    for latency_s in options.latency_s:
        yield compare(latency_s, options)


def goals(rows: list[Row]) -> list[Goal]:
    return [Goal.of(rows[:1], "÷ bare", least=GOAL)]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--latency-s", type=float, nargs="+", default=[1.0, 0.0], help="of the mock endpoint; the goal is for the first"
    )
    parser.add_argument("--in-flight", type=int, default=512)
    parser.add_argument("--problems", type=int, default=512)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--lessons", type=int, default=2000, help="in the pool")
    parser.add_argument("--rounds", type=int, default=3)


SMALL = {"latency_s": [0.0], "in_flight": 8, "problems": 4, "samples": 1, "lessons": 8, "rounds": 1}
main = Benchmark(__file__, __doc__, add_options, measure, SMALL, goals).main

if __name__ == "__main__":
    sys.exit(main())
