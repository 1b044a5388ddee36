"""Columns of a pool, on a real LanceDB in a temporary folder."""

from __future__ import annotations

from pathlib import Path

from pipeline.config.experience import PoolSection
from pipeline.experience.pool import Pool
from pipeline.experience.pool_scan import PoolColumns
from tests.builders import experience


def filled(path: Path) -> Pool:
    """Three entries of problem p0, of which the oldest one was evicted, and one of each of seven others."""
    pool = Pool(path, PoolSection(max_entries_per_problem=2))
    pool.add([experience(number, problem_id="p0" if number < 3 else f"p{number}") for number in range(5)])
    pool.add([experience(number, problem_id=f"p{number}") for number in range(5, 10)])
    return pool


def test_columns_are_counted_without_what_is_gone(tmp_path: Path) -> None:
    pool = filled(tmp_path)
    columns = PoolColumns(tmp_path, pool.version)
    assert columns.num_entries() == 9
    assert columns.counts("kind") == {"scratch": 9}
    assert columns.num_and_most("problem_id") == (8, 2)
    assert columns.over("problem_id", 1) == [("p0", 2)]
    assert columns.bounds("created_s") == (1.0, 9.0)
    assert sorted(columns.rows("id", "step")) == [(f"x{number}", 1) for number in range(1, 10)]


def test_a_sample_is_of_entries_that_are_there_each_once_and_the_same_for_the_same_seed(tmp_path: Path) -> None:
    pool = filled(tmp_path)
    columns = PoolColumns(tmp_path, pool.version)
    stored = {entry.id: entry for entry in pool.entries()}
    seen = set()
    for seed in range(30):
        drawn = columns.sample(3, seed)
        assert len({entry.id for entry in drawn}) == 3
        assert all(stored[entry.id] == entry for entry in drawn)
        assert drawn == columns.sample(3, seed)
        seen |= {entry.id for entry in drawn}
    assert seen == set(stored)
    assert {entry.id for entry in columns.sample(50, 0)} == set(stored)


def test_the_version_is_kept_while_others_write(tmp_path: Path) -> None:
    pool = filled(tmp_path)
    columns = PoolColumns(tmp_path, pool.version)
    pool.add([experience(99, problem_id="p99")])
    assert columns.num_entries() == 9
    assert PoolColumns(tmp_path, pool.version).num_entries() == 10


def test_an_empty_pool_has_empty_columns(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    columns = PoolColumns(tmp_path, pool.version)
    assert columns.counts("family") == {}
    assert columns.num_and_most("problem_id") == (0, 0)
    assert columns.bounds("step") == (None, None)
    assert columns.sample(5, 0) == []
