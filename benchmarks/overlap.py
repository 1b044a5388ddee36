"""Do sampling and training overlap? Wall clock per step ÷ the slower of the two, for S = 0 and S = 1.

The whole command with the real learner, and the mock endpoint with a fixed latency near the time that a training step takes. With
S = 0 a step is sampled, then trained, so the ratio is near 2; with S = 1 the goal is 1.1.

examples:
  python -m benchmarks.overlap
  python -m benchmarks.overlap --model ./my-model --latency-s 20 --steps 30
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

from benchmarks.machine import described, server, table
from pipeline.run.folder import RunFolder
from pipeline.run.metrics_log import read_metrics
from servers.embedded import resolve

GOAL = 1.1
WARM_UP_STEPS = 3
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


def train(folder: Path, model: Path, url: str, staleness: int, num_steps: int) -> RunFolder:
    options = {
        **OPTIONS,
        "run.root": folder,
        "run.name": f"s{staleness}",
        "model.path": model,
        "endpoints": json.dumps([{"url": url}]),
        "rollout.max_staleness": staleness,
        "learner.num_steps": num_steps,
    }
    command = [sys.executable, "-m", "pipeline.orchestrate", "train"]
    command += [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LANPO_CACHE": str(folder)})
    if done.returncode:
        raise RuntimeError(f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return RunFolder.open(folder / f"s{staleness}")


def times(run: RunFolder, staleness: int) -> dict[str, Any]:
    """Means over the steps after the warm-up, as the wall clock is one; a step's slower half is taken step by step."""
    lines, _ = read_metrics(run.metrics_file)
    sampled = [line["sampled_s"] for line in lines if line["event"] == "step"][WARM_UP_STEPS:]
    steps = [line for line in lines if line["event"] == "learner_step"][WARM_UP_STEPS:]
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


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overlap", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="embedded", help="as model.path")
    parser.add_argument("--latency-s", type=float, default=8.0, help="of each request of the mock endpoint")
    parser.add_argument("--steps", type=int, default=16)
    arguments = parser.parse_args()
    model = resolve(arguments.model)
    latency = ("--latency", f"fixed:{arguments.latency_s}")
    with tempfile.TemporaryDirectory() as root, server(*latency, module="servers.mock") as url:
        rows = [times(train(Path(root), model, url, s, arguments.steps), s) for s in (0, 1)]
    print(f"{described()}\n\n{table(rows)}\n")
    reached = rows[1]["÷ the slower"] <= GOAL
    print(f"goal: at S = 1, wall clock ÷ the slower ≤ {GOAL}: {'reached' if reached else 'MISSED'}")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
