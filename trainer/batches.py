"""The batch of an optimizer step, read from the rollout journal.

Step t is trained on the groups whose `step` is t, all slots of them, and only when all are there; the two of a pair,
which share mean and deviation of their advantages, are one unit of it. Which of their
rollouts are trained is decided here by rule (`masking_rule`): the others keep their place, and their rewards count in
the advantages of their group, but no token of theirs does. Whether a rollout is fresh enough is asked here again, where
it is consumed; the scheduler has refused stale ones already.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import compress
from typing import Any, NamedTuple

from pipeline.config import Config
from pipeline.run.lineage import Lineage
from pipeline.runtime.file_watcher import LOOK_EVERY_S, Changes
from pipeline.storage.journal import Journal
from pipeline.types import Rollout, RolloutGroup, advantage_groups, have_equal_rewards
from trainer.rows import Decode, Row, RowOf, sampled_row, scratch_row
from trainer.stop import StopSignal
from trainer.transfer import ContextRatio

BY_TOKENS = ("dapo", "cispo", "vespo")
"""Losses that are divided by the trained tokens of a step; the others by its rollouts."""
RULES = ("stale", "truncated", "zero_variance", "uncut")
PER_ROLLOUT = (
    *("prompt_ids", "completion_ids", "logprobs", "rewards", "on_policy"),
    *("in_context", "without_context", "trained", "staleness"),
)


@dataclass(frozen=True)
class RolloutBatch:
    """B = groups × G rollouts, the rows of a group together, and the groups of a pair, by length: less padding where
    several share a pass. The longest come first, and what follows fits into the memory that they leave."""

    prompt_ids: list[list[int]]
    completion_ids: list[list[int]]
    logprobs: list[list[float]]
    rewards: list[float]
    on_policy: list[bool]
    """Whether the rollout was sampled wholly by the weights that the step begins with."""
    in_context: list[bool]
    """Whether the rollout was sampled in a context."""
    without_context: list[bool]
    """Whether it was, and is trained without."""
    trained: list[bool]
    """Whether the rules let the rollout be trained."""
    num_masked: dict[str, int]
    """Rollouts that they do not, by the first rule that says so."""
    staleness: list[int]
    """Per rollout: optimizer steps between its oldest weights and this step."""
    share_zero_variance: float
    """Share of groups, or pairs, whose rewards are all equal."""
    wait_s: float
    group_size: int
    """Rows by whose rewards an advantage is normalised: G, or 2G of a pair."""
    num_trained_tokens: int = 0
    share_tokens_without_advantage: float = 0.0
    """Of the trained tokens, those of groups whose rewards are all equal: they dilute the policy gradient."""
    advantage_scale: float = 1.0
    """What advantages are multiplied by, so that they do not (`learner.rescale_zero_variance`)."""
    context_ratio: ContextRatio = ContextRatio()  # noqa: RUF009 - frozen
    """How rollouts count that are trained without their context."""
    as_sampled: RolloutBatch | None = None
    """The same rollouts as they were sampled, where these are trained as well, and by which share of the loss."""
    sampled_weight: float = 0.0

    def part(self, rank: int, num_parts: int) -> RolloutBatch:
        """What one of `num_parts` processes trains: every `num_parts`-th group from `rank` on, so that long ones are
        shared out."""
        if num_parts == 1:
            return self
        size = self.group_size
        rows = [
            row
            for first in range(rank * size, len(self.rewards), num_parts * size)
            for row in range(first, first + size)
        ]
        per_rollout: dict[str, Any] = {name: [getattr(self, name)[row] for row in rows] for name in PER_ROLLOUT}
        as_sampled = self.as_sampled and self.as_sampled.part(rank, num_parts)
        return dataclasses.replace(self, **per_rollout, as_sampled=as_sampled)

    def as_rollouts(self) -> dict[str, Any]:
        """What a `rollout_func` of TRL's returns, the journal's rewards among it; rollouts that are not trained are
        masked."""
        return {
            "prompt_ids": self.prompt_ids,
            "completion_ids": self.completion_ids,
            "logprobs": self.logprobs,
            "journal_reward": self.rewards,
            "env_mask": [
                [int(trained)] * len(ids) for trained, ids in zip(self.trained, self.completion_ids, strict=True)
            ],
        }


def masking_rule(config: Config, rollout: Rollout, step: int, *, zero_variance: bool) -> str | None:
    """The rule by which `rollout` is not trained at `step`, or None; `zero_variance` is that of its group or pair."""
    learner, max_staleness = config.learner, config.rollout.max_staleness
    if learner.max_trained_staleness is not None:
        max_staleness = min(learner.max_trained_staleness, max_staleness)
    if step - rollout.oldest_version.step > max_staleness:
        return "stale"
    if learner.mask_truncated and rollout.finish_reason == "length":
        return "truncated"
    if learner.mask_zero_variance and zero_variance:
        return "zero_variance"
    return None


class JournalReader:
    """Waits for the groups of a step and turns them into a batch. `decode` finds where solutions begin, for
    `learner.train_under = "scratch"`."""

    def __init__(
        self,
        journal: Journal,
        lineages: list[Lineage],
        config: Config,
        stop: StopSignal,
        decode: Decode = lambda token_ids: "",
    ) -> None:
        self._journal = journal
        self._lineages = lineages
        self._config = config
        self._stop = stop
        self._decode = decode

    def wait_for(self, step: int, on_wait: Callable[[], None] = lambda: None) -> RolloutBatch:
        """The batch of `step`; `on_wait` is called once if it is not there yet. Raises StopRequested.

        The journal is shared with another process through the store alone; a commit wakes this one, and only a change
        of the number of rows makes the groups be read again.
        """
        begin = time.monotonic()
        num_rows, num_groups, groups = -1, self._config.rollout.num_problems_per_step, []
        self._stop.check()
        with Changes(self._journal.commits) as commits:
            while True:
                now = self._journal.num_groups()
                if now != num_rows:
                    num_rows = now
                    groups = self._journal.read_step(step, self._lineages)
                if len(groups) == num_groups:
                    return self._batch(step, groups, time.monotonic() - begin)
                if len(groups) > num_groups:
                    raise ValueError(
                        f"step {step} has {len(groups)} groups in the journal, more than {num_groups} slots"
                    )
                on_wait()
                on_wait = _nothing
                self._stop.wait(LOOK_EVERY_S, commits)

    def _batch(self, step: int, groups: list[RolloutGroup], wait_s: float) -> RolloutBatch:
        for group in groups:
            self._check(step, group)
        units = advantage_groups(groups)
        for unit in units:
            self._check_unit(step, unit)
        learner = self._config.learner
        if learner.train_under == "sampled":
            return self._view(step, units, sampled_row, wait_s)
        return dataclasses.replace(
            self._view(step, units, partial(scratch_row, decode=self._decode), wait_s),
            as_sampled=self._view(step, units, sampled_row, wait_s) if learner.num_views > 1 else None,
            sampled_weight=learner.sampled_weight,
            context_ratio=ContextRatio(
                learner.context_ratio, learner.largest_context_ratio, learner.context_ratio_floor
            ),
        )

    def _view(self, step: int, units: list[tuple[RolloutGroup, ...]], row_of: RowOf, wait_s: float) -> RolloutBatch:
        """The batch whose rows `row_of` makes."""
        made = [
            [_Entry(group, [row_of(group, rollout) for rollout in group.rollouts], unit) for group in unit]
            for unit in units
        ]
        made.sort(key=lambda entries: sum(entry.length for entry in entries), reverse=True)
        ordered = [entry for entries in made for entry in entries]
        rollouts = [rollout for entry in ordered for rollout in entry.group.rollouts]
        rows = [row for entry in ordered for row in entry.rows]
        live = [not have_equal_rewards(entry.unit) for entry in ordered for _ in entry.rows]
        masked = [
            masking_rule(self._config, rollout, step, zero_variance=not is_live) or ("uncut" if row.is_uncut else None)
            for rollout, row, is_live in zip(rollouts, rows, live, strict=True)
        ]
        tokens = [0 if rule else len(row.completion_ids) for row, rule in zip(rows, masked, strict=True)]
        return RolloutBatch(
            prompt_ids=[row.prompt_ids for row in rows],
            completion_ids=[row.completion_ids for row in rows],
            logprobs=[row.logprobs for row in rows],
            rewards=[rollout.reward for rollout in rollouts],
            on_policy=[rollout.oldest_version.step == rollout.newest_version.step == step for rollout in rollouts],
            in_context=[entry.group.context.kind != "scratch" for entry in ordered for _ in entry.rows],
            without_context=[row.without_context for row in rows],
            trained=[rule is None for rule in masked],
            num_masked=dict(Counter(rule for rule in masked if rule)),
            staleness=[step - rollout.oldest_version.step for rollout in rollouts],
            share_zero_variance=sum(map(have_equal_rewards, units)) / len(units),
            wait_s=wait_s,
            group_size=self._config.rollout.advantage_group_size,
            num_trained_tokens=sum(tokens),
            share_tokens_without_advantage=1 - sum(compress(tokens, live)) / max(1, sum(tokens)),
            advantage_scale=self._scale(tokens, live),
        )

    def _scale(self, tokens: list[int], live: list[bool]) -> float:
        """All that the loss is divided by ÷ what of it has advantages; 1 where that is not wanted, or nothing has."""
        learner = self._config.learner
        counted = tokens if learner.loss_type in BY_TOKENS else [1] * len(tokens)
        with_advantage = sum(compress(counted, live))
        return sum(counted) / with_advantage if learner.rescale_zero_variance and with_advantage else 1.0

    def _check_unit(self, step: int, unit: tuple[RolloutGroup, ...]) -> None:
        if len(unit) != self._config.rollout.slots_per_problem or len({group.problem.id for group in unit}) != 1:
            slots = ", ".join(f"{group.slot} of problem {group.problem.id}" for group in unit)
            raise ValueError(
                f"step {step}: the advantages of one problem are over {self._config.rollout.slots_per_problem} groups "
                f"(rollout.paired_groups), and the journal has slots {slots}"
            )

    def _check(self, step: int, group: RolloutGroup) -> None:
        if len(group.rollouts) != self._config.rollout.group_size:
            raise ValueError(
                f"group {group.id} has {len(group.rollouts)} rollouts, not {self._config.rollout.group_size}"
            )
        newest = max(rollout.newest_version.step for rollout in group.rollouts)
        if newest > step:
            raise ValueError(
                f"group {group.id} of step {step} was sampled by weights of step {newest}, which are newer"
            )
        if not group.prompt_ids or not all(rollout.token_ids for rollout in group.rollouts):
            raise ValueError(f"group {group.id} has an empty prompt or completion")


class _Entry(NamedTuple):
    """A group with its rows, and the pair that it is of, or itself."""

    group: RolloutGroup
    rows: list[Row]
    unit: tuple[RolloutGroup, ...]

    @property
    def length(self) -> int:
        return len(self.rows[0].prompt_ids) + sum(len(row.completion_ids) for row in self.rows)


def _nothing() -> None:
    return None
