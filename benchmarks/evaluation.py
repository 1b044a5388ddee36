"""What an evaluation costs beside its requests: the command `eval` in its three modes ÷ a bare closed loop, on the same mock endpoint.

The command is the real one: prompts, lessons found in a pool, replies kept in a table, verdicts by worker processes, every answer written.
The loop posts with aiohttp and orjson and reads text and usage. Rounds alternate, both at the same number of requests in flight; without
latency both are as fast as two cores let them, with the endpoint on one of these.

examples:
  python -m benchmarks.evaluation
  python -m benchmarks.evaluation --latency-s 0 --rounds 1
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import described, measured, server, table
from benchmarks.pool import entries_of
from pipeline.config.loading import load_recipe
from pipeline.experience.pool import Pool
from pipeline.problems.reasoning_gym import generate
from pipeline.run.folder import RunFolder

GOAL = 0.8
"""Least requests/s relative to the bare loop."""
NUM_LESSONS = 2000
MODES = "zero-shot,retrieval,reflect"


def run_with_lessons(root: Path) -> RunFolder:
    """A run folder whose pool holds lessons of the quickstart's training problems."""
    config = load_recipe("quickstart")
    run = RunFolder.create(
        config.model_copy(update={"run": config.run.model_copy(update={"root": root, "name": "run"})})
    )
    _, train = generate(config.problems, config.run.seed)
    Pool(run.store).add(entries_of([task.problem.text for task in train[:NUM_LESSONS]], 0))
    return run


def evaluated(
    url: str, run: RunFolder, out: Path, in_flight: int, num_problems: int, num_samples: int
) -> dict[str, Any]:
    command = [sys.executable, "-m", "pipeline.orchestrate", "eval", "--endpoint", url, "--concurrency", str(in_flight)]
    command += ["--benchmark", "heldout"]
    command += ["--mode", MODES, "--pool", str(run.path), "--limit", str(num_problems), "--n", str(num_samples)]
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, env=os.environ)
    if done.returncode:
        raise RuntimeError(f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return dict(json.loads((out / "report.json").read_text(encoding="utf-8")))


def compare(latency_s: float, arguments: argparse.Namespace) -> dict[str, Any]:
    ours, bare, answers = [], [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        server("--latency", f"fixed:{latency_s}", module="servers.mock") as url,
    ):
        run = run_with_lessons(Path(folder))
        for number in range(arguments.rounds):
            out = Path(folder) / f"e{number}"
            report = evaluated(url, run, out, arguments.in_flight, arguments.problems, arguments.samples)
            ours.append(report["num_asked"] / report["asking_s"])
            answers.append(sum(row["num_problems"] * row["num_samples"] for row in report["rows"]) / report["asking_s"])
            loop = ["--url", url, "--concurrency", str(arguments.in_flight), "--num-requests", str(report["num_asked"])]
            result = measured("-m", "benchmarks.clients", "chat", *loop)
            if result["failures"] or report["failures"]:
                raise RuntimeError(f"failed: {result['failures']} {report['failures']}")
            bare.append(result["requests_per_s"])
    return {
        "latency, s": latency_s,
        "in flight": arguments.in_flight,
        "requests": report["num_asked"],
        "answers/s": statistics.median(answers),
        "requests/s": statistics.median(ours),
        "bare loop": statistics.median(bare),
        "÷ bare": statistics.median(a / b for a, b in zip(ours, bare, strict=True)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evaluation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--latency-s", type=float, nargs="+", default=[1.0, 0.0], help="of the mock endpoint; the goal is for the first"
    )
    parser.add_argument("--in-flight", type=int, default=512)
    parser.add_argument("--problems", type=int, default=512)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rows = [compare(latency_s, arguments) for latency_s in arguments.latency_s]
    print(f"{described()} · medians of {arguments.rounds} rounds\n\n{table(rows)}\n")
    reached = rows[0]["÷ bare"] >= GOAL
    print(
        f"goal: at {rows[0]['latency, s']:g} s, requests/s ÷ the bare loop's ≥ {GOAL}: {'reached' if reached else 'MISSED'}"
    )
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
