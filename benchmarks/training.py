"""Trained tokens/s of the learner ÷ those of stock TRL, on the same groups, model, precision and micro-batches, with
KL.

Each variant runs in a process of its own, in turn (benchmarks.training_child). `stock_head` is stock with its head
applied to the completions only: against it, the gain of the shared prefix shows alone. The first step's gradients are
compared as well.

examples:
  python -m benchmarks.training                                   # the embedded model; half an hour on two cores
  python -m benchmarks.training --rounds 1 --steps 2 --shapes 400x100
  python -m benchmarks.training --model ./my-model --precision bf16_autocast
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.machine import in_child, median_ratio
from benchmarks.script import TINY, Benchmark, Goal, Row, model_folder

GOALS = {"400x100": 2.0, "50x100": 1.0}
"""Least tokens/s relative to stock, by prompt and completion length."""
GRADIENT_TOLERANCE = 1e-4
GROUP_SIZE = 8
VARIANTS = ["ours", "unshared", "stock", "stock_head"]
"""Those of benchmarks.training_child, which is not imported: it takes half a gigabyte."""


def gradient_error(ours: str, theirs: str) -> float:
    """Norm of the difference of two gradients, relative to the second's."""
    import torch

    difference = total = 0.0
    for a, b in zip(torch.load(ours), torch.load(theirs), strict=True):
        difference += float((a.double() - b.double()).square().sum())
        total += float(b.double().square().sum())
    return (difference / total) ** 0.5


def compare(shape: str, model: str, options: argparse.Namespace) -> Iterator[Row]:
    """One row for each variant: medians over the rounds, ratios of the same round."""
    prompt, _, completion = shape.partition("x")
    load = {"model": model, "precision": options.precision, "prompt": int(prompt), "completion": int(completion)}
    load |= {"group_size": GROUP_SIZE, "groups": 1, "steps": options.steps}
    rounds: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        files = {variant: str(Path(folder) / variant) for variant in ("ours", "stock")}
        for number in range(options.rounds):
            order = VARIANTS if number % 2 == 0 else VARIANTS[::-1]
            for variants in [order] if options.one_process else [[variant] for variant in order]:
                results = in_child("training_child:run", variants=variants, gradient_files=files, **load)
                for variant, result in zip(variants, results, strict=True):
                    rounds[variant].append(result)
        error = gradient_error(files["ours"], files["stock"])

    def ratio(variant: str, other: str, name: str) -> float:
        return median_ratio((row[name] for row in rounds[variant]), (row[name] for row in rounds[other]))

    for variant, results in rounds.items():
        yield {
            "prompt × completion": shape,
            "variant": variant,
            "tokens/s": statistics.median(result["tokens_per_s"] for result in results),
            "÷ stock": ratio(variant, "stock", "tokens_per_s"),
            "÷ stock_head": ratio(variant, "stock_head", "tokens_per_s"),
            "peak memory, MiB": statistics.median(result["peak_bytes"] for result in results) / 2**20,
            "memory ÷ stock": ratio(variant, "stock", "peak_bytes"),
            "gradient error": error if variant == "ours" else None,
        }


def measure(options: argparse.Namespace) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        model = model_folder(options.model, Path(folder))
        for shape in options.shapes:
            yield from compare(shape, model, options)


def goals(rows: list[Row]) -> list[Goal]:
    ours = [row for row in rows if row["variant"] == "ours"]
    speeds = [
        Goal(f"{row['prompt × completion']}: tokens/s ÷ stock", row["÷ stock"], least=GOALS[row["prompt × completion"]])
        for row in ours
        if row["prompt × completion"] in GOALS
    ]
    memory, error = Goal.of(ours, "memory ÷ stock", most=1.0), Goal.of(ours, "gradient error", most=GRADIENT_TOLERANCE)
    return [*speeds, memory, error]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="embedded", help="as model.path")
    parser.add_argument("--precision", choices=("float32", "bf16_autocast"), default="float32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="steps of each process; the first is not counted")
    parser.add_argument("--shapes", nargs="+", default=list(GOALS), metavar="PROMPTxCOMPLETION")
    parser.add_argument(
        "--one-process",
        action="store_true",
        help="for all variants of a round: sooner, but they share what torch keeps",
    )


SMALL = {"model": TINY, "rounds": 1, "steps": 2, "shapes": ["12x8"], "one_process": True}
main = Benchmark(__file__, __doc__, add_options, measure, SMALL, goals).main

if __name__ == "__main__":
    sys.exit(main())
