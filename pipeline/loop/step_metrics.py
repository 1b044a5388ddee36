"""What one step's groups say, and the sums over a session."""

from __future__ import annotations

import statistics
from collections import Counter
from typing import Any

from pipeline.types import RolloutGroup


class Totals:
    """What the summary says of the whole run. Sums over this session."""

    def __init__(self) -> None:
        self.drawn: Counter[str] = Counter()
        self.carried: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.trims: Counter[str] = Counter()
        self.num_accepted = 0

    def add(self, groups: list[RolloutGroup]) -> None:
        """Count the contexts of one step's groups."""
        for group in groups:
            self.drawn[group.context.drawn] += 1
            if group.context.kind != "scratch":
                self.carried[group.context.drawn] += 1
            if group.context.num_trimmed:
                self.trims[group.context.drawn] += 1

    def as_dict(self) -> dict[str, Any]:
        return {
            "drawn": dict(self.drawn),
            "carried": dict(self.carried),
            "rejected": dict(self.rejected),
            "trims": dict(self.trims),
            "accepted": self.num_accepted,
        }


def step_metrics(groups: list[RolloutGroup]) -> dict[str, Any]:
    """Means and shares of one step's groups. Pure."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    numbers: dict[str, Any] = {
        "reward": statistics.fmean(rollout.reward for rollout in rollouts),
        "share_zero_variance": statistics.fmean(float(group.zero_variance) for group in groups),
        "share_parsable": statistics.fmean(float(rollout.verdict.answer is not None) for rollout in rollouts),
        "share_cut": statistics.fmean(float(rollout.finish_reason == "length") for rollout in rollouts),
        "verifier_failures": sum(rollout.verdict.kind in ("timeout", "error") for rollout in rollouts),
        "num_prompt_tokens": sum(len(group.prompt_ids) for group in groups),
        "num_completion_tokens": sum(len(rollout.token_ids) for rollout in rollouts),
        "trims": sum(group.context.num_trimmed > 0 for group in groups),
    }
    for kind in ("scratch", "inter", "intra"):
        of_kind = [group for group in groups if group.context.kind == kind]
        numbers[f"num_{kind}"] = len(of_kind)
        numbers[f"num_drawn_{kind}"] = sum(group.context.drawn == kind for group in groups)
        if of_kind:
            numbers[f"reward_{kind}"] = statistics.fmean(reward for group in of_kind for reward in group.rewards)
            cut = [r.finish_reason == "length" for group in of_kind for r in group.rollouts]
            numbers[f"share_cut_{kind}"] = statistics.fmean(map(float, cut))
    return numbers
