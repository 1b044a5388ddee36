"""What the experience pool costs: reads, look-ups and writes beside the raw LanceDB calls that they need, in one run.

Reads: BM25 top-32 → exclusions and gamma → context rendered ÷ the same search through LanceDB; BM25 ids beside tantivy,
as it comes and without the words that our index leaves out; one problem's entries. Writes: batches of 32 ÷ raw `add`.
Growth: 1,000 appends of 32 with maintenance and with searches under way.

examples:
  python -m benchmarks.peers && python -m benchmarks.pool          # 10k, 100k and 500k entries; about ten minutes
  python -m benchmarks.pool --sizes 10000 --appends 200 --out pool.json
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.machine import in_child, seconds_of
from benchmarks.peers import PYTHON
from benchmarks.pool_texts import texts
from benchmarks.script import TANTIVY, Benchmark, Goal, Row
from pipeline.config import Config
from pipeline.config.experience import FeedbackSection
from pipeline.experience.contexts import messages_in
from pipeline.experience.pool import COLUMNS, Pool
from pipeline.experience.pool_schema import TABLE, schema, table_of
from pipeline.experience.retrieval import Retriever
from pipeline.experience.similarity import lexical
from pipeline.loop.writers import MAINTAIN_POOL_EVERY, pool_writer
from pipeline.runtime.stage_clock import StageClock
from pipeline.runtime.watchdog import Watchdog
from pipeline.storage.tables import SEARCHED, open_table
from pipeline.text import text_hash
from pipeline.types import Experience, Problem
from prompts.schemas import Lesson

NUM_CANDIDATES, BATCH, IN_FLIGHT = 32, 32, 64
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


async def reads(pool: Pool, ordered: Pool, num: int, num_queries: int) -> Row:
    """Medians over the same queries, raw and through the pool in turn; `ordered` is the same pool as a run with S = 0
    opens it."""
    from lancedb.query import MatchQuery

    config, settings = Config(), FeedbackSection(similarity_threshold=0.8)
    retriever = Retriever(pool, lexical, settings)
    ours, raw, ids, in_order, shown = [], [], [], [], 0

    def raw_search(text: str) -> None:
        query = MatchQuery(text, "problem_text")
        found = pool._table.search(query, query_type="fts").select([*COLUMNS, "_score"])
        found.limit(NUM_CANDIDATES).to_arrow()

    for number, text in enumerate(texts(num_queries, seed=1)):
        raw.append(seconds_of(raw_search, text))
        begin = time.perf_counter()
        problem = Problem(id=f"query-{number}", text=text)
        context = await retriever.context(problem)
        messages_in(problem, context, config)
        ours.append(time.perf_counter() - begin)
        shown += context.kind == "inter"
        ids.append(seconds_of(pool._reader.matching, text, "problem_text", ["id"], NUM_CANDIDATES))
        in_order.append(seconds_of(ordered.search, text, NUM_CANDIDATES))
    rng = random.Random(2)
    problem_ids = [f"p{rng.randrange(num // ENTRIES_PER_PROBLEM)}" for _ in range(num_queries)]
    ours_s, raw_s = statistics.median(ours), statistics.median(raw)
    return {
        "entries": num,
        "raw search, ms": 1000 * raw_s,
        "context, ms": 1000 * ours_s,
        "context ÷ raw": ours_s / raw_s,
        "in order, ms": 1000 * statistics.median(in_order),
        "with a lesson": shown / num_queries,
        "ids, ms": 1000 * statistics.median(ids),
        "of a problem, ms": 1000 * statistics.median(seconds_of(pool.of_problem, i) for i in problem_ids),
    }


def writes(num: int, num_batches: int) -> Row:
    """Batches of 32 entries into a pool of `num` and into a raw table of the same rows, in turn; both compacted
    alike."""
    with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as theirs:
        pool, raw = filled(Path(ours), num), filled(Path(theirs), num)
        problems = texts(num_batches * BATCH, seed=3)
        mine, its = [], []
        for first in range(0, len(problems), BATCH):
            batch = entries_of(problems[first : first + BATCH], 1_000_000 + first)
            mine.append(seconds_of(pool.add, batch))
            its.append(seconds_of(lambda rows: raw._table.add(table_of(rows)), batch))
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


async def growth(num: int, num_appends: int, num_queries: int) -> Row:
    """Appends of 32 through the writer, with 64 searches in flight beside it; afterwards searches in the grown pool and
    in one that was left alone, in turn."""
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
            [seconds_of(one.search, query, NUM_CANDIDATES) for one in (fresh_pool, pool)]
            for query in queries[:num_queries]
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


def tantivy(row: Row, options: argparse.Namespace) -> Row:
    """What tantivy takes for the same searches, beside the `row` of reads."""
    peer = in_child(
        "tantivy_peer:run",
        str(PYTHON),
        num=row["entries"],
        num_queries=options.queries,
        num_candidates=NUM_CANDIDATES,
    )
    return {
        "tantivy ids, ms": 1000 * peer["all_words_s"],
        "ids ÷ tantivy": row["ids, ms"] / 1000 / peer["all_words_s"],
        "tantivy without stop words, ms": 1000 * peer["without_stop_words_s"],
    }


def measure(options: argparse.Namespace) -> Iterator[Row]:
    if not options.only_growth:
        for num in options.sizes:
            with tempfile.TemporaryDirectory() as folder:
                pool = filled(Path(folder), num)
                row = asyncio.run(reads(pool, Pool(folder, ordered=True), num, options.queries))
            if num == options.tantivy_at and TANTIVY.name not in options.missing:
                row |= tantivy(row, options)
            yield row
        yield writes(options.written_to, options.batches)
    # The third size is for reads alone.
    size = options.sizes[:2][-1] if not options.only_growth else options.sizes[0]
    yield asyncio.run(growth(size, options.appends, options.queries))


def goals(rows: list[Row]) -> list[Goal]:
    look_ups = [row for row in rows if "of a problem, ms" in row]
    ratio = look_ups[-1]["of a problem, ms"] / look_ups[0]["of a problem, ms"] if len(look_ups) > 1 else None
    return [
        Goal.of(rows, "context ÷ raw", most=GOAL_READ),
        Goal.of(rows, "ids ÷ tantivy", most=GOAL_TANTIVY),
        Goal("look-up in the largest pool ÷ in the smallest", ratio, most=GOAL_LOOK_UP),
        Goal.of(rows, "pool ÷ raw", most=GOAL_WRITE),
        Goal.of(rows, "grown ÷ fresh", most=GOAL_GROWTH),
        Goal.of(rows, "longest write, s", most=GOAL_STALL_S),
        Goal.of(rows, "files", most=MAX_FILES),
        Goal.of(rows, "errors", most=0),
    ]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 500_000])
    parser.add_argument("--tantivy-at", type=int, default=100_000, help="the size at which tantivy is measured as well")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--batches", type=int, default=200, help="that are written one after the other")
    parser.add_argument("--written-to", type=int, default=10_000, help="entries of the pool that they are written to")
    parser.add_argument("--appends", type=int, default=1000, help="of the growth")
    parser.add_argument("--only-growth", action="store_true", help="appends beside searches, and nothing else")


SMALL = {"sizes": [1000], "tantivy_at": 1000, "queries": 4, "batches": 2, "written_to": 100, "appends": 2}
main = Benchmark(__file__, __doc__, add_options, measure, SMALL, goals, peers=[TANTIVY]).main

if __name__ == "__main__":
    sys.exit(main())
