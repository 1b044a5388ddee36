"""What journal and pool cost in an object store beside a folder: the same calls, alternately, in one process.

Without `--at` the object store is the tests' server (moto, on loopback, one Python process): that is no S3, and shows
the requests that a call makes more than the time that they take. `--at` names a real one; its endpoint and credentials
are read from the environment.

examples:
  python -m benchmarks.object_store
  AWS_REGION=eu-central-1 python -m benchmarks.object_store --at s3://bucket/prefix
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest import mock

from benchmarks.machine import seconds_of
from benchmarks.pool import entries_of
from benchmarks.script import Benchmark, Row
from pipeline.experience.pool import Pool
from pipeline.run.lineage import Lineage
from pipeline.storage.journal import Journal
from pipeline.types import Context, Problem, Rollout, RolloutGroup, Verdict, WeightVersion

BATCH, NUM_TOKENS, GROUP_SIZE = 32, 200, 8
QUERY = "How many apples has she after buying more?"


@contextmanager
def tests_server() -> Iterator[str]:
    """URI of a bucket there; its address and keys are in the environment."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.s3_server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        uri, *settings = process.stdout.readline().split()
        environment = {name: value for name, _, value in (setting.partition("=") for setting in settings)}
        with mock.patch.dict(os.environ, environment):
            yield uri
        process.stdin.close()


def groups(step: int) -> list[RolloutGroup]:
    """A step's groups with the tokens of real ones."""
    weights = WeightVersion(lineage=0, step=step)
    verdict = Verdict(kind="scored", score=1.0, correct=True, answer="12")
    ids, logprobs = tuple(range(1000, 1000 + NUM_TOKENS)), tuple(-0.1 - i / 1000 for i in range(NUM_TOKENS))
    return [
        RolloutGroup(
            id=f"l0-{step:06d}-{slot:04d}",
            lineage=0,
            step=step,
            slot=slot,
            problem=Problem(id=f"p{slot}", text=QUERY),
            context=Context(),
            prompt_ids=ids[:50],
            rollouts=tuple(
                Rollout(
                    id=f"l0-{step:06d}-{slot:04d}-{index:03d}",
                    text="so it is 12. " * 30,
                    token_ids=ids,
                    logprobs=logprobs,
                    finish_reason="stop",
                    reward=1.0,
                    verdict=verdict,
                    oldest_version=weights,
                    newest_version=weights,
                )
                for index in range(GROUP_SIZE)
            ),
            pool_version=1,
            created_s=0.0,
        )
        for slot in range(BATCH)
    ]


class Calls:
    """What a run does to its store, call by call."""

    def __init__(self, store: str) -> None:
        self._journal, self._reader, self._pool = Journal(store), Journal(store), Pool(store)
        self._step = 0

    def append(self) -> None:
        self._journal.append(groups(self._step))

    def read(self) -> None:
        assert len(self._reader.read_step(self._step, [Lineage(number=0, start_step=0)])) == BATCH

    def add(self) -> None:
        first = self._step * BATCH
        self._pool.add(entries_of([f"{QUERY} {number}" for number in range(first, first + BATCH)], first))

    def search(self) -> None:
        assert len(self._pool.search(QUERY, BATCH)) == BATCH
        self._step += 1

    def maintain(self) -> None:
        self._journal.compact()
        self._pool.compact()


NAMES: dict[str, Callable[[Calls], None]] = {
    "journal: append 32 groups": Calls.append,
    "journal: another reader reads them": Calls.read,
    "pool: add 32 entries": Calls.add,
    "pool: search 32": Calls.search,
}


def compare(uri: str, rounds: int) -> Iterator[Row]:
    seconds: dict[str, list[list[float]]] = {name: [[], []] for name in NAMES}
    with tempfile.TemporaryDirectory() as folder:
        places = [Calls(str(Path(folder))), Calls(f"{uri.rstrip('/')}/benchmark-{uuid.uuid4().hex[:8]}")]
        for number in range(rounds):
            for place, calls in enumerate(places):
                for name, call in NAMES.items():
                    seconds[name][place].append(seconds_of(call, calls))
                if number % 16 == 15:
                    calls.maintain()
    for name, (local, stored) in seconds.items():
        here, there = statistics.median(local), statistics.median(stored)
        yield {
            "call": name,
            "folder, ms": 1000 * here,
            "object store, ms": 1000 * there,
            "ratio": there / here,
            "slowest, ms": 1000 * max(stored),
        }


def measure(options: argparse.Namespace) -> Iterator[Row]:
    with nullcontext(options.at) if options.at else tests_server() as uri:
        yield from compare(uri, options.rounds)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--at", default="", metavar="URI", help="an object store, as s3://bucket/prefix; default: the tests' server"
    )
    parser.add_argument("--rounds", type=int, default=48)


main = Benchmark(__file__, __doc__, add_options, measure, small={"rounds": 2}).main

if __name__ == "__main__":
    sys.exit(main())
