"""Advantages over pairs: G rollouts of the problem alone and G in a context."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.types import Context, RolloutGroup
from tests.unit.trainer.groups import GROUP_SIZE, as_pairs, make_groups, with_rewards
from tests.unit.trainer.test_grpo import TOLERANCE, relative_error, train

PAIRED = {"paired_groups": True}
NONE, ALL = (0.0,) * GROUP_SIZE, (1.0,) * GROUP_SIZE


def pairs_with(scratch: tuple[float, ...], context: tuple[float, ...], step: int) -> list[RolloutGroup]:
    return [with_rewards(group, context if group.slot % 2 else scratch) for group in as_pairs(make_groups(step))]


@pytest.mark.parametrize(
    ("scratch", "context"),
    [(NONE, ALL), (ALL, NONE), (NONE, (0.0, 0.0, 1.0, 0.0)), ((1.0, 0.0, 0.0, 0.5), (1.0, 1.0, 0.25, 1.0))],
    ids=["only the context is right", "only scratch is right", "one in the context is right", "mixed"],
)
def test_advantages_are_by_mean_and_deviation_of_both_halves(
    tmp_path: Path, scratch: tuple[float, ...], context: tuple[float, ...]
) -> None:
    recorder, _ = train(tmp_path, ours=True, groups=partial(pairs_with, scratch, context), rollout=PAIRED, kl_coef=0.0)
    rewards = torch.tensor([*scratch, *context])
    expected = (rewards - rewards.mean()) / (rewards.std() + 1e-4)
    assert expected.isfinite().all() and (expected != 0).all()
    for advantages, gradient, log in zip(recorder.advantages, recorder.gradients, recorder.logs, strict=True):
        torch.testing.assert_close(advantages.view(-1, 2 * GROUP_SIZE), expected.repeat(2, 1))
        assert gradient.norm() > 0.01
        assert log["share_zero_variance"] == 0


def test_unpaired_neither_half_teaches_what_only_the_other_can(tmp_path: Path) -> None:
    def unpaired(step: int) -> list[RolloutGroup]:
        return [group.model_copy(update={"pair": None}) for group in pairs_with(NONE, ALL, step)]

    recorder, _ = train(tmp_path, ours=True, groups=unpaired, kl_coef=0.0)
    assert all(not gradient.any() for gradient in recorder.gradients)


@pytest.mark.parametrize("learner", [{"kl_coef": 0.04}, {"loss_type": "grpo"}, {"scale_rewards": "batch"}], ids=str)
def test_pairs_without_a_context_are_grpo_with_twice_the_rollouts(tmp_path: Path, learner: dict[str, Any]) -> None:
    def of_one_prompt(step: int) -> list[RolloutGroup]:
        groups = as_pairs(make_groups(step), Context(drawn="inter"))  # nothing was found
        prompts = [groups[group.slot - group.slot % 2].prompt_ids for group in groups]
        return [group.model_copy(update={"prompt_ids": ids}) for group, ids in zip(groups, prompts, strict=True)]

    def of_twice_the_size(step: int) -> list[RolloutGroup]:
        groups = of_one_prompt(step)
        return [
            first.model_copy(
                update={"slot": slot, "pair": None, "rollouts": (*first.rollouts, *groups[2 * slot + 1].rollouts)}
            )
            for slot, first in enumerate(groups[::2])
        ]

    twice = {"group_size": 2 * GROUP_SIZE, "num_problems_per_step": 2}
    pairs, _ = train(tmp_path, ours=True, groups=of_one_prompt, rollout=PAIRED, **learner)
    settings = learner | {"num_groups_per_micro_batch": 1}
    groups, _ = train(tmp_path, ours=True, groups=of_twice_the_size, rollout=twice, **settings)
    for step in range(3):
        assert torch.equal(pairs.advantages[step], groups.advantages[step])
        assert relative_error(pairs.gradients[step], groups.gradients[step]) <= TOLERANCE
