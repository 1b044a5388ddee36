"""Dividing a step's batch among the processes of a learner."""

from __future__ import annotations

import pytest

from pipeline.errors import ConfigError
from trainer.batches import PER_ROLLOUT, RolloutBatch
from trainer.processes import num_micro_batches


def batch_of(num_groups: int, group_size: int) -> RolloutBatch:
    """Row n has n in every field."""
    rows = list(range(num_groups * group_size))
    return RolloutBatch(
        **{name: list(rows) for name in PER_ROLLOUT},  # type: ignore[arg-type]
        num_masked={"stale": 2},
        share_zero_variance=0.25,
        wait_s=0.0,
        group_size=group_size,
    )


def test_parts_are_whole_groups_and_every_group_is_in_one_of_them() -> None:
    whole = batch_of(num_groups=4, group_size=3)
    assert whole.part(0, 2).rewards == [0, 1, 2, 6, 7, 8]
    assert whole.part(1, 2).rewards == [3, 4, 5, 9, 10, 11]
    for name in PER_ROLLOUT:
        assert sorted(value for rank in range(4) for value in getattr(whole.part(rank, 4), name)) == list(range(12))
    assert whole.part(0, 1) is whole


def test_groups_that_cannot_be_divided_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert num_micro_batches(6, 1) == 2
    with pytest.raises(ConfigError, match=r"rollout\.num_problems_per_step = 8 .* 3 processes"):
        num_micro_batches(8, 1)


def test_a_part_that_holds_no_whole_micro_batches_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert num_micro_batches(8, 2) == 1
    with pytest.raises(ConfigError, match=r"4 processes .*num_groups_per_micro_batch = 4"):
        num_micro_batches(8, 4)


def test_pairs_that_two_processes_would_have_to_share_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert num_micro_batches(8, 1, num_together=2) == 4
    with pytest.raises(ConfigError, match=r"= 6 .* 2 processes .*rollout\.paired_groups"):
        num_micro_batches(6, 1, num_together=2)
