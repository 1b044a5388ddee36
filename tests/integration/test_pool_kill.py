"""Promise 1, for the pool: what its writer acknowledged is there after a SIGKILL at any moment, once, and in order."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from pipeline.config.experience import PoolSection
from pipeline.experience.pool import Pool
from pipeline.experience.pool_integrity import entry_faults
from tests.integration.pool_child import MAX_ENTRIES


@pytest.mark.parametrize("num_kills", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_what_the_pool_acknowledged_survives_a_kill_of_its_writer(
    tmp_path: Path, repository: Path, num_kills: int
) -> None:
    rng = random.Random(1)
    acknowledged: list[int] = []
    num_lost = 0
    for kill in range(num_kills):
        command = [sys.executable, "-m", "tests.integration.pool_child", str(tmp_path / "store"), str(10_000 * kill)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=repository)
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(rng.uniform(0.0, 1.0))
        process.send_signal(signal.SIGKILL)
        # A last line that was cut short was not read by anyone.
        lines = [first, *process.stdout]
        reported = [int(word[1:]) for line in lines if line.endswith("\n") for word in line.split()]
        process.wait()
        assert first, "the child began to write"
        acknowledged += reported
        pool = Pool(tmp_path / "store", PoolSection(max_entries_per_problem=MAX_ENTRIES))
        entries = list(pool.entries())
        assert max(Counter(entry.id for entry in entries).values()) == 1
        # The cap lets the newest of a problem stay, those among them that were stored but not yet acknowledged too.
        kept = {int(entry.id[1:]) for entry in entries}
        problems: dict[int, set[int]] = {}
        for number in {*acknowledged, *kept}:
            problems.setdefault(number // 6, set()).add(number)
        expected = {number for numbers in problems.values() for number in sorted(numbers)[-MAX_ENTRIES:]}
        num_lost += len(expected & set(acknowledged) - kept)
        pool.compact()
        assert pool.num_unindexed() == 0
        left = list(pool.entries())
        assert [words for entry in left for words in entry_faults(entry, heldout=(), answers={})] == []
        assert max(Counter(entry.problem_id for entry in left).values()) <= MAX_ENTRIES, (
            "what was over the cap when it was killed goes at the next change"
        )
        if reported and reported[0] == 0:
            assert "here" in pool.pins
    assert num_lost == 0
    print(f"{num_kills} kills, {len(acknowledged)} acknowledged entries, {num_lost} lost")
