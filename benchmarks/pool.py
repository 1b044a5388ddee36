"""What the experience pool costs: reads, look-ups and writes beside the raw LanceDB calls that they need, in one run.

Reads: BM25 top-32 → exclusions and gamma → context rendered ÷ the same search through LanceDB; BM25 ids beside tantivy, as it comes and
without the words that our index leaves out; one problem's entries.
Writes: batches of 32 ÷ raw `add`. Growth: 1,000 appends of 32 with maintenance and with searches under way.

examples:
  python -m benchmarks.peers && python -m benchmarks.pool          # 10k, 100k and 500k entries; about ten minutes
  python -m benchmarks.pool --sizes 10000 --appends 200 --out pool.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.machine import described, measured, table
from benchmarks.peers import PYTHON
from benchmarks.pool_texts import texts
from pipeline.config.experience import FeedbackSection
from pipeline.experience.contexts import messages_of, prompt_input
from pipeline.experience.pool import COLUMNS, Pool
from pipeline.experience.pool_schema import TABLE, schema, table_of
from pipeline.experience.retrieval import Retriever
from pipeline.experience.similarity import Lexical
from pipeline.loop.writers import MAINTAIN_POOL_EVERY, pool_writer
from pipeline.runtime.stage_clock import StageClock
from pipeline.runtime.watchdog import Watchdog
from pipeline.storage.tables import SEARCHED, open_table
from pipeline.text import text_hash
from pipeline.types import Experience, Problem
from prompts.schemas import Lesson

NUM_CANDIDATES, BATCH, NUM_QUERIES, IN_FLIGHT = 32, 32, 200, 64
ENTRIES_PER_PROBLEM = 4
GOAL_READ, GOAL_TANTIVY, GOAL_LOOK_UP, GOAL_WRITE, GOAL_GROWTH, GOAL_STALL_S = 1.2, 3.5, 2.0, 1.5, 1.5, 1.0
# Two minutes of versions, a file or three for each.
MAX_FILES = 6000


def entries_of(problems: list[str], first: int) -> list[Experience]:
    return [
        Experience(
            id=f"x-l0-{first + number:07d}",
            lesson=Lesson(
                flow_of_thought=f"Work from left to right, then check the result once more ({number % 997}).",
                principles=("Watch every sign.", "Name each quantity before you calculate."),
                pitfalls=("Losing a term halfway.",),
            ),
            problem_id=f"p{(first + number) // ENTRIES_PER_PROBLEM}",
            problem_text=text,
            problem_hash=text_hash(text),
            split="train",
            lineage=0,
            policy_version=1,
            step=number % 1000,
            reward=1.0,
            kind="scratch",
            rollout_id=f"l0-{first + number:07d}",
            created_s=float(first + number),
        )
        for number, text in enumerate(problems)
    ]


def filled(folder: Path, num: int) -> Pool:
    """A pool of `num` entries as it is after maintenance."""
    rows = open_table(folder, TABLE, schema(), SEARCHED)
    problems = texts(num)
    for first in range(0, num, 20_000):
        rows.add(table_of(entries_of(problems[first : first + 20_000], first)))
    pool = Pool(folder)
    pool.compact()
    return pool


def median_s(calls: list[Callable[[], Any]]) -> float:
    times = []
    for call in calls:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


async def reads(pool: Pool, ordered: Pool, num: int) -> dict[str, Any]:
    """Medians over the same queries, raw and through the pool in turn; `ordered` is the same pool as a run with S = 0 opens it."""
    from lancedb.query import MatchQuery

    settings = FeedbackSection(similarity_threshold=0.8)
    retriever = Retriever(pool, Lexical(), settings)
    rows, ours, raw, ids, in_order, shown = pool._table, [], [], [], [], 0
    for number, text in enumerate(texts(NUM_QUERIES, seed=1)):
        begin = time.perf_counter()
        found = rows.search(MatchQuery(text, "problem_text"), query_type="fts").select([*COLUMNS, "_score"])
        found.limit(NUM_CANDIDATES).to_arrow()
        raw.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        problem = Problem(id=f"query-{number}", text=text)
        context = await retriever.context(problem)
        messages_of(prompt_input(problem, context), "")
        ours.append(time.perf_counter() - begin)
        shown += context.kind == "inter"
        begin = time.perf_counter()
        pool._reader.matching(text, "problem_text", ["id"], NUM_CANDIDATES)
        ids.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        ordered.search(text, NUM_CANDIDATES)
        in_order.append(time.perf_counter() - begin)
    rng = random.Random(2)
    problem_ids = [f"p{rng.randrange(num // ENTRIES_PER_PROBLEM)}" for _ in range(NUM_QUERIES)]
    ours_s, raw_s = statistics.median(ours), statistics.median(raw)
    return {
        "entries": num,
        "raw search, ms": 1000 * raw_s,
        "context, ms": 1000 * ours_s,
        "context ÷ raw": ours_s / raw_s,
        "in order, ms": 1000 * statistics.median(in_order),
        "with a lesson": shown / NUM_QUERIES,
        "ids, ms": 1000 * statistics.median(ids),
        "of a problem, ms": 1000 * median_s([lambda i=i: pool.of_problem(i) for i in problem_ids]),  # type: ignore[misc]
    }


def writes(num_batches: int) -> dict[str, Any]:
    """Batches of 32 entries into a pool and into a raw table of the same rows, in turn; both compacted alike."""
    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as theirs:
        pool, raw = filled(Path(ours), 10_000), filled(Path(theirs), 10_000)
        problems = texts(num_batches * BATCH, seed=3)
        mine, its = [], []
        for first in range(0, len(problems), BATCH):
            batch = entries_of(problems[first : first + BATCH], 1_000_000 + first)
            begin = time.perf_counter()
            pool.add(batch)
            mine.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            raw._table.add(table_of(batch))
            its.append(time.perf_counter() - begin)
            if (first // BATCH + 1) % MAINTAIN_POOL_EVERY == 0:
                pool.compact()
                raw.compact()
    ours_s, raw_s = statistics.median(mine), statistics.median(its)
    return {
        "batches": num_batches,
        "pool, ms": 1000 * ours_s,
        "raw add, ms": 1000 * raw_s,
        "pool ÷ raw": ours_s / raw_s,
    }


async def growth(num: int, num_appends: int) -> dict[str, Any]:
    """Appends of 32 through the writer, with 64 searches in flight beside it; afterwards searches in the grown pool and in one
    that was left alone, in turn."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        pool = await asyncio.to_thread(filled, Path(folder), num)
        fresh_pool = await asyncio.to_thread(filled, Path(other), num)
        queries = texts(10_000, seed=4)
        writer = pool_writer(pool, StageClock(), Watchdog())
        writing = asyncio.create_task(writer.run())
        problems, stalls, latencies, errors = texts(num_appends * BATCH, seed=5), [], [], 0
        done = asyncio.Event()

        async def search(first: int) -> None:
            nonlocal errors
            number = first
            while not done.is_set():
                begin = time.perf_counter()
                try:
                    await asyncio.to_thread(pool.search, queries[number % len(queries)], NUM_CANDIDATES)
                except (OSError, RuntimeError):
                    errors += 1
                latencies.append(time.perf_counter() - begin)
                number += IN_FLIGHT

        async with asyncio.TaskGroup() as tasks:
            for first in range(IN_FLIGHT):
                tasks.create_task(search(first))
            for first in range(0, len(problems), BATCH):
                begin = time.perf_counter()
                await writer.write(entries_of(problems[first : first + BATCH], 2_000_000 + first))
                stalls.append(time.perf_counter() - begin)
            done.set()
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        both = [
            [median_s([lambda p=one, q=query: p.search(q, NUM_CANDIDATES)]) for one in (fresh_pool, pool)]  # type: ignore[misc]
            for query in queries[:NUM_QUERIES]
        ]
        fresh_s, grown_s = (statistics.median(times) for times in zip(*both, strict=True))
        latencies.sort()
        return {
            "entries": num,
            "appends": num_appends,
            "fresh p50, ms": 1000 * fresh_s,
            "grown p50, ms": 1000 * grown_s,
            "grown ÷ fresh": grown_s / fresh_s,
            "longest write, s": max(stalls),
            "files": sum(path.is_file() for path in Path(folder).rglob("*")),
            "searches beside": len(latencies),
            "errors": errors,
            "their p50, ms": 1000 * latencies[len(latencies) // 2],
            "their p99, ms": 1000 * latencies[int(0.99 * len(latencies))],
        }


def goals(read: list[dict[str, Any]], write: dict[str, Any], grown: dict[str, Any]) -> list[tuple[str, float, float]]:
    """What was asked: name, value, most."""
    rows = [(f"context ÷ raw at {row['entries']:,}", row["context ÷ raw"], GOAL_READ) for row in read]
    rows += [
        (f"ids ÷ tantivy at {r['entries']:,}", r["ids ÷ tantivy"], GOAL_TANTIVY) for r in read if "ids ÷ tantivy" in r
    ]
    if len(read) > 1:
        name = f"look-up at {read[-1]['entries']:,} ÷ at {read[0]['entries']:,}"
        rows.append((name, read[-1]["of a problem, ms"] / read[0]["of a problem, ms"], GOAL_LOOK_UP))
    rows.append(("write ÷ raw add", write["pool ÷ raw"], GOAL_WRITE))
    rows.append(("grown ÷ fresh", grown["grown ÷ fresh"], GOAL_GROWTH))
    rows.append(("longest write, s", grown["longest write, s"], GOAL_STALL_S))
    rows.append(("files", grown["files"], MAX_FILES))
    rows.append(("errors of searches", grown["errors"], 0))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pool", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 500_000])
    parser.add_argument("--tantivy-at", type=int, default=100_000, help="the size at which tantivy is asked as well")
    parser.add_argument("--appends", type=int, default=1000)
    parser.add_argument("--only-growth", action="store_true", help="appends beside searches, and nothing else")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the numbers as JSON")
    arguments = parser.parse_args()
    print(described(), flush=True)
    if arguments.only_growth:
        print(table([asyncio.run(growth(arguments.sizes[0], arguments.appends))]))
        return 0
    read = []
    for num in arguments.sizes:
        with tempfile.TemporaryDirectory() as folder:
            pool = filled(Path(folder), num)
            row = asyncio.run(reads(pool, Pool(folder, ordered=True), num))
        if num == arguments.tantivy_at and PYTHON.exists():
            peer = measured(
                "-m", "benchmarks.tantivy_peer", str(num), str(NUM_QUERIES), str(NUM_CANDIDATES), python=str(PYTHON)
            )
            row |= {
                "tantivy ids, ms": 1000 * peer["all_words_s"],
                "ids ÷ tantivy": row["ids, ms"] / 1000 / peer["all_words_s"],
                "tantivy without stop words, ms": 1000 * peer["without_stop_words_s"],
            }
        read.append(row)
        print(f"\n{table([row])}", flush=True)
    write = writes(200)
    print(f"\n{table([write])}", flush=True)
    grown = asyncio.run(
        growth(arguments.sizes[-1] if len(arguments.sizes) < 2 else arguments.sizes[1], arguments.appends)
    )
    print(f"\n{table([grown])}\n", flush=True)
    asked = goals(read, write, grown)
    for name, value, most in asked:
        print(f"goal: {name} ≤ {most:g}: {value:.3g} {'reached' if value <= most else 'MISSED'}")
    if arguments.out:
        found = {"reads": read, "writes": write, "growth": grown}
        arguments.out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0 if all(value <= most for _, value, most in asked) else 1


if __name__ == "__main__":
    sys.exit(main())
