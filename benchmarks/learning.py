"""Does it learn? Held-out accuracy of the base model, after SFT and after RL, over several seeds.

    python -m benchmarks.learning --recipe quickstart --seeds 0 1 2      # train, then report
    python -m benchmarks.learning --runs runs/a runs/b runs/c            # report on finished runs

The problems are the same in every run and stage, so the gain of RL is a paired difference: per problem 1, 0 or −1. It is
pooled over the seeds; its interval is a normal one over the paired differences, and a bootstrap over problems (which keeps the
seeds of one problem together) beside it.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from pipeline.evaluation.heldout import Answer, read_answers
from pipeline.run.state import AFTER_RL, AFTER_SFT, BASE_MODEL, answers_file
from pipeline.statistics import wilson_interval

STAGES = (BASE_MODEL, AFTER_SFT, AFTER_RL)
NUM_RESAMPLES = 10_000


def train(recipe: str, seed: int, root: Path, extra: list[str]) -> Path:
    """Train one seed of problems, contexts and sampling; the SFT model is the same unless sft.seed says otherwise."""
    name = f"learning-{recipe}-{seed}"
    command = [sys.executable, "-m", "pipeline.orchestrate", "train", "--recipe", recipe, "--run.root", str(root)]
    command += ["--run.name", name, "--run.seed", str(seed), *extra]
    begin = time.monotonic()
    subprocess.run(command, check=True)
    print(f"seed {seed}: {(time.monotonic() - begin) / 60:.1f} minutes of wall clock", flush=True)
    return root / name


def answers(run: Path, stage: str) -> dict[str, Answer]:
    return {answer.problem_id: answer for answer in read_answers(answers_file(run / "evals", stage))}


def has(run: Path, stage: str) -> bool:
    """Whether the stage was evaluated; with `--eval.baseline false` the base model, the same for all seeds, was not."""
    return answers_file(run / "evals", stage).exists()


def differences(run: Path, before: str, after: str) -> dict[str, int]:
    """Per problem: solved after minus solved before."""
    first, second = answers(run, before), answers(run, after)
    return {
        key: int(second[key].verdict.correct) - int(first[key].verdict.correct) for key in first.keys() & second.keys()
    }


def normal_interval(values: list[int]) -> tuple[float, float, float]:
    """Mean and 95 % interval."""
    mean = statistics.fmean(values)
    spread = 1.959964 * statistics.stdev(values) / len(values) ** 0.5
    return mean, mean - spread, mean + spread


def bootstrap_interval(by_run: list[dict[str, int]], seed: int = 0) -> tuple[float, float]:
    """95 % interval over problems: a problem is drawn with all its seeds."""
    rng = random.Random(seed)
    problems = sorted(set.intersection(*(set(run) for run in by_run)))
    sums = [sum(run[problem] for run in by_run) / len(by_run) for problem in problems]
    means = sorted(statistics.fmean(rng.choices(sums, k=len(sums))) for _ in range(NUM_RESAMPLES))
    return means[int(0.025 * NUM_RESAMPLES)], means[int(0.975 * NUM_RESAMPLES)]


def report(runs: list[Path]) -> None:
    print(
        "| run | stage | accuracy | 95 % interval | parsable | cut short | characters an answer | problems |\n"
        + "|---" * 8
        + "|"
    )
    for run in runs:
        for stage in filter(partial(has, run), STAGES):
            found = list(answers(run, stage).values())
            correct, total = sum(answer.verdict.correct for answer in found), len(found)
            low, high = wilson_interval(correct, total)
            parsable = sum(answer.verdict.answer is not None for answer in found) / total
            cut = sum(answer.finish_reason == "length" for answer in found) / total
            length = statistics.fmean(len(answer.text) for answer in found)
            shares = f"{correct / total:.3f} | {low:.3f} to {high:.3f} | {parsable:.3f} | {cut:.3f}"
            print(f"| {run.name} | {stage} | {shares} | {length:.0f} | {total} |")
    print()
    for before, after in (("base model", "after SFT"), ("after SFT", "after RL")):
        paired = [run for run in runs if has(run, before)]
        by_run = [differences(run, before, after) for run in paired]
        for run, values in zip(paired, by_run, strict=True):
            print(f"{after} − {before}, {run.name}: {statistics.fmean(values.values()):+.4f}")
        mean, low, high = normal_interval([value for run_values in by_run for value in run_values.values()])
        boot_low, boot_high = bootstrap_interval(by_run)
        print(
            f"{after} − {before}, pooled over {len(paired)} runs: {mean:+.4f}, 95 % interval {low:+.4f} to {high:+.4f} "
            f"(bootstrap over problems {boot_low:+.4f} to {boot_high:+.4f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--recipe", default="quickstart")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--root", type=Path, default=Path("runs"))
    parser.add_argument("--runs", type=Path, nargs="+", help="finished runs to report on, instead of training")
    options, extra = parser.parse_known_args()
    report(options.runs or [train(options.recipe, seed, options.root, extra) for seed in options.seeds])


if __name__ == "__main__":
    main()
