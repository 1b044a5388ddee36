"""Objectives on policies that are tables, where optimum and gradient are known.

A solution is three tokens, right if all are 1; alone the policy is right 1 % of the time, in the context half of the
time. Advantages, weights and losses are those of the learner, in plain torch."""

from __future__ import annotations

import itertools
import math
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from trainer.transfer import ContextRatio

Level = Literal["none", "token", "sequence"]
NUM_TOKENS, GROUP_SIZE, NUM_GROUPS = 3, 8, 1
ALONE, IN_CONTEXT = 0.01 ** (1 / NUM_TOKENS), 0.8


def token_logps(logits_T: Tensor, tokens_NT: Tensor) -> Tensor:
    """(N, T), of tables of one Bernoulli a token."""
    return torch.where(tokens_NT.bool(), logsigmoid(logits_T), logsigmoid(-logits_T))


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def start() -> tuple[Tensor, Tensor]:
    """The policy alone, and as it is in the context, which is not trained here."""
    return torch.full((NUM_TOKENS,), logit(ALONE), requires_grad=True), torch.full((NUM_TOKENS,), logit(IN_CONTEXT))


def success_of(logits_T: Tensor) -> float:
    return torch.sigmoid(logits_T).prod().item()


def advantages_of(rewards_GN: Tensor) -> Tensor:
    return (rewards_GN - rewards_GN.mean(1, keepdim=True)) / (rewards_GN.std(1, keepdim=True) + 1e-4)


def trained(level: Level | None, num_steps: int, *, cap: float = 3.0, seed: int = 0) -> list[float]:
    """Success alone after each step, of pairs, or of as many rollouts alone (GRPO) where `level` is None."""
    generator = torch.Generator().manual_seed(seed)
    (policy_T, context_T), successes = start(), []
    optimizer = torch.optim.SGD([policy_T], lr=1.0)
    settings = ContextRatio(level or "none", cap=cap)
    shape = (NUM_GROUPS, GROUP_SIZE, NUM_TOKENS)
    for _ in range(num_steps):
        tables = [policy_T.detach(), policy_T.detach() if level is None else context_T]
        halves = [torch.bernoulli(torch.sigmoid(table).expand(shape), generator=generator) for table in tables]
        tokens_GNT = torch.cat(halves, dim=1)
        advantages_N = advantages_of(tokens_GNT.prod(dim=2)).flatten()
        tokens_NT = tokens_GNT.flatten(0, 1)
        now_NT = token_logps(policy_T, tokens_NT)
        weights_NT = torch.ones_like(tokens_NT)
        if level is not None:
            ratio = settings.unbounded(now_NT.detach(), token_logps(context_T, tokens_NT), weights_NT)
            moved_N = (torch.arange(2 * GROUP_SIZE) >= GROUP_SIZE).repeat(NUM_GROUPS)
            weights_NT = torch.where(moved_N[:, None], settings.bounded(ratio), weights_NT)
        optimizer.zero_grad()
        (-(weights_NT * advantages_N[:, None] * now_NT).mean()).backward()
        optimizer.step()
        successes.append(success_of(policy_T))
    return successes


def steps_to(successes: list[float], level: float = 0.9) -> float:
    return next((step for step, success in enumerate(successes) if success >= level), math.inf)


def test_the_rare_solution_is_learned_soonest_without_a_ratio_and_unlearned_with_bounded_ones_of_sequences() -> None:
    grpo, none, token, sequence, bounded = (
        trained(None, 300),
        trained("none", 300),
        trained("token", 300),
        trained("sequence", 300, cap=1e9),
        trained("sequence", 300),
    )
    assert steps_to(none) < 0.7 * steps_to(grpo)
    assert steps_to(none) < steps_to(token) < steps_to(grpo)
    assert steps_to(none) < 0.7 * steps_to(sequence) < math.inf, "right on average, and no help"
    # Wrong solutions that are likelier alone reach the cap, so that less is pushed away from them than from the others.
    assert steps_to(bounded) == math.inf and bounded[-1] < 1e-3


