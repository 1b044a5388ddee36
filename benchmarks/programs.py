"""How many programs a second are run and judged, and what share of its own solutions a data set's rows are paid?

A program is trivial, with one test, through `pipeline.rewards.verifier.Verifier` with one worker: two fresh sandboxes
for each, hand-over included. The limit is `python -c pass`, started bare and one after another by the same interpreter.
They take turns; rates are medians of rounds.

Packages are imported in a sandbox of their own each time: seconds that a program pays for the import.

With --rows, the solution of each row of a file (MBPP, HumanEval, APPS …) is judged by the row's own tests.

examples:
  python -m benchmarks.programs
  python -m benchmarks.programs --rows mbpp.jsonl --packages numpy sympy
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.machine import median_ratio
from benchmarks.script import Benchmark, Goal, Row
from pipeline.config.rollout import RewardSection
from pipeline.problems.rows import jsonl_rows
from pipeline.problems.tasks import parse_row
from pipeline.rewards.code.sandbox import isolation_problem, probed
from pipeline.rewards.verifier import Verifier
from pipeline.types import Task

PROGRAM = "```python\ndef f(x):\n    return x + 1\n```"
ROW = {"question": "Write f.", "tests": "assert f(1) == 2", "entry_point": "f"}


def bare_starts(num: int) -> float:
    """Starts a second of an interpreter that does nothing."""
    begin_s = time.perf_counter()
    for _ in range(num):
        subprocess.run([sys.executable, "-c", "pass"], check=True)
    return num / (time.perf_counter() - begin_s)


async def programs(verifier: Verifier, num: int, task: Task) -> float:
    """Programs a second, all of them paid."""
    begin_s = time.perf_counter()
    verdicts = await verifier.verify_group([PROGRAM] * num, task)
    seconds = time.perf_counter() - begin_s
    assert all(verdict.correct for verdict in verdicts), verdicts
    return num / seconds


async def rates(num_rounds: int, num: int) -> dict[str, list[float]]:
    from pipeline.problems.rows import Row as ProblemRow

    found: dict[str, list[float]] = {"programs": [], "bare starts": []}
    task = parse_row(ProblemRow("row", ROW)).task("p", "train")
    async with Verifier(RewardSection(scorer="code", timeout_s=60.0)) as verifier:
        await programs(verifier, 2, task)
        for _ in range(num_rounds):
            found["bare starts"].append(await asyncio.to_thread(bare_starts, num))
            found["programs"].append(await programs(verifier, num, task))
    return found


async def judged(file: Path, limit: int | None) -> Iterator[Row]:
    """How many solutions are paid, and a line for each that is not."""
    kinds: Counter[str] = Counter()
    lines: list[Row] = []
    async with Verifier(RewardSection(timeout_s=60.0)) as verifier:
        for row in [*jsonl_rows(str(file), "--rows")][:limit]:
            task = parse_row(row).task(row.where, "train")
            verdict = await verifier.verify(f"```python\n{task.solution}\n```", task)
            kind = "paid" if verdict.correct else "not paid" if verdict.kind == "scored" else verdict.kind
            kinds[kind] += 1
            if not verdict.correct:
                lines.append({"row": row.where, "outcome": kind, "reason": verdict.text[:200]})
    return iter([{"file": file.name, "rows": kinds.total(), **kinds}, *lines])


def measure(options: argparse.Namespace) -> Iterator[Row]:
    if problem := isolation_problem():
        yield {"skipped": problem}
        return
    found = asyncio.run(rates(options.rounds, options.programs))
    for name, values in found.items():
        yield {"what": name, "a second": statistics.median(values), "least": min(values), "most": max(values)}
    yield {"programs ÷ bare starts": median_ratio(found["programs"], found["bare starts"])}
    for package in options.packages:
        yield {"what": f"import of {package}", "seconds": sum(probed((package,)).imports_s.values())}
    for file in options.rows:
        yield from asyncio.run(judged(file, options.limit))


def goals(rows: list[Row]) -> list[Goal]:
    return [Goal.of(rows, "programs ÷ bare starts", least=0.8)]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--programs", type=int, default=40, help="of a round, and bare starts")
    parser.add_argument("--packages", nargs="*", default=["numpy"])
    parser.add_argument("--rows", nargs="*", type=Path, default=[], metavar="FILE")
    parser.add_argument("--limit", type=int, default=None, help="rows of each file")


main = Benchmark(
    __file__, __doc__, add_options, measure, small={"rounds": 1, "programs": 3, "packages": []}, goals=goals
).main

if __name__ == "__main__":
    sys.exit(main())
