"""The metrics of a step's groups and lessons, and their sums over a session."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable
from typing import Any

from pipeline.experience.abstraction import Rejection
from pipeline.loop.reward_watch import RewardWatch
from pipeline.run.metrics_log import MetricsWriter
from pipeline.runtime.stage_clock import StageClock
from pipeline.types import (
    DRAWN_KINDS,
    RESCUE_KINDS,
    Experience,
    GroupOutcome,
    RolloutGroup,
    advantage_groups,
    have_equal_rewards,
    removed_by_gamma,
)

COUNTED_AS = {"zero_variance": "groups_refilled", "rescued": "groups_rescued", "rescue_failed": "rescues_failed"}
"""Attempts at a group that did not fail and are not journalled, by what became of them."""


class Totals:
    """What the summary says of the whole run. Sums over this session."""

    def __init__(self) -> None:
        self.drawn: Counter[str] = Counter()
        self.carried: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.trims: Counter[str] = Counter()
        self.candidates: Counter[str] = Counter()
        """What was made of the entries that searches found."""
        self.rescues: Counter[str] = Counter()
        """Groups that were sampled again because all was wrong ('tried'), and by kind those that had a success then."""
        self.num_accepted = 0

    def add(self, groups: list[RolloutGroup]) -> None:
        """Count the contexts of one step's groups."""
        for group in groups:
            self.drawn[group.context.drawn] += 1
            if group.context.kind in ("inter", "intra"):
                self.carried[group.context.drawn] += 1
            self.rescues["tried"] += group.tried_rescue
            if group.rescued is not None:
                self.rescues[group.context.kind] += 1
            if group.context.num_trimmed:
                self.trims[group.context.drawn] += 1
            self.candidates.update(one.outcome for one in group.context.considered)

    def as_dict(self) -> dict[str, Any]:
        return {
            "drawn": dict(self.drawn),
            "carried": dict(self.carried),
            "rejected": dict(self.rejected),
            "trims": dict(self.trims),
            "candidates": dict(self.candidates),
            "rescues": dict(self.rescues),
            "accepted": self.num_accepted,
        }


class StepReporter:
    """Writes the metrics lines of groups, lessons and steps, and keeps their sums.

    `outcomes` counts what became of every attempt at a group, by its kind."""

    def __init__(self, metrics: MetricsWriter, clock: StageClock, watch: RewardWatch | None = None) -> None:
        self.clock = clock
        self.totals = Totals()
        self.outcomes: Counter[str] = Counter()
        self.staleness = 0
        """Of the oldest sample of the last reported step, in updates."""
        self._metrics = metrics
        self._watch = watch

    def check_rewards(self, step: int, groups: list[RolloutGroup], slots: list[int]) -> None:
        """Look at the rewards of a whole step, of which `slots` were sampled now. Raises RewardError where there are
        none."""
        if self._watch is not None:
            self._watch.check(step, groups, [group for group in groups if group.slot in slots])

    def lost_group(self, outcome: GroupOutcome) -> None:
        """An attempt at a group that is not journalled."""
        self.outcomes[outcome.kind] += 1
        self.clock.count(COUNTED_AS.get(outcome.kind, "groups_failed"))
        self._metrics.write("group_outcome", outcome.step, **outcome.model_dump(exclude={"step"}))

    def rejections(self, step: int, outcomes: Iterable[Experience | Rejection]) -> None:
        """What of a step's summaries was rejected, each with its reason."""
        for outcome in outcomes:
            if isinstance(outcome, Rejection):
                self.totals.rejected[outcome.reason] += 1
                self._metrics.write("entry_rejected", step, **outcome.model_dump())

    def step(self, step: int, groups: list[RolloutGroup], sampled_s: float, **more: Any) -> None:
        """A step whose `groups` were sampled within `sampled_s` seconds, and whose lessons are stored."""
        metrics = step_metrics(groups)
        self.totals.add(groups)
        self.staleness = step - min(group.versions[0].step for group in groups)
        metrics |= {
            "sampled_s": sampled_s,
            "sampled_tokens_per_s": metrics["num_completion_tokens"] / max(sampled_s, 1e-9),
            **more,
            "entries_rejected_total": sum(self.totals.rejected.values()),
            "staleness": self.staleness,
            "groups_failed_total": self.clock.counts["groups_failed"],
            "groups_refilled_total": self.clock.counts["groups_refilled"],
            "attempts_sampled_total": self.clock.counts["attempts_sampled"],
            "groups_rescued_total": self.clock.counts["groups_rescued"],
            "rescues_failed_total": self.clock.counts["rescues_failed"],
            "rescues_without_context_total": self.clock.counts["rescues_without_context"],
        }
        if "answers_judged" in self.clock.counts:  # by language models
            metrics["answers_judged_total"] = self.clock.counts["answers_judged"]
            metrics["judge_s_total"] = self.clock.seconds_now()["judge"]
        self._metrics.write("step", step, **metrics)