def expected_gradient(level: Level | None, cap: float = math.inf) -> Tensor:
    """Of E[r log π] at the start, exactly: over samples of the context with weights, or on-policy where `level` is
    None."""
    policy_T, context_T = start()
    tokens_NT = torch.tensor(list(itertools.product([0.0, 1.0], repeat=NUM_TOKENS)))
    now_NT = token_logps(policy_T, tokens_NT)
    sampler_NT = now_NT.detach() if level is None else token_logps(context_T, tokens_NT)
    settings = ContextRatio(level or "none", cap=cap)
    ratio = settings.unbounded(now_NT.detach(), sampler_NT, torch.ones_like(tokens_NT))
    probability_N, reward_N = sampler_NT.sum(1).exp(), 0.1 + tokens_NT[:, 0] + tokens_NT.prod(1)
    (settings.bounded(ratio) * (probability_N * reward_N)[:, None] * now_NT).sum().backward()
    assert policy_T.grad is not None
    return policy_T.grad


@pytest.mark.parametrize(
    ("level", "cap", "error", "cosine"),
    [
        ("none", 3.0, 8.96, 0.685),
        ("token", 3.0, 1.24, 0.845),
        ("token", math.inf, 0.981, 0.904),
        ("sequence", 3.0, 0.174, 0.988),
        ("sequence", math.inf, 0.0, 1.0),
    ],
)
def test_of_the_exact_gradient_only_unbounded_ratios_of_sequences_are_free_of_bias(
    level: Level, cap: float, error: float, cosine: float
) -> None:
    """The table of docs/objectives.md."""
    exact, found = expected_gradient(None), expected_gradient(level, cap)
    assert ((found - exact).norm() / exact.norm()).item() == pytest.approx(error, rel=5e-3, abs=1e-6)
    assert torch.cosine_similarity(found, exact, dim=0).item() == pytest.approx(cosine, abs=1e-3)


@pytest.mark.parametrize("level", ["none", "token", "sequence"])
def test_where_the_context_leads_away_pairs_reach_the_optimum(level: Level) -> None:
    """One token of three: worth 0, 1/2 and 1. Alone the policy has the best with probability .9; the context shows it
    never. Over a group of the context alone the second best is above the mean, over a pair it is below."""
    rewards, context = torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0.4, 0.6, 0.0])
    num_groups, ends = 8, {}
    for paired in (True, False):
        generator = torch.Generator().manual_seed(0)
        logits = torch.tensor([0.05, 0.05, 0.9]).log().requires_grad_()
        optimizer, settings = torch.optim.Adam([logits], lr=0.05), ContextRatio(level, cap=3.0)
        for _ in range(400):
            alone = torch.softmax(logits.detach(), 0).expand(num_groups, 3)
            halves = [
                torch.multinomial(table, GROUP_SIZE, replacement=True, generator=generator)
                for table in (alone, context.expand(num_groups, 3))
            ]
            own, shown = halves
            if paired:
                advantages = advantages_of(rewards[torch.cat(halves, 1)])
            else:
                advantages = torch.cat([advantages_of(rewards[own]), advantages_of(rewards[shown])], 1)
            now = torch.log_softmax(logits, 0)[torch.cat(halves, 1)]
            ratio = settings.unbounded(
                now.detach()[:, GROUP_SIZE:, None].flatten(0, 1),
                context.log()[shown][..., None].flatten(0, 1),
                torch.ones(shown.numel(), 1),
            )
            weights = torch.ones_like(now)
            weights[:, GROUP_SIZE:] = settings.bounded(ratio).view(num_groups, GROUP_SIZE)
            optimizer.zero_grad()
            (-(weights * advantages * now).mean()).backward()
            optimizer.step()
        ends[paired] = (torch.softmax(logits.detach(), 0) @ rewards).item()
    assert ends[True] > 0.99
    assert (ends[False] > 0.99) is (level != "none"), "a group of the context alone draws to the context's best"
