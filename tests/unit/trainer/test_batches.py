"""The batch of a step: complete, fresh, and labelled with what was sampled by which weights."""

from __future__ import annotations

import random
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config
from pipeline.runtime.file_watcher import Changes
from pipeline.types import RolloutGroup
from tests.tiny_model import make_tiny_tokenizer
from tests.unit.trainer.groups import (
    GROUP_SIZE,
    NUM_GROUPS,
    as_pairs,
    in_contexts,
    make_group,
    make_groups,
    tiny_config,
    with_rewards,
)
from trainer.batches import JournalReader, RolloutBatch
from trainer.models import decoded
from trainer.stop import StopRequested, StopSignal


class GrowingJournal:
    """Shows one more group at every look."""

    commits = None

    def __init__(self, groups: list[RolloutGroup]) -> None:
        self._groups = groups
        self.num_shown = 0

    def num_groups(self) -> int:
        self.num_shown += 1
        return self.num_shown

    def read_step(self, step: int, lineages: Any) -> list[RolloutGroup]:
        return self._groups[: self.num_shown]


class NoWait(StopSignal):
    """Counts waits instead of sleeping."""

    num_waits = 0

    def wait(self, timeout_s: float, changes: Changes | None = None) -> None:
        self.num_waits += 1


def reader(groups: list[RolloutGroup], config: Config, stop: StopSignal | None = None) -> JournalReader:
    return JournalReader(GrowingJournal(groups), [], config, stop or NoWait())  # type: ignore[arg-type]


def stale_config(max_staleness: int) -> Config:
    config = tiny_config(Path())
    return config.model_copy(update={"rollout": config.rollout.model_copy(update={"max_staleness": max_staleness})})


def test_waits_until_every_slot_is_there() -> None:
    stop, waits = NoWait(), []
    batch = reader(make_groups(0), tiny_config(Path()), stop).wait_for(0, on_wait=lambda: waits.append(1))
    assert len(batch.completion_ids) == NUM_GROUPS * GROUP_SIZE
    assert stop.num_waits == NUM_GROUPS - 1
    assert waits == [1]


def test_a_stop_request_ends_the_wait() -> None:
    stop = StopSignal()
    threading.Timer(0.0, stop.request).start()
    with pytest.raises(StopRequested):
        JournalReader(GrowingJournal([]), [], tiny_config(Path()), stop).wait_for(0)  # type: ignore[arg-type]


def test_rows_of_a_group_stay_together_and_the_longest_groups_come_first() -> None:
    batch = reader(make_groups(0), tiny_config(Path())).wait_for(0)
    prompts = [batch.prompt_ids[row : row + GROUP_SIZE] for row in range(0, len(batch.prompt_ids), GROUP_SIZE)]
    assert all(prompt == group[0] for group in prompts for prompt in group)
    lengths = [
        len(group[0]) + sum(len(ids) for ids in batch.completion_ids[index * GROUP_SIZE : (index + 1) * GROUP_SIZE])
        for index, group in enumerate(prompts)
    ]
    assert lengths == sorted(lengths, reverse=True)
    assert len(set(lengths)) > 1


def test_staleness_and_on_policy_follow_the_versions() -> None:
    rng = random.Random(0)
    groups = [make_group(rng, 3, slot, version_step=3 if slot < 1 else 2) for slot in range(NUM_GROUPS)]
    batch = reader(groups, stale_config(1)).wait_for(3)
    assert sum(batch.on_policy) == GROUP_SIZE
    assert sorted(batch.staleness) == [0] * GROUP_SIZE + [1] * GROUP_SIZE * (NUM_GROUPS - 1)


def test_stale_rollouts_are_not_trained_and_are_counted() -> None:
    groups = [make_group(random.Random(0), 3, slot, version_step=0 if slot == 1 else 1) for slot in range(NUM_GROUPS)]
    batch = reader(groups, stale_config(2)).wait_for(3)
    assert [lag <= 2 for lag in batch.staleness] == batch.trained
    assert batch.num_masked == {"stale": GROUP_SIZE}
    assert len(batch.rewards) == NUM_GROUPS * GROUP_SIZE


def test_the_learner_may_be_stricter_than_the_scheduler() -> None:
    config = stale_config(2)
    config = config.model_copy(update={"learner": config.learner.model_copy(update={"max_trained_staleness": 0})})
    groups = [make_group(random.Random(0), 3, slot, version_step=3 - slot % 2) for slot in range(NUM_GROUPS)]
    batch = reader(groups, config).wait_for(3)
    assert [lag == 0 for lag in batch.staleness] == batch.trained
    assert batch.num_masked == {"stale": 2 * GROUP_SIZE}


def test_truncated_completions_and_groups_that_teach_nothing_are_masked_on_request() -> None:
    groups = make_groups(0, num_zero_variance=1)
    assert reader(groups, tiny_config(Path())).wait_for(0).num_masked == {}
    batch = reader(groups, tiny_config(Path(), mask_truncated=True, mask_zero_variance=True)).wait_for(0)
    num_cut = sum(rollout.finish_reason == "length" for group in groups for rollout in group.rollouts)
    assert batch.num_masked["truncated"] == num_cut > 0
    assert sum(batch.num_masked.values()) == sum(not trained for trained in batch.trained)
    masked_groups = [not any(batch.trained[row : row + GROUP_SIZE]) for row in range(0, len(batch.trained), GROUP_SIZE)]
    assert sum(masked_groups) == sum(group.zero_variance for group in groups) > 0


