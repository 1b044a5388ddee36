"""Estimates the effect of lessons on rewards from the results of a run's groups (docs/method.md).

What is random and what is not. A group's kind of context is drawn by its step's settings alone
(`pipeline.experience.contexts.draw_kind`), so groups that drew inter and groups that drew scratch in the same step
differ by nothing but chance and the lessons. Whether a lesson is found for a group that drew inter is not random: more
are found later in a run, when rewards are higher, and for families that have many. So groups are compared by what they
drew (intention to treat), fall-backs included. A fall-back's prompt is that of a scratch group, so all of the
difference is due to the groups that carried lessons: it, divided by their share, is the effect where lessons were
found. Which entry a group was shown is not random: what `effect_of` says is an observation.

Groups are compared within strata of a window of steps and a family, because `feedback.ratio` may change with the step;
strata weigh as in a regression with an intercept for each (n1 n0 / (n1 + n0)). A run that replaces groups without
spread (`rollout.refill_zero_variance`) chose its groups by their rewards, and then none of this holds for the groups
left out. In place of a rescue (`feedback.rescue`) the journal tells the outcome of the group that was all wrong."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from pipeline.experience.usefulness import Use
from pipeline.statistics import middle_95, student_t
from pipeline.storage.journal import GroupResult
from pipeline.types import Record

NUM_RESAMPLES = 1000
MAX_WINDOWS = 20
PER_STRATUM = 4
"""Groups that drew inter, per stratum and on average, that a window of steps should hold."""
PRIOR_VARIANCE = 0.25
"""The most that rewards from 0 to 1 can have. It counts as one more group, so that few groups that agree are no
certainty."""
MAX_DIFFERENCE = 1.0
"""Of mean rewards from 0 to 1; those of a scorer of the user's may span more."""
SCRATCH, INTER, NEITHER = 0, 1, 2
ARMS = {"scratch": SCRATCH, "inter": INTER}


class Effect(Record):
    """A difference of mean rewards with its 95 % interval, and the numbers of groups that were compared."""

    difference: float
    low: float
    high: float
    num_with: int
    num_without: int

    def __str__(self) -> str:
        groups = "group" if self.num_with == 1 else "groups"
        return (
            f"{self.difference:+.3f} (95 % interval {self.low:+.3f} to {self.high:+.3f}; "
            f"{self.num_with} {groups} with, {self.num_without} without)"
        )


class LessonsEffect(Record):
    """Groups that drew inter against groups that drew scratch; and the same for those that carried lessons, None where
    none did."""

    drawn: Effect
    share_carried: float
    """Of the groups that drew inter."""
    carried: Effect | None


_COLUMNS = [
    ("step", int),
    ("family", int),
    ("problem", int),
    ("arm", int),
    ("carried", bool),
    ("mean", float),
    ("num", int),
]


