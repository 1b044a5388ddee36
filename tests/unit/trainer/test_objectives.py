"""Each objective's gradient against the same loss written plainly: one sequence at a time, no shared prefix, no TRL."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from pipeline.config.learner import LearnerSection
from pipeline.types import RolloutGroup, advantage_groups
from prompts.analysis import block
from tests.tiny_model import make_tiny_tokenizer
from tests.unit.trainer.groups import as_pairs, in_contexts, make_groups
from tests.unit.trainer.test_grpo import TOLERANCE, relative_error, train
from trainer.models import load_model

TEMPERATURE = 0.8  # of groups.tiny_config
NUM_ANALYSIS = len(make_tiny_tokenizer().encode(block("Add.")))
SCRATCH: dict[str, Any] = {"train_under": "scratch", "kl_coef": 0.3}


@dataclass(frozen=True)
class Sample:
    """A rollout as it is trained: A, what stands before it, its tokens, their behaviour log-probabilities."""

    advantage: float
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    behaviour: tuple[float, ...]
    moved: bool
    trained: bool = True


def samples_of(groups: list[RolloutGroup], train_under: str) -> list[Sample]:
    samples = []
    for unit in advantage_groups(groups):
        rewards = [reward for group in unit for reward in group.rewards]
        mean, deviation = statistics.fmean(rewards), statistics.stdev(rewards)
        for group in unit:
            for index, rollout in enumerate(group.rollouts):
                moved = train_under == "scratch" and group.context.kind != "scratch"
                cut = NUM_ANALYSIS if moved else 0
                samples.append(
                    Sample(
                        (rollout.reward - mean) / (deviation + 1e-4),
                        group.bare_prompt_ids if moved else group.prompt_ids,
                        rollout.token_ids[cut:],
                        rollout.logprobs[cut:],
                        moved,
                        trained=not (moved and index == len(group.rollouts) - 1),  # it has no analysis to cut
                    )
                )
    return samples


def logps(model: nn.Module, sample: Sample) -> Tensor:
    ids = torch.tensor([[*sample.prompt, *sample.tokens]])
    logits = model(ids).logits[0, len(sample.prompt) - 1 : -1] / TEMPERATURE
    return logits.log_softmax(-1).gather(1, torch.tensor(sample.tokens)[:, None])[:, 0]


def weight(now: Tensor, sample: Sample, learner: LearnerSection) -> Tensor:
    """What the advantage of each token is multiplied by."""
    log_ratio = now - torch.tensor(sample.behaviour)
    if not sample.moved:
        bounded = log_ratio.exp().clamp(learner.importance_sampling_floor, learner.importance_sampling_cap)
        return torch.ones_like(now) if learner.importance_sampling == "none" else bounded
    log_ratio = {"none": log_ratio * 0, "token": log_ratio, "sequence": log_ratio.sum().expand_as(now)}[
        learner.context_ratio
    ]
    bounded = log_ratio.exp().clamp(learner.context_ratio_floor, learner.largest_context_ratio)
    return torch.ones_like(now) if learner.context_ratio == "none" else bounded


def loss_of(model: nn.Module, reference: nn.Module, samples: list[Sample], learner: LearnerSection) -> Tensor:
    beta = learner.max_kl_coef
    sums, lengths = [], []
    for sample in samples:
        if not sample.trained:
            sums.append(torch.zeros(()))
            continue
        now = logps(model, sample)
        with torch.no_grad():
            before, weights = logps(reference, sample), weight(now.detach(), sample, learner)
        ratio = torch.exp(now - now.detach())
        kl = torch.exp(before - now) - (before - now) - 1
        sums.append((ratio * (beta * kl - weights * sample.advantage)).sum())
        lengths.append(len(sample.tokens))
    if learner.loss_type == "dapo":
        return torch.stack(sums).sum() / sum(lengths)
    if learner.loss_type == "dr_grpo":
        return torch.stack(sums).sum() / (len(samples) * 12)  # groups.tiny_config: max_tokens
    assert learner.loss_type == "grpo"
    of_each = [len(sample.tokens) for sample in samples]
    return torch.stack([total / length for total, length in zip(sums, of_each, strict=True)]).mean()


class PlainGradient(TrainerCallback):
    """Moves the policy away from the reference before the first step, and takes the plain loss's gradient there."""

    def __init__(self, folder: Path, groups: list[RolloutGroup], learner: dict[str, Any]) -> None:
        self._folder, self._groups, self._learner = folder, groups, LearnerSection.model_validate(learner)
        self.gradient = torch.zeros(0)

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
        views = [("scratch", 1 - self._learner.sampled_weight), ("sampled", self._learner.sampled_weight)]
        if self._learner.train_under == "sampled":
            views = [("sampled", 1.0)]
        reference = load_model(self._folder / "model")
        loss = sum(
            share * loss_of(model, reference, samples_of(self._groups, view), self._learner)
            for view, share in views
            if share
        )
        gradients = torch.autograd.grad(loss, parameters)
        self.gradient = torch.cat([gradient.flatten() for gradient in gradients])


