r"""Do verdicts on answers agree with their labels, and how fast are they? Beside plain math-verify, on the same pairs.

Pairs are those of tests/data/answer_pairs*.jsonl: a gold answer, the end of a response, and whether it is to be
accepted. Ours is one worker process behind `pipeline.rewards.verifier.Verifier`, hand-over included; plain math-verify
is `verify(parse(gold), parse(text))` in a process of its own, its time-outs as they come, the gold answer in a
\boxed{…}. Rates are medians of rounds that take turns; both judge every pair in each round.

false equals  pairs labelled unequal that were accepted
misses        pairs labelled equal that were not

examples:
  python -m benchmarks.verification
  python -m benchmarks.verification --rounds 5 --list
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.machine import in_child, median_ratio
from benchmarks.script import Benchmark, Row

DATA = Path(__file__).resolve().parents[1] / "tests" / "data"


def labelled(every: int) -> list[dict[str, Any]]:
    """Every so many-th pair. Those that an English sentence alone decides, which ours does not read, are a category."""
    pairs = [
        json.loads(line)
        for file in sorted(DATA.glob("answer_pairs*.jsonl"))
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    english = {"category": "an English sentence alone"}
    return [pair | (english if pair.get("english") else {}) for pair in pairs[::every]]


def judged_by_us(every: int) -> dict[str, Any]:
    return asyncio.run(_judged_by_us(labelled(every)))


async def _judged_by_us(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    from pipeline.config.rollout import RewardSection
    from pipeline.rewards.verifier import Verifier
    from pipeline.types import Label, Problem, Task

    def task_of(gold: str) -> Task:
        return Task(problem=Problem(id="", text=""), label=Label(problem_id="", answer=gold))

    async with Verifier(RewardSection(scorer="math", num_workers=1)) as verifier:
        await verifier.verify("\\boxed{7}", task_of("7"))
        begin_s = time.perf_counter()
        verdicts = await asyncio.gather(*(verifier.verify(pair["text"], task_of(pair["gold"])) for pair in pairs))
        seconds = time.perf_counter() - begin_s
    return {
        "seconds": seconds,
        "accepted": [verdict.correct for verdict in verdicts],
        "num_failed": sum(verdict.kind in ("error", "timeout") for verdict in verdicts),
    }


def judged_by_math_verify(every: int) -> dict[str, Any]:
    from math_verify import parse, verify

    pairs = labelled(every)
    logging.disable(logging.CRITICAL)
    verify(parse("\\boxed{7}"), parse("\\boxed{7}"))
    begin_s = time.perf_counter()
    accepted = [bool(verify(parse(f"\\boxed{{{pair['gold']}}}"), parse(pair["text"]))) for pair in pairs]
    return {"seconds": time.perf_counter() - begin_s, "accepted": accepted, "num_failed": 0}


def agreement(pairs: list[dict[str, Any]], found: dict[str, list[bool]]) -> Iterator[Row]:
    """One row for each category and one for all: pairs, and what each verifier gets wrong of them."""
    categories = [*dict.fromkeys(pair["category"] for pair in pairs), "all"]
    for category in categories:
        mine = [number for number, pair in enumerate(pairs) if category in (pair["category"], "all")]
        row: Row = {
            "category": category,
            "equal": sum(pairs[number]["equal"] for number in mine),
            "unequal": sum(not pairs[number]["equal"] for number in mine),
        }
        for name, accepted in found.items():
            row[f"{name}: false equals"] = sum(accepted[number] and not pairs[number]["equal"] for number in mine)
            row[f"{name}: misses"] = sum(not accepted[number] and pairs[number]["equal"] for number in mine)
        yield row


def mistakes(pairs: list[dict[str, Any]], accepted: dict[str, list[bool]]) -> Iterator[Row]:
    for name, verdicts in accepted.items():
        for pair, verdict in zip(pairs, verdicts, strict=True):
            if verdict != pair["equal"]:
                kind = "false equal" if verdict else "miss"
                row = {"verifier": name, "mistake": kind, "category": pair["category"]}
                yield row | {"gold": repr(pair["gold"]), "text": repr(pair["text"])}


def measure(options: argparse.Namespace) -> Iterator[Row]:
    pairs = labelled(options.every)
    functions = {"ours": judged_by_us, "math-verify": judged_by_math_verify}
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in functions}
    for _ in range(options.rounds):
        for name, function in functions.items():
            rounds[name].append(in_child(f"verification:{function.__name__}", every=options.every))
    accepted = {name: results[-1]["accepted"] for name, results in rounds.items()}
    yield from agreement(pairs, accepted)
    rates = {name: [len(pairs) / one["seconds"] for one in results] for name, results in rounds.items()}
    for name, values in rates.items():
        yield {
            "verifier": name,
            "answers/s per core": statistics.median(values),
            "least": min(values),
            "most": max(values),
            "÷ math-verify": median_ratio(values, rates["math-verify"]),
            "without a verdict": rounds[name][-1]["num_failed"],
        }
    yield from mistakes(pairs, accepted if options.list else {"ours": accepted["ours"]})


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="judge each N-th pair only")
    parser.add_argument("--list", action="store_true", help="every pair that plain math-verify gets wrong, too")


main = Benchmark(__file__, __doc__, add_options, measure, small={"rounds": 1, "every": 60}).main

if __name__ == "__main__":
    sys.exit(main())
