"""Sums up an audit in numbers: shares with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel

from pipeline.audit.effects import LessonsEffect
from pipeline.audit.entries import AuditedEntry, JudgeAgreement, agreement
from pipeline.statistics import wilson_interval


class Share(BaseModel):
    """A share of `num` entries, with its 95 % interval (Wilson)."""

    num: int
    of: int
    low: float
    high: float

    @classmethod
    def counted(cls, entries: Sequence[AuditedEntry], holds: Callable[[AuditedEntry], bool]) -> Share:
        num = sum(map(holds, entries))
        low, high = wilson_interval(num, len(entries))
        return cls(num=num, of=len(entries), low=low, high=high)

    def __str__(self) -> str:
        share = f"{self.num / self.of:.0%}" if self.of else "-"
        return f"{share} ({self.num} of {self.of}; 95 % interval {self.low:.0%} to {self.high:.0%})"


class Useful(BaseModel):
    """Of the entries looked at, those that groups can be compared for, and those whose interval lies above or below
    zero."""

    num: int
    num_above: int
    num_below: int

    @classmethod
    def counted(cls, entries: Sequence[AuditedEntry]) -> Useful:
        found = [audited.effect for audited in entries if audited.effect is not None]
        return cls(num=len(found), num_above=sum(e.low > 0 for e in found), num_below=sum(e.high < 0 for e in found))

    def __str__(self) -> str:
        if not self.num:
            return "no entry that was shown to groups that can be compared"
        return (
            f"of {self.num} that were shown, {self.num_above} with an interval above 0 and {self.num_below} below "
            f"(by chance alone {0.025 * self.num:.1f} of each)"
        )


SHARES: dict[str, tuple[str, Callable[[AuditedEntry], bool]]] = {
    "without_details": ("no details of its problem found", lambda one: one.without_details),
    "with_numbers": ("… repeats numbers of its problem", lambda one: bool(one.numbers)),
    "with_names": ("… repeats names of its problem", lambda one: bool(one.names)),
    "copied": ("… copied from its source", lambda one: any("copied" in reason for reason in one.reasons)),
    "leaking": ("… gives the answer away", lambda one: one.leaks),
    "contradictory": ("warns of what it advises", lambda one: one.contradictory),
    "near_copies": ("nearly a copy of another", lambda one: bool(one.copy_of)),
    "never_retrieved": ("never retrieved", lambda one: one.num_retrieved == 0),
}
"""Fields of a report, as a person reads them, and of which entries each is the share."""


class AuditReport(BaseModel):
    """`num_entries` of the pool, of which those sampled were looked at; `effect` is over all groups of the run.

    `spread_only`: the run replaced groups without spread (`rollout.refill_zero_variance`), so they are in no
    comparison."""

    run: str
    num_entries: int
    num_sampled: int
    seed: int
    without_details: Share
    with_numbers: Share
    with_names: Share
    copied: Share
    leaking: Share
    contradictory: Share
    near_copies: Share
    never_retrieved: Share
    median_age_steps: float
    effect: LessonsEffect | None
    useful: Useful
    spread_only: bool = False
    judge: JudgeAgreement | None
    num_unreadable_verdicts: int

    @classmethod
    def of(
        cls,
        run: str,
        num_entries: int,
        entries: Sequence[AuditedEntry],
        seed: int,
        found: LessonsEffect | None,
        *,
        spread_only: bool = False,
    ) -> AuditReport:
        ages = sorted(audited.age_steps for audited in entries)
        shares: dict[str, Any] = {name: Share.counted(entries, holds) for name, (_, holds) in SHARES.items()}
        return cls(
            run=run,
            num_entries=num_entries,
            num_sampled=len(entries),
            seed=seed,
            median_age_steps=float(ages[len(ages) // 2]) if ages else 0.0,
            effect=found,
            useful=Useful.counted(entries),
            spread_only=spread_only,
            judge=agreement(entries),
            num_unreadable_verdicts=sum(audited.verdict == "unreadable" for audited in entries),
            **shares,
        )

    def rows(self) -> list[tuple[str, str]]:
        """Names and values, as a person reads them."""
        rows = [
            ("entries in the pool", str(self.num_entries)),
            ("looked at", f"{self.num_sampled}, drawn with seed {self.seed}"),
            *((words, str(getattr(self, name))) for name, (words, _) in SHARES.items()),
            ("median age", f"{self.median_age_steps:g} steps"),
            *self._effects(),
            ("useful entries", str(self.useful)),
        ]
        if self.judge is not None:
            kappa = "-" if self.judge.kappa is None else f"{self.judge.kappa:.2f}"
            rows.append(("judge agrees", f"{self.judge.share:.0%} of {self.judge.num}, Cohen's kappa {kappa}"))
        if self.num_unreadable_verdicts:
            rows.append(("verdicts that could not be read", str(self.num_unreadable_verdicts)))
        return rows

    def _effects(self) -> list[tuple[str, str]]:
        if self.effect is None:
            return [("reward, lessons − scratch drawn", "no groups to compare")]
        rows = [
            ("reward, lessons − scratch drawn", str(self.effect.drawn)),
            ("… drawn and found", f"{self.effect.share_carried:.0%} of the groups that drew lessons"),
        ]
        if self.effect.carried is not None:
            rows.append(("… where lessons were found", str(self.effect.carried)))
        if self.spread_only:
            rows.append(("… not among them", "groups without spread, which rollout.refill_zero_variance replaced"))
        return rows