def alone(step: int) -> list[RolloutGroup]:
    return in_contexts(make_groups(step))


def paired(step: int) -> list[RolloutGroup]:
    """The first half of a pair has the other's bare prompt."""
    groups = as_pairs(in_contexts(make_groups(step)))
    bare = [groups[group.slot | 1].bare_prompt_ids for group in groups]
    return [
        group.model_copy(update={"prompt_ids": ids}) if group.slot % 2 == 0 else group
        for group, ids in zip(groups, bare, strict=True)
    ]


@pytest.mark.parametrize("share_prefix", [True, False])
@pytest.mark.parametrize(
    ("groups", "learner"),
    [
        (paired, {"kl_coef": 0.3}),
        (alone, SCRATCH),
        (paired, SCRATCH),
        (alone, {**SCRATCH, "context_ratio": "token", "context_ratio_cap": 1.2, "context_ratio_floor": 0.9}),
        (paired, {**SCRATCH, "context_ratio": "sequence", "context_ratio_cap": 1.5, "context_ratio_floor": 0.2}),
        (paired, {**SCRATCH, "context_ratio": "token", "loss_type": "grpo", "importance_sampling": "none"}),
        (alone, {**SCRATCH, "context_ratio": "sequence", "loss_type": "dr_grpo"}),
        (paired, {**SCRATCH, "context_ratio": "token", "sampled_weight": 0.3}),
        (alone, {**SCRATCH, "sampled_weight": 0.3, "loss_type": "grpo"}),
        (
            paired,
            {**SCRATCH, "context_ratio": "token", "sampled_weight": 0.3, "lora": {"rank": 4}},
        ),
    ],
    ids=lambda value: value.__name__ if callable(value) else "-".join(f"{name}={each}" for name, each in value.items()),
)
def test_the_gradient_is_that_of_the_plain_loss(
    tmp_path: Path, groups: Callable[[int], list[RolloutGroup]], learner: dict[str, Any], share_prefix: bool
) -> None:
    plain = PlainGradient(tmp_path, groups(0), learner)
    recorder, _ = train(
        tmp_path,
        ours=True,
        groups=groups,
        rollout={"paired_groups": groups is paired},
        callbacks=(plain,),
        num_steps=1,
        share_prefix=share_prefix,
        **learner,
    )
    (gradient,), (log,) = recorder.gradients, recorder.logs
    assert plain.gradient.norm() > 0.01
    assert relative_error(gradient, plain.gradient) <= TOLERANCE
    assert log["num_masked_uncut"] == (2 if "train_under" in learner else 0)
    assert 0 < log["share_advantage_in_context"] < 1
    assert ("context_ratio_ess" in log) is ("train_under" in learner)
    if "context_ratio_cap" in learner:
        assert log["context_ratio_at_cap"] > 0 and 0 < log["context_ratio_ess"] < 1


def test_in_two_views_the_loss_is_the_weighted_sum_of_both(tmp_path: Path) -> None:
    one = partial(train, tmp_path, ours=True, groups=paired, rollout={"paired_groups": True}, kl_coef=0.3, num_steps=1)
    sampled, scratch, both = (
        recorder for recorder, _ in (one(), one(train_under="scratch"), one(train_under="scratch", sampled_weight=0.25))
    )
    expected = 0.25 * sampled.gradients[0] + 0.75 * scratch.gradients[0]
    assert relative_error(both.gradients[0], expected) <= TOLERANCE
    assert relative_error(sampled.gradients[0], scratch.gradients[0]) > 0.1
    losses = [recorder.logs[0]["loss"] for recorder in (sampled, scratch, both)]
    assert losses[2] == pytest.approx(0.25 * losses[0] + 0.75 * losses[1], rel=1e-4, abs=1e-6)


def test_without_contexts_and_pairs_each_objective_is_grpo_bit_for_bit(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"train_under": "scratch", "context_ratio": "token", "context_ratio_cap": 1.01}
    plain, _ = train(tmp_path, ours=True, kl_coef=0.04)
    moved, _ = train(tmp_path, ours=True, kl_coef=0.04, **settings)
    for step in range(3):
        assert torch.equal(plain.gradients[step], moved.gradients[step])
        assert plain.logs[step]["loss"] == moved.logs[step]["loss"]