def test_a_group_of_newer_weights_is_a_bug() -> None:
    groups = [make_group(random.Random(0), 3, slot, version_step=4) for slot in range(NUM_GROUPS)]
    with pytest.raises(ValueError, match="sampled by weights of step 4, which are newer"):
        reader(groups, stale_config(2)).wait_for(3)


def test_a_group_of_the_wrong_size_is_a_bug() -> None:
    groups = make_groups(0)
    short = groups[1].model_copy(update={"rollouts": groups[1].rollouts[:-1]})
    with pytest.raises(ValueError, match="has 3 rollouts, not 4"):
        reader([groups[0], short, *groups[2:]], tiny_config(Path())).wait_for(0)


def test_share_of_zero_variance_groups() -> None:
    groups = [make_group(random.Random(0), 0, slot, same_reward=slot < 3) for slot in range(NUM_GROUPS)]
    expected = sum(len(set(group.rewards)) == 1 for group in groups) / NUM_GROUPS
    assert expected >= 0.75
    assert reader(groups, tiny_config(Path())).wait_for(0).share_zero_variance == expected


PAIRED = {"paired_groups": True}
NONE, ALL = (0.0,) * GROUP_SIZE, (1.0,) * GROUP_SIZE


def rewarded(rewards: list[tuple[float, ...]]) -> list[RolloutGroup]:
    return [with_rewards(group, each) for group, each in zip(as_pairs(make_groups(0)), rewards, strict=True)]


def test_the_rows_of_a_pair_stay_together_that_of_x_alone_first() -> None:
    groups = as_pairs(make_groups(0))
    batch = reader(groups, tiny_config(Path(), rollout=PAIRED)).wait_for(0)
    assert batch.group_size == 2 * GROUP_SIZE
    order = [2, 3, 0, 1]  # the prompt of slot 0 is one token
    assert batch.rewards == [rollout.reward for slot in order for rollout in groups[slot].rollouts]
    assert batch.part(1, 2).rewards == batch.rewards[2 * GROUP_SIZE :], "one process has both halves"


def test_a_pair_teaches_where_its_halves_differ_from_each_other() -> None:
    batch = reader(rewarded([NONE, ALL, ALL, ALL]), tiny_config(Path(), rollout=PAIRED)).wait_for(0)
    assert batch.share_zero_variance == 0.5
    alone = reader(rewarded([NONE, ALL, ALL, ALL]), tiny_config(Path(), rollout=PAIRED, mask_zero_variance=True))
    assert sum(alone.wait_for(0).trained) == 2 * GROUP_SIZE, "the pair whose halves differ is trained"


@pytest.mark.parametrize("paired", [True, False])
def test_a_pair_that_is_none_is_a_bug(paired: bool) -> None:
    whole = as_pairs(make_groups(0))
    other = whole[1].model_copy(update={"problem": whole[2].problem})
    groups = [whole[0], other, *whole[2:]] if paired else whole
    with pytest.raises(ValueError, match=r"slots 0 of problem p0, 1 of problem p"):
        reader(groups, tiny_config(Path(), rollout={"paired_groups": paired})).wait_for(0)


def test_without_their_contexts_rollouts_have_the_bare_prompt_and_those_without_a_block_are_counted() -> None:
    groups, tokenizer = in_contexts(make_groups(0)), make_tiny_tokenizer()

    def batch_of(**learner: Any) -> RolloutBatch:
        journal: Any = GrowingJournal(groups)
        decode = partial(decoded, tokenizer)
        return JournalReader(journal, [], tiny_config(Path(), **learner), NoWait(), decode).wait_for(0)

    moved, sampled = batch_of(train_under="scratch"), batch_of()
    assert sum(moved.in_context) == sum(moved.without_context) == sum(sampled.in_context) == 2 * GROUP_SIZE
    assert not any(sampled.without_context) and sampled.as_sampled is moved.as_sampled is None
    assert moved.num_masked == {"uncut": 2}
    bare = [list(groups[slot].bare_prompt_ids) for slot in (1, 3)]
    for prompt, is_moved in zip(moved.prompt_ids, moved.without_context, strict=True):
        assert (prompt in bare) is is_moved
    kept = [len(ids) for ids, trained in zip(moved.completion_ids, moved.trained, strict=True) if trained]
    assert sum(kept) == moved.num_trained_tokens < sampled.num_trained_tokens
    assert all(len(ids) == len(logprobs) for ids, logprobs in zip(moved.completion_ids, moved.logprobs, strict=True))
    both = batch_of(train_under="scratch", sampled_weight=0.5)
    assert both.as_sampled and both.as_sampled.completion_ids == sampled.completion_ids
    part = both.part(1, 2)
    assert part.as_sampled and len(part.as_sampled.rewards) == len(part.rewards) == 2 * GROUP_SIZE
