"""The journal on a real LanceDB in a temporary folder."""

from __future__ import annotations

import random
import threading
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from lance.optimize import Compaction

from pipeline.config.experience import ReflectionSection
from pipeline.errors import DataError, DiskError
from pipeline.experience.usefulness import usefulness_in
from pipeline.run.lineage import Lineage
from pipeline.storage.journal import INDEXED, TABLE, GroupResult, Journal, schema
from pipeline.storage.maintenance import MERGE
from pipeline.types import Attempt, Context, RolloutGroup
from tests.builders import group, tear_index

ONE = [Lineage(number=0, start_step=0)]


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
    monkeypatch.setitem(MERGE, "target_rows_per_fragment", 8)
    monkeypatch.setattr("pipeline.storage.journal.KEEP_VERSIONS", timedelta(0))
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


def test_a_compaction_gets_its_turn_beside_a_writer_that_never_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one it loses every race for the next version to such a writer, and Lance gives up after 30 s."""
    journal, done, num_written = Journal(tmp_path), threading.Event(), 0
    versions: list[int] = []

    class Watched:
        plan = Compaction.plan

        @staticmethod
        def commit(dataset: Any, *arguments: Any) -> Any:
            before = dataset.latest_version
            metrics = Compaction.commit(dataset, *arguments)
            versions.append(dataset.version - before)
            return metrics

    monkeypatch.setattr("lance.optimize.Compaction", Watched)

    def write() -> None:
        nonlocal num_written
        while not done.is_set():
            journal.append([group(step=num_written // 64, slot=num_written % 64)])
            num_written += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for num_compacted in range(3):
            while writer.is_alive() and num_written < 64 * (num_compacted + 1):
                writer.join(0.01)
            journal.compact()
    finally:
        done.set()
        writer.join()
    assert versions == [2] * 3, "numbers reserved and files swapped; nothing else was committed meanwhile"
    assert journal.num_groups() == num_written
    journal.compact()
    assert len(journal.read_step(1, ONE)) == 64
    assert {index.num_unindexed_rows for index in journal._table.list_indices()} == {0}


def test_an_abandoned_group_is_not_read_and_its_successor_is(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([group(step=6, slot=0, oldest=6), group(step=6, slot=1, oldest=5)])
    resumed = [*ONE, Lineage(number=1, start_step=5)]
    assert [g.slot for g in journal.read_step(6, resumed)] == [1], "sampled by weights newer than the checkpoint"
    journal.append([group(step=6, slot=0, lineage=1, oldest=6)])
    assert [(g.slot, g.lineage) for g in journal.read_step(6, resumed)] == [(0, 1), (1, 0)]


def test_of_a_pair_both_halves_survive_or_none(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([group(step=6, slot=slot, oldest=5 + (slot == 1), pair=slot - slot % 2) for slot in range(4)])
    resumed = [*ONE, Lineage(number=1, start_step=5)]
    assert [g.slot for g in journal.read_step(6, ONE)] == [0, 1, 2, 3]
    assert [g.slot for g in journal.read_step(6, resumed)] == [2, 3], "newer weights had sampled the half in slot 1"
    journal.append([group(step=6, slot=slot, lineage=1, oldest=6, pair=0, problem_id="other") for slot in (0, 1)])
    read = journal.read_step(6, resumed)
    assert [(g.slot, g.lineage) for g in read] == [(0, 1), (1, 1), (2, 0), (3, 0)]
    assert read[0].problem.id == read[1].problem.id == "other"


def test_what_a_fork_samples_again_is_neither_shown_nor_counted(tmp_path: Path) -> None:
    """The other run had sampled the step ahead, by weights that the fork begins with."""
    journal = Journal(tmp_path)
    journal.append([group(step=4, oldest=4), group(step=5, oldest=5)])
    fork = [*ONE, Lineage(number=1, start_step=5, fresh=True)]
    assert journal.read_step(5, fork) == []
    assert [outcome.step for outcome in journal.outcomes(fork)] == [4]
    assert {journal.attempt("p", fork, random.Random(seed)).rollout_id[:9] for seed in range(9)} == {"l0-000004"}  # type: ignore[union-attr]


def test_an_attempt_holds_text_and_ids_only_and_is_any_of_the_surviving_ones(tmp_path: Path) -> None:
    journal, rng = Journal(tmp_path), random.Random(0)
    journal.append([group(rewards=(1.0, 0.0), problem_id="it's"), group(step=6, oldest=6, problem_id="it's")])
    resumed = [*ONE, Lineage(number=1, start_step=5)]

    def drawn(lineages: list[Lineage], *, failed_only: bool = False) -> set[str]:
        attempts = [journal.attempt("it's", lineages, rng, failed_only=failed_only) for _ in range(40)]
        return {attempt.rollout_id for attempt in attempts if attempt}

    first, second = [[rollout.id for rollout in group(step=step).rollouts] for step in (0, 6)]
    assert drawn(ONE) == {*first, *second}
    assert drawn(resumed) == set(first)
    assert drawn(resumed, failed_only=True) == {first[1]}
    attempt = journal.attempt("it's", ONE, rng)
    assert attempt and set(attempt.model_dump()) == {"problem_id", "text", "rollout_id", "policy_step"}
    assert journal.attempt("unknown", ONE, rng) is None


def test_attempts_of_recent_policies_are_preferred(tmp_path: Path) -> None:
    journal, rng = Journal(tmp_path), random.Random(0)
    journal.append([group(step=step, oldest=step) for step in (0, 8, 16)])

    def shares(half_life_steps: float | None) -> list[float]:
        settings = ReflectionSection(recency_half_life_steps=half_life_steps)
        drawn = [journal.attempt("p", ONE, rng, weight=lambda step: settings.weight(16 - step)) for _ in range(600)]
        counted = Counter(attempt.policy_step for attempt in drawn if attempt)
        return [counted[step] / 600 for step in (0, 8, 16)]

    assert shares(8.0) == pytest.approx([1 / 7, 2 / 7, 4 / 7], abs=0.06)
    assert shares(None) == pytest.approx([1 / 3] * 3, abs=0.06)


def test_a_rollout_is_found_by_its_id_and_its_problem(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([group(problem_id="mine")])
    assert journal.rollout_text("l0-000000-0000-001", "What is mine?") == "12"
    assert journal.rollout_text("l0-000000-0000-001", "What is another run's?") == ""
    assert journal.rollout_text("l0-000000-0000-009", "What is mine?") == ""


def test_outcomes_are_those_of_the_surviving_groups(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    seen = Context(drawn="inter", kind="inter", lesson_ids=("x1", "x2"))
    journal.append([group(step=3, slot=0, oldest=3, rewards=(1.0, 0.0), context=seen), group(step=6, slot=1, oldest=6)])
    assert len(list(journal.outcomes(ONE))) == 2
    (outcome,) = journal.outcomes([*ONE, Lineage(number=1, start_step=5)])
    assert outcome == GroupResult(3, "p", "", "inter", "inter", ["x1", "x2"], [1.0, 0.0])
    uses = usefulness_in(journal, ONE)
    assert uses.of("x1") == uses.of("x2") == (1, 2, 1.0)
    assert uses.of("x1").mean_reward == 0.5
    assert uses.of("x3").mean_reward is None


def test_an_outcome_tells_what_was_drawn_beside_what_it_became(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([group(context=Context(drawn="inter"))])
    (outcome,) = journal.outcomes(ONE)
    assert (outcome.drawn, outcome.kind) == ("inter", "scratch")


def test_a_journal_of_before_is_refused_by_the_column_that_it_lacks(tmp_path: Path) -> None:
    import lancedb

    earlier = schema().remove(schema().get_field_index("drawn"))
    lancedb.connect(str(tmp_path)).create_table(TABLE, schema=earlier)
    with pytest.raises(DataError, match="'journal' without drawn: another version of lanpo made it"):
        Journal(tmp_path)


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)

    class Full:
        version = 1

        def add(self, rows: object) -> None:
            raise RuntimeError("LanceError(IO): No space left on device (os error 28)")

    monkeypatch.setattr(journal, "_table", Full())
    with pytest.raises(DiskError, match="is full: free some space"):
        journal.append([group()])


def test_a_torn_index_costs_no_group(tmp_path: Path) -> None:
    """One write failed while it was written, and Lance committed it: every look-up by its column would fail for
    ever."""
    journal = Journal(tmp_path)
    journal.append([group(slot=slot) for slot in range(8)])
    journal.compact()
    tear_index(journal._table, "step")
    again = Journal(tmp_path)
    assert len(again.read_step(0, ONE)) == 8
    again.compact()
    assert {index.num_unindexed_rows for index in again._table.list_indices()} == {0}
    assert len(again._table.list_indices()) == len(INDEXED)


def a_rescue(step: int = 3, slot: int = 1, problem_id: str = "p") -> RolloutGroup:
    wrong = group(step=step, slot=slot, rewards=(0.0, -0.5), problem_id=problem_id)
    attempt = Attempt(problem_id=problem_id, text="12")
    context = Context(drawn="scratch", kind="rescue_intra", attempt=attempt, lesson_ids=("x1",))
    more: dict[str, Any] = {"rescued": wrong.as_rescued(), "tried_rescue": True}
    return group(step=step, slot=slot, oldest=step, context=context, problem_id=problem_id, **more)


def test_a_rescue_is_read_as_it_was_and_counts_as_the_group_in_whose_place_it_stands(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([group(step=3, oldest=3), a_rescue()])
    assert Journal(tmp_path).read_step(3, ONE)[1] == a_rescue()
    outcomes = {outcome.drawn: outcome for outcome in journal.outcomes(ONE) if outcome.rewards != [1.0, 0.0]}
    assert outcomes == {"scratch": GroupResult(3, "p", "", "scratch", "scratch", [], [0.0, -0.5])}
    assert len(list(journal.outcomes(ONE))) == 2
    assert usefulness_in(journal, ONE).of("x1").mean_reward is None, "it was shown because rewards were low"
    later = [*ONE, Lineage(number=1, start_step=2)]
    assert list(journal.outcomes(later)) == [], "of an abandoned step nothing counts"


def test_no_reflection_is_on_an_attempt_of_a_rescue(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([a_rescue()])
    assert journal.attempt("p", ONE, random.Random(0)) is None
    journal.append([group(step=4, oldest=4)])
    found = {journal.attempt("p", ONE, random.Random(seed)) for seed in range(9)}
    assert {attempt.rollout_id[:10] for attempt in found if attempt} == {"l0-000004-"}
