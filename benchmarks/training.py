"""Trained tokens/s of the learner ÷ those of stock TRL, on the same groups, model, precision and micro-batches, with KL.

Each variant runs in a process of its own, in turn (benchmarks.training_child). `stock_head` is stock with its head applied to the
completions only: against it, the gain of the shared prefix shows alone. The first step's gradients are compared as well.

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
from pathlib import Path
from typing import Any

from benchmarks.machine import described, measured, table
from servers.embedded import resolve

GOALS = {"400x100": 2.0, "50x100": 1.0}
"""Least tokens/s relative to stock, by prompt and completion length."""
GRADIENT_TOLERANCE = 1e-4
GROUP_SIZE = 8
VARIANTS = ("ours", "unshared", "stock", "stock_head")
"""Those of benchmarks.training_child, which is not imported: it takes half a gigabyte."""


def gradient_error(ours: Path, theirs: Path) -> float:
    """Norm of the difference of two gradients, relative to the second's."""
    import torch

    difference = total = 0.0
    for a, b in zip(torch.load(ours), torch.load(theirs), strict=True):
        difference += float((a.double() - b.double()).square().sum())
        total += float(b.double().square().sum())
    return (difference / total) ** 0.5


def measure(shape: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each variant: medians over the rounds, ratios of the same round."""
    prompt, _, completion = shape.partition("x")
    arguments = ["--model", options.model, "--precision", options.precision, "--group_size", str(GROUP_SIZE)]
    arguments += ["--prompt", prompt, "--completion", completion, "--groups", "1", "--steps", str(options.steps)]
    rounds: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        files = {variant: Path(folder) / variant for variant in ("ours", "stock")}
        for number in range(options.rounds):
            for variant in VARIANTS if number % 2 == 0 else reversed(VARIANTS):
                wanted = ["--gradient-file", str(files[variant])] if number == 0 and variant in files else []
                command = ["-m", "benchmarks.training_child", variant, *arguments, *wanted]
                rounds[variant].append(measured(*command))
        error = gradient_error(files["ours"], files["stock"])
    return [
        {
            "prompt × completion": shape,
            "variant": variant,
            "tokens/s": statistics.median(row["tokens_per_s"] for row in rows),
            "÷ stock": _ratio(rows, rounds["stock"], "tokens_per_s"),
            "÷ stock_head": _ratio(rows, rounds["stock_head"], "tokens_per_s"),
            "peak memory, MiB": statistics.median(row["peak_bytes"] for row in rows) / 2**20,
            "memory ÷ stock": _ratio(rows, rounds["stock"], "peak_bytes"),
            "gradient error": error if variant == "ours" else None,
        }
        for variant, rows in rounds.items()
    ]


def _ratio(rows: list[dict[str, float]], others: list[dict[str, float]], name: str) -> float:
    return statistics.median(row[name] / other[name] for row, other in zip(rows, others, strict=True))


def missed(row: dict[str, Any]) -> list[str]:
    """What `row`, of the variant 'ours', falls short of."""
    found = []
    if row["÷ stock"] < (goal := GOALS.get(row["prompt × completion"], 0.0)):
        found.append(f"tokens/s ÷ stock ≥ {goal}")
    if row["memory ÷ stock"] > 1.0:
        found.append("peak memory ≤ stock's")
    if row["gradient error"] > GRADIENT_TOLERANCE:
        found.append(f"gradient error ≤ {GRADIENT_TOLERANCE}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="", help="folder of the model; default: the embedded one")
    parser.add_argument("--precision", choices=("float32", "bf16_autocast"), default="float32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="steps of each process; the first is not counted")
    parser.add_argument("--shapes", nargs="+", default=list(GOALS), metavar="PROMPTxCOMPLETION")
    options = parser.parse_args()
    if not options.model:
        options.model = str(resolve("embedded"))
    rows = [row for shape in options.shapes for row in measure(shape, options)]
    print(f"{described()}\n\n{table(rows)}\n")
    short = {row["prompt × completion"]: missed(row) for row in rows if row["variant"] == "ours"}
    for shape, complaints in short.items():
        print(f"{shape}: {'goals reached' if not complaints else 'MISSED: ' + ', '.join(complaints)}")
    return 1 if any(short.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
