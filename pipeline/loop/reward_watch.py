"""Watches the rewards of a run: a step without any ends it, and steps that teach nothing are an alert with causes.

Invariants: answers of earlier sessions end nothing, so a run whose scorer was mended goes on; each spell without
differences is one alert; a run shorter than the spell that is waited for is alerted of all the same."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence

from pipeline.config import Config
from pipeline.config.rollout import RewardSection
from pipeline.errors import RewardError
from pipeline.runtime.plugins import is_plugin
from pipeline.types import (
    FAILED,
    UNJUDGEABLE,
    Rollout,
    RolloutGroup,
    Verdict,
    advantage_groups,
    have_equal_rewards,
)

# Of a step's answers, from which on missing judgements are an alert.
ALERTING_SHARE = 0.1


class RewardWatch:
    """Call `check` with each step; `alert` gets what is worth a look."""

    def __init__(self, config: Config, alert: Callable[[str], None]) -> None:
        self._reward = config.reward
        self._max_tokens = config.rollout.sampling.longest
        self._spell = min(config.reward.flat_steps, config.learner.num_steps)
        self._alert = alert
        self._num_flat = 0
        self._reported: set[str] = set()

    def check(self, step: int, groups: Sequence[RolloutGroup], fresh: Sequence[RolloutGroup]) -> None:
        """Look at the groups of a whole step; `fresh` ones were scored in this session.

        Raises RewardError when no fresh answer has a judgement."""
        self._check_failures(step, [rollout for group in fresh for rollout in group.rollouts])
        self._num_flat = self._num_flat + 1 if all(map(have_equal_rewards, advantage_groups(groups))) else 0
        if self._num_flat == self._spell:
            rollouts = [rollout for group in groups for rollout in group.rollouts]
            self._alert(
                f"nothing was learned from rewards for {self._num_flat} steps, up to step {step}: in every group all "
                f"rewards are equal; {likely_causes(rollouts, self._max_tokens)}"
            )

    def _check_failures(self, step: int, rollouts: Sequence[Rollout]) -> None:
        reasons = check_judged(f"step {step}", [rollout.verdict for rollout in rollouts], self._reward)
        if not reasons:
            return
        num, (reason, _) = reasons.total(), reasons.most_common(1)[0]
        if num >= ALERTING_SHARE * len(rollouts) and reason not in self._reported:
            self._reported.add(reason)
            self._alert(f"step {step}: {num} of {len(rollouts)} answers got no reward: {reason}")


def check_judged(where: str, verdicts: Sequence[Verdict], settings: RewardSection) -> Counter[str]:
    """Why answers have no reward, with their numbers. Raises RewardError, which says `where`, when none has one."""
    scorers = [one.scorer for one in settings.all_scorers]
    # A program that runs on is a wrong answer; a scorer of the user's that does is none.
    kinds = FAILED if any(map(is_plugin, scorers)) else UNJUDGEABLE
    reasons = Counter(verdict.text or verdict.kind for verdict in verdicts if verdict.kind in kinds)
    if verdicts and reasons.total() == len(verdicts):
        raise RewardError(
            f"{where}: no answer of {len(verdicts)} got a reward from {', '.join(scorers)}: "
            f"{reasons.most_common(1)[0][0]}; mend it, and continue with --resume"
        )
    return reasons


def likely_causes(rollouts: Sequence[Rollout], max_tokens: int) -> str:
    """What may make all rewards of every group equal, judging by the answers. Pure."""
    rewards = {rollout.reward for rollout in rollouts}
    num = len(rollouts)
    share_cut = sum(rollout.finish_reason == "length" for rollout in rollouts) / num
    share_parsable = sum(rollout.verdict.answer is not None for rollout in rollouts) / num
    share_same = 1 - len({rollout.text for rollout in rollouts}) / num
    causes = []
    if share_cut > 0.5:
        causes.append(f"{share_cut:.0%} of the answers are cut at rollout.sampling.max_tokens = {max_tokens}")
    if share_parsable < 0.5:
        causes.append(f"an answer can be parsed in {share_parsable:.0%} only: the model does not write the form asked")
    if share_same > 0.5:
        causes.append("most answers are the same text: rollout.sampling.temperature is too low, or the model collapsed")
    if len(set(array("f", rewards))) < len(rewards):
        causes.append("rewards differ by less than float32 tells apart: let the scorer return numbers of about 1")
    elif len(rewards) > 1:
        causes.append("answers to one problem never differ in reward: the scorer looks at the problem alone")
    elif all(rollout.verdict.correct for rollout in rollouts):
        causes.append("every answer is right: the problems are too easy")
    else:
        causes.append("the problems are too hard for the model, or the scorer gives the same to everything")
    low, high = min(rewards), max(rewards)
    what = f"every reward was {low:g}" if low == high else f"rewards were {low:g} to {high:g} between groups"
    return f"{what}; likely causes: {'; '.join(causes)}"