class Groups:
    """The outcomes of a run as columns, about 50 bytes a group; `entry_ids` are the entries whose uses are
    remembered."""

    def __init__(self, outcomes: Iterable[GroupResult], entry_ids: Collection[str] = ()) -> None:
        self._uses: dict[str, list[int]] = {entry_id: [] for entry_id in entry_ids}
        self._groups: Any = np.fromiter(self._rows(outcomes), dtype=_COLUMNS)

    def _rows(self, outcomes: Iterable[GroupResult]) -> Iterator[tuple[Any, ...]]:
        families: dict[str, int] = {}
        problems: dict[str, int] = {}
        for index, outcome in enumerate(outcomes):
            for entry_id in outcome.lesson_ids:
                if entry_id in self._uses:
                    self._uses[entry_id].append(index)
            yield (
                outcome.step,
                families.setdefault(outcome.family, len(families)),
                problems.setdefault(outcome.problem_id, len(problems)),
                ARMS.get(outcome.drawn, NEITHER),
                outcome.kind == "inter",
                sum(outcome.rewards) / len(outcome.rewards),
                len(outcome.rewards),
            )

    def use_of(self, entry_id: str) -> Use:
        """The groups that saw one of `entry_ids`."""
        seen = self._groups[self._uses[entry_id]]
        return Use(len(seen), int(seen["num"].sum()), sum((seen["mean"] * seen["num"]).tolist(), 0.0))

    def effect_of_lessons(self, seed: int = 0, num_resamples: int = NUM_RESAMPLES) -> LessonsEffect | None:
        """What drawing inter did; None without groups to compare. Interval: a bootstrap over problems, each with all of
        its groups, or that of the pooled variance where it is wider (few groups, or hardly any spread)."""
        chosen = _comparable(self._strata, self._groups["arm"] == INTER, self._groups["arm"] == SCRATCH)
        if not len(chosen):
            return None
        strata, groups = self._strata[chosen], self._groups[chosen]
        arms, carried = groups["arm"], groups["carried"]
        cells = _Cells.of(strata, arms, groups["mean"])
        sums = _Sums(strata, arms, groups["problem"], groups["mean"], carried)
        found, share = sums.estimates()
        drawn, ratio = sums.resampled(np.random.default_rng(seed), num_resamples)
        low, high = cells.interval(found, prior=self._prior)
        num_with, num_without = int((arms == INTER).sum()), int((arms == SCRATCH).sum())
        effect = self._effect(found, (*middle_95(drawn), low, high), num_with, num_without)
        if share == 0:
            return LessonsEffect(drawn=effect, share_carried=0.0, carried=None)
        bounds = (*middle_95(ratio), low / share, high / share)
        of_carried = self._effect(found / share, bounds, int(carried[arms == INTER].sum()), num_without)
        return LessonsEffect(drawn=effect, share_carried=share, carried=of_carried)

    def effect_of(self, entry_id: str) -> Effect | None:
        """Groups that saw one of `entry_ids` against groups that drew scratch, of the same families and steps; None
        without any.

        An observation: an entry is shown for the problems that it suits. The interval takes the spread of rewards
        within strata to be that of all scratch groups of these families, so that a few groups that agree do not pass
        for certainty."""
        uses, means, families = self._uses[entry_id], self._groups["mean"], self._groups["family"]
        scratch = self._groups["arm"] == SCRATCH
        own: Any = np.zeros(len(means), dtype=bool)
        own[uses] = True
        chosen = _comparable(self._strata, own, scratch)
        if not len(chosen):
            return None
        cells = _Cells.of(self._strata[chosen], own[chosen].astype(int), means[chosen])
        others = scratch & np.isin(families, families[uses])
        others[chosen] = False
        rest = _Cells.of(self._strata[others], np.zeros(int(others.sum()), dtype=int), means[others])
        found, num_with = cells.difference(), int(own[chosen].sum())
        return self._effect(found, cells.interval(found, rest, prior=self._prior), num_with, len(chosen) - num_with)

    @property
    def _prior(self) -> float:
        """PRIOR_VARIANCE, of rewards that span more than from 0 to 1 as much more."""
        means = self._groups["mean"]
        return PRIOR_VARIANCE * max(1.0, float(np.ptp(means)) if len(means) else 0.0) ** 2

    @cached_property
    def _strata(self) -> Any:
        """The stratum of each group: its window of steps and its family."""
        steps, families = self._groups["step"], self._groups["family"]
        if not len(steps):
            return steps
        known, position = np.unique(steps, return_inverse=True)
        num_families = int(families.max()) + 1
        enough = int((self._groups["arm"] == INTER).sum()) // (PER_STRATUM * num_families)
        num_windows = max(1, min(MAX_WINDOWS, len(known), enough))
        return position * num_windows // len(known) * num_families + families

    def _effect(self, difference: float, bounds: Sequence[float], num_with: int, num_without: int) -> Effect:
        """`difference` within the widest of `bounds`, and within what mean rewards of groups can differ by."""
        most = max(MAX_DIFFERENCE, float(np.ptp(self._groups["mean"])), abs(difference))
        return Effect(
            difference=difference,
            low=max(-most, min(bounds)),
            high=min(most, max(bounds)),
            num_with=num_with,
            num_without=num_without,
        )


