"""Do sampling and training overlap? Wall clock per step ÷ the slower of the two, for S = 0 and S = 1.

The whole command with the real learner, and the mock endpoint with a fixed latency near the time that a training step
takes. With S = 0 a step is sampled, then trained, so the ratio is near 2; with S = 1 the goal is 1.1.

examples:
  python -m benchmarks.overlap
  python -m benchmarks.overlap --model ./my-model --latency-s 20 --steps 30
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

from benchmarks.machine import orchestrate, server
from benchmarks.script import TINY, Benchmark, Goal, Row, model_folder
from pipeline.run.folder import RunFolder
from pipeline.run.metrics_log import read_metrics

GOAL = 1.1
OPTIONS: dict[str, Any] = {
    "problems.num_train": 64,
    "problems.num_heldout": 8,
    "eval.num_problems": 8,
    "eval.baseline": "false",
    "sft.enabled": "false",
    "feedback.ratio": 0,
    "abstraction.enabled": "false",
    "rollout.group_size": 4,
    "rollout.num_problems_per_step": 4,
    "rollout.sampling.max_tokens": 64,
    "learner.checkpoint_every": 1000,
    "learner.logprob_gap_tolerance": 1e9,
    "learner.report_to": "[]",
}


def train(folder: Path, model: str, url: str, staleness: int, num_steps: int) -> RunFolder:
    options = {
        **OPTIONS,
        "run.root": folder,
        "run.name": f"s{staleness}",
        "model.path": model,
        "endpoints": json.dumps([{"url": url}]),
        "rollout.max_staleness": staleness,
        "learner.num_steps": num_steps,
    }
    orchestrate("train", options, env={"LANPO_CACHE": str(folder)})
    return RunFolder.open(folder / f"s{staleness}")


def times(run: RunFolder, staleness: int, num_warm_up: int) -> Row:
    """Means over the steps after the warm-up, as the wall clock is one; a step's slower half is taken step by step."""
    lines, _ = read_metrics(run.metrics_file)
    sampled = [line["sampled_s"] for line in lines if line["event"] == "step"][num_warm_up:]
    steps = [line for line in lines if line["event"] == "learner_step"][num_warm_up:]
    trained = [line["train_s"] + line["publish_s"] + line["reload_s"] for line in steps]
    wall_s = (steps[-1]["time_s"] - steps[0]["time_s"]) / (len(steps) - 1)
    slower_s = statistics.mean(map(max, sampled, trained))
    return {
        "S": staleness,
        "steps": len(steps),
        "sampling, s": statistics.mean(sampled),
        "training and publishing, s": statistics.mean(trained),
        "waiting for rollouts, s": statistics.mean(line["wait_s"] for line in steps),
        "wall clock per step, s": wall_s,
        "÷ the slower": wall_s / slower_s,
    }


def measure(options: argparse.Namespace) -> Iterator[Row]:
    latency = ("--latency", f"fixed:{options.latency_s}")
    with tempfile.TemporaryDirectory() as root, server(*latency, module="servers.mock") as url:
        model = model_folder(options.model, Path(root))
        for staleness in options.staleness:
            run = train(Path(root), model, url, staleness, options.steps)
            yield times(run, staleness, options.warm_up)


def goals(rows: list[Row]) -> list[Goal]:
    return [Goal.of([row for row in rows if row["S"] == 1], "÷ the slower", most=GOAL)]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="embedded", help="as model.path")
    parser.add_argument("--latency-s", type=float, default=8.0, help="of each request of the mock endpoint")
    parser.add_argument("--staleness", type=int, nargs="+", default=[0, 1], metavar="S", help="the goal is for 1")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--warm-up", type=int, default=3, help="steps that are not counted")


SMALL = {"model": TINY, "latency_s": 0.05, "staleness": [1], "steps": 3, "warm_up": 1}
main = Benchmark(__file__, __doc__, add_options, measure, SMALL, goals).main

if __name__ == "__main__":
    sys.exit(main())
