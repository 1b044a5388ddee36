"""What a resume makes of the pool: that of the step where it begins, however often it comes back there."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.experience.pool import Pool
from pipeline.experience.pool_snapshots import keep, rollback
from tests.builders import experience


def lessons(folder: Path) -> list[int]:
    return sorted(int(entry.id[1:]) for entry in Pool(folder).entries())


def begin(pool: Pool, step: int) -> None:
    pool.pin(f"step-{step:06d}")


def test_the_pool_returns_to_a_step_again_after_the_version_that_it_had_first_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step has begun with another version since, and maintenance removed the first one."""
    monkeypatch.setattr("pipeline.experience.pool.KEEP_VERSIONS", timedelta(0))
    pool = Pool(tmp_path)
    pool.add([experience(1)])
    begin(pool, 2)
    for number in range(2, 5):
        pool.add([experience(number)])
        rollback(pool := Pool(tmp_path), 2)
        assert lessons(tmp_path) == [1]
        begin(pool, 2)
        pool.add([experience(10 + number)])
        pool.compact()


def test_a_step_that_has_not_begun_undoes_nothing(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    begin(pool, 1)
    pool.add([experience(1)])
    version = pool.version
    rollback(pool, 2)
    assert pool.version == version
    assert lessons(tmp_path) == [1]


def test_the_pool_of_an_abandoned_lineage_does_not_come_back(tmp_path: Path) -> None:
    """Step 4 had begun when the run went back to step 2; the next death is after step 3, before step 4 begins again."""
    pool = Pool(tmp_path)
    for step in range(2, 5):
        begin(pool, step)
        pool.add([experience(step)])
    rollback(pool, 2)
    for step in (2, 3):
        begin(pool, step)
        pool.add([experience(10 + step)])
    rollback(pool, 4)
    assert lessons(tmp_path) == [12, 13]


def test_a_run_that_begins_again_because_every_checkpoint_is_torn_keeps_only_what_was_imported(tmp_path: Path) -> None:
    """The start's name was let go of when a later checkpoint would do."""
    pool = Pool(tmp_path)
    for step in range(4):
        keep(pool, step, oldest=max(0, step - 1))
        pool.add([experience(step)])
    pool.import_entries([experience(9, problem_id="foreign")])
    rollback(pool, 0)
    assert [entry.is_imported for entry in Pool(tmp_path).entries()] == [True]
    assert pool.pins == {}
