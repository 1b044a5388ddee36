"""Does it learn? Held-out accuracy of the base model, after SFT and after RL, over several seeds.

    python -m benchmarks.learning --recipe quickstart --seeds 0 1 2      # train, then report
    python -m benchmarks.learning --runs runs/a runs/b runs/c            # report on finished runs

The problems are the same in every run and stage, so the gain of RL is a paired difference: per problem 1, 0 or −1. It
is pooled over the seeds; its interval is a normal one over the paired differences, and a bootstrap over problems (which
keeps the seeds of one problem together) beside it."""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.machine import orchestrate, server
from benchmarks.script import TINY, Benchmark, Row, model_folder
from pipeline.evaluation.heldout import Answer, read_answers
from pipeline.run.state import AFTER_RL, AFTER_SFT, BASE_MODEL, answers_file
from pipeline.statistics import wilson_interval

STAGES = (BASE_MODEL, AFTER_SFT, AFTER_RL)
NUM_RESAMPLES = 10_000
SMALL_RUN = {
    "problems.num_train": 32,
    "problems.num_heldout": 8,
    "eval.num_problems": 8,
    "rollout.group_size": 2,
    "rollout.num_problems_per_step": 4,
    "rollout.sampling.max_tokens": 48,
    "sft.num_pairs": 8,
    "sft.batch_size": 8,
    "learner.num_steps": 1,
    "learner.logprob_gap_tolerance": 1e9,
    "learner.report_to": "[]",
}


def train(recipe: str, seed: int, root: Path, settings: dict[str, Any], more: list[str], **env: str) -> Path:
    """Train one seed of problems, contexts and sampling; the SFT model is the same unless sft.seed says otherwise."""
    name = f"learning-{recipe}-{seed}"
    begin_s = time.monotonic()
    settings = {"recipe": recipe, "run.root": root, "run.name": name, "run.seed": seed, **settings}
    orchestrate("train", settings, *more, env=env)
    print(f"seed {seed}: {(time.monotonic() - begin_s) / 60:.1f} minutes of wall clock", flush=True)
    return root / name


def answers(run: Path, stage: str) -> dict[str, Answer]:
    """By problem, without those that had none."""
    return {
        answer.problem_id: answer for answer in read_answers(answers_file(run / "evals", stage)) if not answer.error
    }


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


def accuracy(run: Path, stage: str) -> Row:
    """What the answers of one stage are like."""
    found = list(answers(run, stage).values())
    correct, total = sum(answer.verdict.correct for answer in found), len(found)
    low, high = wilson_interval(correct, total)
    return {
        "run": run.name,
        "stage": stage,
        "accuracy": correct / total,
        "low": low,
        "high": high,
        "parsable": sum(answer.verdict.answer is not None for answer in found) / total,
        "truncated": sum(answer.finish_reason == "length" for answer in found) / total,
        "characters an answer": statistics.fmean(len(answer.text) for answer in found),
        "problems": total,
    }


def gains(runs: list[Path], before: str, after: str) -> Iterator[Row]:
    """Of each run and pooled: share solved after − before, its 95 % interval, and one by bootstrap over problems."""
    by_run = {run.name: differences(run, before, after) for run in runs}
    pooled = {"all": list(by_run.values())} if len(by_run) > 1 else {}
    for name, values in ({name: [one] for name, one in by_run.items()} | pooled).items():
        mean, low, high = normal_interval([value for one in values for value in one.values()])
        boot_low, boot_high = bootstrap_interval(values)
        row: Row = {"run": name, "before": before, "after": after, "gain": mean, "low": low, "high": high}
        yield row | {"bootstrap low": boot_low, "bootstrap high": boot_high}


def report(runs: list[Path]) -> Iterator[Row]:
    for run in runs:
        for stage in filter(partial(has, run), STAGES):
            yield accuracy(run, stage)
    for before, after in (("base model", "after SFT"), ("after SFT", "after RL")):
        yield from gains([run for run in runs if has(run, before)], before, after)


def trained(options: argparse.Namespace, folder: Path) -> list[Path]:
    """The runs of all seeds; those of the small form have a mock endpoint, a tiny model, and their cache in
    `folder`."""
    if not options.small:
        return [train(options.recipe, seed, options.root, {}, options.more) for seed in options.seeds]
    with server(module="servers.mock") as url:
        settings = SMALL_RUN | {"endpoints": json.dumps([{"url": url}]), "model.path": model_folder(TINY, folder)}
        cache = str(folder / "cache")
        return [
            train(options.recipe, seed, folder, settings, options.more, LANPO_CACHE=cache) for seed in options.seeds
        ]


def measure(options: argparse.Namespace) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        yield from report(options.runs or trained(options, Path(folder)))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--recipe", default="quickstart")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--root", type=Path, default=Path("runs"))
    parser.add_argument("--runs", type=Path, nargs="+", help="finished runs to report on, instead of training")


main = Benchmark(__file__, __doc__, add_options, measure, small={"seeds": [0]}, passes_on=True).main

if __name__ == "__main__":
    sys.exit(main())
