r"""Do verdicts on answers agree with their labels, and how fast are they? Beside plain math-verify, on the same pairs.

Pairs are those of tests/data/answer_pairs*.jsonl: a gold answer, the end of a response, and whether it is to be accepted.
Ours is one worker process behind `pipeline.rewards.verifier.Verifier`, hand-over included; plain math-verify is
`verify(parse(gold), parse(text))` in a process of its own, its time-outs as they come, the gold answer in a \boxed{…}.
Rates are medians of rounds that take turns; both judge every pair in each round.

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
from pathlib import Path
from typing import Any

from benchmarks.machine import described, measured, table

DATA = Path(__file__).resolve().parents[1] / "tests" / "data"


def labelled() -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for file in sorted(DATA.glob("answer_pairs*.jsonl"))
        for line in file.read_text(encoding="utf-8").splitlines()
    ]


async def judged_by_us(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    from pipeline.config.rollout import RewardSection
    from pipeline.rewards.verifier import Verifier
    from pipeline.types import Label

    async with Verifier(RewardSection(scorer="math", num_workers=1)) as verifier:
        await verifier.verify("\\boxed{7}", Label(problem_id="", answer="7"))
        begin_s = time.perf_counter()
        verdicts = await asyncio.gather(
            *(verifier.verify(pair["text"], Label(problem_id="", answer=pair["gold"])) for pair in pairs)
        )
        seconds = time.perf_counter() - begin_s
    return {
        "seconds": seconds,
        "accepted": [verdict.correct for verdict in verdicts],
        "num_failed": sum(verdict.kind in ("error", "timeout") for verdict in verdicts),
    }


def judged_by_math_verify(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)
    verify(parse("\\boxed{7}"), parse("\\boxed{7}"))
    begin_s = time.perf_counter()
    accepted = [bool(verify(parse(f"\\boxed{{{pair['gold']}}}"), parse(pair["text"]))) for pair in pairs]
    return {"seconds": time.perf_counter() - begin_s, "accepted": accepted, "num_failed": 0}


def agreement(pairs: list[dict[str, Any]], found: dict[str, list[bool]]) -> list[dict[str, Any]]:
    """One row for each category and one for all: pairs, and what each verifier gets wrong of them."""
    categories = [*dict.fromkeys(pair["category"] for pair in pairs), "all"]
    rows = []
    for category in categories:
        mine = [number for number, pair in enumerate(pairs) if category in (pair["category"], "all")]
        row: dict[str, Any] = {
            "category": category,
            "equal": sum(pairs[number]["equal"] for number in mine),
            "unequal": sum(not pairs[number]["equal"] for number in mine),
        }
        for name, accepted in found.items():
            row[f"{name}: false equals"] = sum(accepted[number] and not pairs[number]["equal"] for number in mine)
            row[f"{name}: misses"] = sum(not accepted[number] and pairs[number]["equal"] for number in mine)
        rows.append(row)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.verification",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--list", action="store_true", help="every pair that plain math-verify gets wrong, too")
    parser.add_argument("--child", choices=("ours", "math-verify"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    pairs = labelled()
    if arguments.child:
        found = asyncio.run(judged_by_us(pairs)) if arguments.child == "ours" else judged_by_math_verify(pairs)
        print(json.dumps(found))
        return 0
    rounds: dict[str, list[dict[str, Any]]] = {"ours": [], "math-verify": []}
    for _ in range(arguments.rounds):
        for name, results in rounds.items():
            results.append(measured("-m", "benchmarks.verification", "--child", name))
    accepted = {name: results[-1]["accepted"] for name, results in rounds.items()}
    rates = {name: [len(pairs) / one["seconds"] for one in results] for name, results in rounds.items()}
    ratios = [ours / plain for ours, plain in zip(rates["ours"], rates["math-verify"], strict=True)]
    print(f"{described()}\n\n{len(pairs)} pairs; {rounds['ours'][-1]['num_failed']} without a verdict of ours\n")
    print(table(agreement(pairs, accepted)) + "\n")
    speeds = [
        {"verifier": name, "answers/s per core": statistics.median(values), "least": min(values), "most": max(values)}
        for name, values in rates.items()
    ]
    print(
        f"{table(speeds)}\n\nours ÷ math-verify: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})\n"
    )
    for name in accepted if arguments.list else ["ours"]:
        for pair, says in zip(pairs, accepted[name], strict=True):
            if says != pair["equal"]:
                print(
                    f"{name}: {'false equal' if says else 'miss'}, {pair['category']}: {pair['gold']!r} and {pair['text']!r}"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
