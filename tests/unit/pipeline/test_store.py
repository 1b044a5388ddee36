"""Journal and pool on a real LanceDB in a temporary folder."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.errors import DataError, DiskFullError
from pipeline.journal import Journal
from pipeline.pool import Pool
from pipeline.records import Experience, text_hash
from pipeline.run import Lineage
from prompts.schemas import Lesson
from tests.builders import group

ONE = [Lineage(number=0, start_step=0)]


def experience(number: int, problem_id: str = "p", text: str = "What is 4 + 3?") -> Experience:
    return Experience(
        id=f"x{number}",
        lesson=Lesson(flow_of_thought=f"idea {number}", principles=("p",)),
        problem_id=problem_id,
        problem_text=text,
        problem_hash=text_hash(text),
        split="train",
        lineage=0,
        policy_version=1,
        step=1,
        reward=1.0,
        kind="scratch",
        rollout_id="r",
        created_s=float(number),
    )


def test_groups_come_back_as_they_were_by_slot_and_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([group(step=0, slot=slot) for slot in (2, 0, 1)])
    journal.append([group(step=1, slot=0, oldest=1)])
    read = Journal(tmp_path).read_step(0, ONE)
    assert read == [group(step=0, slot=slot) for slot in (0, 1, 2)]
    assert journal.num_groups() == 4


def test_more_groups_than_a_default_limit_are_all_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([group(slot=slot) for slot in range(300)])
    assert len(journal.read_step(0, ONE)) == 300


def test_a_compaction_leaves_full_files_alone_so_that_what_it_writes_does_not_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.store.ROWS_PER_FILE", 8)
    monkeypatch.setattr("pipeline.journal.KEEP_VERSIONS", timedelta(0))
    journal = Journal(tmp_path)
    full: set[Path] = set()
    for step in range(4):
        for slot in range(16):
            journal.append([group(step=step, slot=slot)])
        journal.compact()
        files = set(tmp_path.rglob("data/*.lance"))
        assert files > full, "a file that was full is still there"
        assert len(files - full) <= 2
        full = files
    assert [len(journal.read_step(step, ONE)) for step in range(4)] == [16] * 4
    assert {index.num_unindexed_rows for index in journal._table.list_indices()} == {0}


def test_an_abandoned_group_is_not_read_and_its_successor_is(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([group(step=6, slot=0, oldest=6), group(step=6, slot=1, oldest=5)])
    resumed = [*ONE, Lineage(number=1, start_step=5)]
    assert [g.slot for g in journal.read_step(6, resumed)] == [1], "sampled by weights newer than the checkpoint"
    journal.append([group(step=6, slot=0, lineage=1, oldest=6)])
    assert [(g.slot, g.lineage) for g in journal.read_step(6, resumed)] == [(0, 1), (1, 0)]


def test_attempts_hold_texts_and_ids_only(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([group(rewards=(1.0, 0.0), problem_id="it's")])
    attempts = journal.attempts("it's", ONE)
    assert len(attempts) == 2
    assert set(attempts[0].model_dump()) == {"problem_id", "text", "rollout_id"}
    assert len(journal.attempts("it's", ONE, failed_only=True)) == 1
    assert journal.attempts("unknown", ONE) == []


def test_the_pool_version_of_a_step_is_known_after_a_restart(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([group(step=3, pool_version=7)])
    assert journal.pool_version_at(3, ONE) == 7
    assert journal.pool_version_at(4, ONE) is None


def test_the_oldest_entries_of_a_problem_go_first(tmp_path: Path) -> None:
    pool = Pool(tmp_path, max_entries_per_problem=3)
    pool.add([experience(number) for number in (5, 1, 4, 2, 3)])
    pool.add([experience(9, problem_id="other")])
    found = {candidate.id for candidate in pool.search("What is 4 + 3?", 32)}
    assert found == {"x3", "x4", "x5", "x9"}


def test_a_search_ranks_by_the_text_and_yields_no_reward(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 32)
    assert pool.search("anything", 4) == []
    pool.add([experience(1, text="How many legs has a spider?"), experience(2, text="What is 4 + 3?")])
    best = pool.search("legs of a spider", 4)
    assert best[0].id == "x1"
    assert "reward" not in best[0].model_dump()


def test_text_that_looks_like_a_query_is_only_text(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 32)
    pool.add([experience(1)])
    assert [c.id for c in pool.search('4 AND ("3" OR problem_text:*) + - ? \\', 4)] in ([], ["x1"])


def test_a_held_out_entry_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="held out"):
        Pool(tmp_path, 32).add([experience(1).model_copy(update={"split": "heldout"})])


def test_the_pool_returns_to_an_earlier_version(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 32)
    pool.add([experience(1)])
    version = pool.version
    pool.add([experience(2), experience(3)])
    pool.restore(version)
    assert pool.num_entries() == 1
    pool.add([experience(4)])
    assert Pool(tmp_path, 32).num_entries() == 2


def test_concurrent_upserts_of_one_key_make_one_row(tmp_path: Path) -> None:
    pools = [Pool(tmp_path, 32), Pool(tmp_path, 32)]
    for number in range(10):
        threads = [threading.Thread(target=pool.add, args=([experience(number)],)) for pool in pools]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert Pool(tmp_path, 32).num_entries() == 10


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)

    class Full:
        def add(self, rows: object) -> None:
            raise RuntimeError("LanceError(IO): No space left on device (os error 28)")

    monkeypatch.setattr(journal, "_table", Full())
    with pytest.raises(DiskFullError, match="is full: make room"):
        journal.append([group()])
