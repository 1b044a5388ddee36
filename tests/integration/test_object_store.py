"""Journal and pool in an object store: moto's S3 server on loopback, with conditional puts made atomic
(`tests/s3_server.py`)."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.config.experience import PoolSection
from pipeline.errors import DataError, StoreError
from pipeline.experience.pool import Pool
from pipeline.run.lineage import Lineage
from pipeline.storage.journal import Journal
from pipeline.storage.object_store import WORKING
from tests.builders import experience, group

if TYPE_CHECKING:
    from tests.s3_server import S3Server

ONE = [Lineage(number=0, start_step=0)]


def objects(server: S3Server, store: str, part: str = "") -> list[str]:
    bucket, _, prefix = store.removeprefix("s3://").partition("/")
    pages = server.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [item["Key"] for page in pages for item in page.get("Contents", []) if part in item["Key"]]


def child(repository: Path, kind: str, store: str, first: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.integration.store_child", kind, store, str(first)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=repository,
    )


def test_groups_come_back_to_a_reader_that_was_there_before_them(s3: str) -> None:
    journal, reader = Journal(f"{s3}/run"), Journal(f"{s3}/run")
    for step in range(3):
        journal.append([group(step=step, slot=slot, oldest=step) for slot in (1, 0)])
        assert reader.read_step(step, ONE) == [group(step=step, slot=slot, oldest=step) for slot in (0, 1)]
    journal.compact()
    assert [len(reader.read_step(step, ONE)) for step in range(3)] == [2, 2, 2]
    assert reader.num_groups() == 6


def test_a_compaction_leaves_few_objects_and_what_a_writer_adds_meanwhile(
    s3: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.storage.journal.KEEP_VERSIONS", timedelta(0))
    journal, num_written, done = Journal(f"{s3}/run"), 0, threading.Event()

    def write() -> None:
        nonlocal num_written
        while not done.is_set():
            journal.append([group(step=num_written)])
            num_written += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(2):
            before = num_written
            while writer.is_alive() and num_written < before + 8:
                writer.join(0.01)
            journal.compact()
    finally:
        done.set()
        writer.join()
    before = len(objects(s3_server, s3))
    journal.compact()
    assert journal.num_groups() == num_written >= 16
    assert {len(journal.read_step(step, ONE)) for step in range(num_written)} == {1}
    assert len(objects(s3_server, s3, "/data/")) <= 2, "files of one group each were merged, and the old ones removed"
    assert len(objects(s3_server, s3, "/_versions/")) <= 3
    assert len(objects(s3_server, s3)) < before


@pytest.mark.parametrize("num_kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_what_the_journal_acknowledged_survives_a_kill_of_its_writer(s3: str, repository: Path, num_kills: int) -> None:
    rng, acknowledged = random.Random(3), list[int]()
    reader = Journal(f"{s3}/run")
    for kill in range(num_kills):
        process = child(repository, "journal", f"{s3}/run", 1000 * kill)
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        time.sleep(rng.uniform(0.0, 0.6))
        process.kill()
        lines += process.stdout.readlines()
        process.communicate()
        acknowledged += [int(line) for line in lines if line.endswith("\n")]
        found = {step for step in acknowledged if len(reader.read_step(step, ONE)) == 1}
        assert found == set(acknowledged)
        assert 1000 * kill in found, "the child began to write"
    assert reader.num_groups() - len(acknowledged) <= num_kills, "at most the one that was under way came on top"


def test_a_commit_whose_answer_was_lost_is_there_once(s3: str, s3_server: S3Server) -> None:
    """S3 may have done what it then answers with a 500, and the client asks again: its own object is in its way."""
    journal, pool = Journal(f"{s3}/run"), Pool(f"{s3}/run")
    num_lost = Counter[str]()

    def lose_the_first(method: str, path: str) -> str | None:
        table = "journal" if "journal" in path else "pool"
        if method == "PUT" and "/_versions/" in path and not num_lost[table]:
            num_lost[table] += 1
            return "lost"
        return None

    with s3_server.failing(lose_the_first):
        journal.append([group(step=1)])
        pool.add([experience(1)])
    assert num_lost == {"journal": 1, "pool": 1}
    assert (journal.num_groups(), pool.num_entries()) == (1, 1)


def test_a_store_that_is_busy_for_a_while_is_waited_for(s3: str, s3_server: S3Server) -> None:
    journal, num_refused = Journal(f"{s3}/run"), 0

    def busy(method: str, path: str) -> str | None:
        nonlocal num_refused
        if method != "PUT" or num_refused >= 5:
            return None
        num_refused += 1
        return "busy"

    with s3_server.failing(busy):
        journal.append([group(step=1)])
    assert num_refused == 5
    assert journal.num_groups() == 1


def test_a_store_that_is_gone_ends_a_run_by_name(s3: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WORKING, "client_max_retries", "0")
    journal, pool = Journal(f"{s3}/run"), Pool(f"{s3}/run")
    pool.add([experience(1)])
    calls: list[Callable[[], object]] = [
        lambda: journal.append([group()]),
        lambda: journal.read_step(0, ONE),
        journal.compact,
        lambda: pool.add([experience(2)]),
        lambda: pool.pin("x"),
        pool.compact,
        lambda: Journal(f"{s3}/run"),
    ]
    with s3_server.failing(lambda method, path: "down"):
        for call in calls:
            with pytest.raises(StoreError, match=rf"run.store: {s3}/run at .*: it does not answer; .*train --resume"):
                call()
    journal.append([group()])
    pool.add([experience(2)])
    assert (journal.num_groups(), pool.num_entries()) == (1, 2)


def test_the_pool_finds_pins_returns_and_keeps_its_cap(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.experience.pool.KEEP_VERSIONS", timedelta(0))
    pool = Pool(f"{s3}/run", PoolSection(max_entries_per_problem=2), ordered=True)
    pool.add([experience(1, problem_id="legs", text="How many legs has a spider?"), experience(2, problem_id="sum")])
    best = pool.search("legs of a spider", 4)
    assert [candidate.id for candidate in best] == ["x1"]
    version = pool.pin("then")
    pool.add([experience(number, problem_id="sum") for number in (3, 4, 5)])
    assert [entry.id for entry in pool.of_problem("sum")] == ["x4", "x5"]
    assert pool.get("x4") == experience(4, problem_id="sum")
    pool.compact()
    assert pool.num_unindexed() == 0
    assert {candidate.id for candidate in pool.search("What is 4 + 3?", 9)} == {"x4", "x5"}
    then = Pool(f"{s3}/run", version="then")
    assert (then.version, sorted(entry.id for entry in then.entries())) == (version, ["x1", "x2"])
    with pytest.raises(DataError, match="read-only"):
        then.add([experience(9)])
    pool.restore(pool.pins["then"])
    assert sorted(entry.id for entry in Pool(f"{s3}/run").entries()) == ["x1", "x2"]
    pool.unpin("then")
    assert pool.pins == {}
    assert pool.size()[0] >= 1


@pytest.mark.parametrize("num", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_two_processes_that_add_one_new_entry_at_once_make_one_row(s3: str, repository: Path, num: int) -> None:
    """There is no lock to take turns by: Lance refuses a merge when another one inserted the same primary key since it
    looked."""
    Pool(f"{s3}/run")
    processes = [child(repository, "pool", f"{s3}/run") for _ in range(2)]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for number in range(num):
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(f"{number}\n")
                process.stdin.flush()
            for process in processes:
                assert process.stdout is not None
                assert process.stdout.readline() == f"{number}\n"
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    ids = Counter(entry.id for entry in Pool(f"{s3}/run").entries())
    assert ids == {f"x{number}": 1 for number in range(num)}


def test_two_pools_that_write_at_once_keep_the_cap(s3: str) -> None:
    pools = [Pool(f"{s3}/run", PoolSection(max_entries_per_problem=2)) for _ in range(2)]

    def add(pool: Pool, first: int) -> None:
        for number in range(first, 12, 2):
            pool.add([experience(number)])

    threads = [threading.Thread(target=add, args=(pool, first)) for first, pool in enumerate(pools)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pools[0].add([experience(12)])
    assert sorted(entry.id for entry in Pool(f"{s3}/run").entries()) == ["x11", "x12"]