def step_metrics(groups: list[RolloutGroup]) -> dict[str, Any]:
    """Means and shares of one step's groups. Pure."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    metrics: dict[str, Any] = {
        "reward": statistics.fmean(rollout.reward for rollout in rollouts),
        "share_zero_variance": statistics.fmean(map(have_equal_rewards, advantage_groups(groups))),
        "share_parsable": statistics.fmean(float(rollout.verdict.answer is not None) for rollout in rollouts),
        "share_cut": statistics.fmean(float(rollout.finish_reason == "length") for rollout in rollouts),
        "verifier_failures": sum(rollout.verdict.failed for rollout in rollouts),
        "missing_modules": sum(rollout.verdict.kind == "missing_module" for rollout in rollouts),
        "num_prompt_tokens": sum(len(group.prompt_ids) for group in groups),
        "num_completion_tokens": sum(len(rollout.token_ids) for rollout in rollouts),
        "trims": sum(group.context.num_trimmed > 0 for group in groups),
        "share_all_wrong": statistics.fmean(float(group.all_wrong) for group in groups),
        "num_rescues_tried": sum(group.tried_rescue for group in groups),
    }
    metrics |= _retrieval(groups)
    judged = [rollout.verdict.components for rollout in rollouts if rollout.verdict.components]
    for name in judged[0] if judged else ():
        metrics[f"score_{name}"] = statistics.fmean(scores[name] for scores in judged if name in scores)
    for kind in (*DRAWN_KINDS, *RESCUE_KINDS):
        of_kind = [group for group in groups if group.context.kind == kind]
        metrics[f"num_{kind}"] = len(of_kind)
        if kind in DRAWN_KINDS:
            metrics[f"num_drawn_{kind}"] = sum(group.context.drawn == kind for group in groups)
        if of_kind:
            metrics[f"reward_{kind}"] = statistics.fmean(reward for group in of_kind for reward in group.rewards)
            cut = [r.finish_reason == "length" for group in of_kind for r in group.rollouts]
            metrics[f"share_cut_{kind}"] = statistics.fmean(map(float, cut))
    return metrics


def _retrieval(groups: list[RolloutGroup]) -> dict[str, Any]:
    """What retrieval found for a step's groups: the entries that were compared, and the share that gamma removed."""
    found = [one for group in groups for one in group.context.considered]
    outcomes: Counter[str] = Counter(one.outcome for one in found)
    removed, num = removed_by_gamma(outcomes)
    metrics: dict[str, Any] = {"num_compared": num, "num_near_duplicates": outcomes["near_duplicate"]}
    if num:
        metrics["share_below_threshold"] = removed / num
        metrics["similarity_median"] = statistics.median(s for one in found if (s := one.similarity) is not None)
    ages = [
        group.step - group.context.attempt.policy_step
        for group in groups
        if group.context.attempt is not None and group.context.attempt.policy_step is not None
    ]
    if ages:
        metrics["attempt_age"] = statistics.fmean(ages)
    return metrics