def _comparable(strata: Any, with_it: Any, without: Any) -> Any:
    """The places of the groups that are one or the other, in strata that have both."""
    both = np.intersect1d(strata[with_it], strata[without])
    return np.flatnonzero((with_it | without) & np.isin(strata, both))


class _Cells(NamedTuple):
    """Groups by stratum (S,), with (1) and without (0): their numbers, the sums of their means, and of their squares.
    (2, S)"""

    nums: Any
    sums: Any
    squares: Any

    @classmethod
    def of(cls, strata: Any, arms: Any, means: Any) -> _Cells:
        known, place = np.unique(strata, return_inverse=True)
        num = len(known)
        weights = (np.ones(len(means)), means, means**2)
        return cls(*(np.bincount(arms * num + place, values, 2 * num).reshape(2, num) for values in weights))

    @property
    def weights(self) -> Any:
        return self.nums.prod(axis=0) / self.nums.sum(axis=0)

    def difference(self) -> float:
        without, with_it = self.sums / self.nums
        return float(np.average(with_it - without, weights=self.weights))

    def interval(self, difference: float, *others: _Cells, prior: float) -> tuple[float, float]:
        """Student's, of the variance within these cells and `others`, with one more group of variance `prior`."""
        spread, freedom = prior, 1
        for cells in (self, *others):
            nums = np.maximum(cells.nums, 1)
            spread += max(0.0, float((cells.squares - cells.sums**2 / nums).sum()))
            freedom += int((nums - 1).sum())
        variance = spread / freedom
        half = student_t(freedom) * math.sqrt(variance / self.weights.sum())
        return difference - half, difference + half


class _Sums:
    """What a bootstrap over problems needs: groups added up by problem, stratum and arm. Lengths are of these rows."""

    def __init__(self, strata: Any, arms: Any, problems: Any, means: Any, carried: Any) -> None:
        _, place = np.unique(strata, return_inverse=True)
        _, problem = np.unique(problems, return_inverse=True)
        self._num_strata, self._num_problems = int(place.max()) + 1, int(problem.max()) + 1
        cell = arms * self._num_strata + place
        key, row = np.unique(problem * (2 * self._num_strata) + cell, return_inverse=True)
        self._problem, self._cell = np.divmod(key, 2 * self._num_strata)
        self._values = [np.bincount(row, weights=values) for values in (np.ones(len(row)), means, carried)]

    def estimates(self, times: Any = 1.0) -> tuple[float, float]:
        """The difference and the share that carried, with each problem taken so many `times`; NaN without a stratum
        with both."""
        cells = (np.bincount(self._cell, values * times, 2 * self._num_strata) for values in self._values)
        nums, means, carried = (values.reshape(2, self._num_strata) for values in cells)
        both = (nums > 0).all(axis=0)
        if not both.any():
            return math.nan, math.nan
        nums, means, carried = nums[:, both], means[:, both], carried[:, both]
        weights = nums.prod(axis=0) / nums.sum(axis=0)
        weights /= weights.sum()
        without, with_it = means / nums
        return float(weights @ (with_it - without)), float(weights @ (carried[INTER] / nums[INTER]))

    def resampled(self, rng: Any, num_resamples: int) -> tuple[Any, Any]:
        """Differences, and differences ÷ share that carried, over resamples of the problems."""
        found = np.empty((num_resamples, 2))
        for index in range(num_resamples):
            drawn = rng.integers(self._num_problems, size=self._num_problems)
            found[index] = self.estimates(np.bincount(drawn, minlength=self._num_problems)[self._problem])
        differences, shares = found[~np.isnan(found[:, 0])].T
        return differences, differences[shares > 0] / shares[shares > 0]
