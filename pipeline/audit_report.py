"""What an audit found, in numbers: shares with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import BaseModel

from pipeline.audit import Agreement, Effect, Sighting, agreement
from pipeline.metrics import wilson_interval


class Share(BaseModel):
    """A share of `num` entries, with its 95 % interval (Wilson)."""

    num: int
    of: int
    low: float
    high: float

    @classmethod
    def counted(cls, sightings: Sequence[Sighting], holds: Callable[[Sighting], bool]) -> Share:
        num = sum(map(holds, sightings))
        low, high = wilson_interval(num, len(sightings))
        return cls(num=num, of=len(sightings), low=low, high=high)

    def __str__(self) -> str:
        share = f"{self.num / self.of:.0%}" if self.of else "-"
        return f"{share} ({self.num} of {self.of}; 95 % interval {self.low:.0%} to {self.high:.0%})"


class AuditReport(BaseModel):
    """`num_entries` of the pool, of which those sampled were looked at; `effect` is over all groups of the run."""

    run: str
    num_entries: int
    num_sampled: int
    seed: int
    transferable: Share
    with_numbers: Share
    with_names: Share
    copied: Share
    leaking: Share
    contradictory: Share
    near_copies: Share
    never_retrieved: Share
    median_age_steps: float
    effect: Effect | None
    judge: Agreement | None
    num_unreadable_verdicts: int

    @classmethod
    def of(
        cls, run: str, num_entries: int, sightings: Sequence[Sighting], seed: int, found: Effect | None
    ) -> AuditReport:
        def share(holds: Callable[[Sighting], bool]) -> Share:
            return Share.counted(sightings, holds)

        ages = sorted(sighting.age_steps for sighting in sightings)
        return cls(
            run=run,
            num_entries=num_entries,
            num_sampled=len(sightings),
            seed=seed,
            transferable=share(lambda s: s.transferable),
            with_numbers=share(lambda s: bool(s.numbers)),
            with_names=share(lambda s: bool(s.names)),
            copied=share(lambda s: any("copied" in reason for reason in s.reasons)),
            leaking=share(lambda s: s.leaks),
            contradictory=share(lambda s: s.contradictory),
            near_copies=share(lambda s: bool(s.copy_of)),
            never_retrieved=share(lambda s: s.num_retrieved == 0),
            median_age_steps=float(ages[len(ages) // 2]) if ages else 0.0,
            effect=found,
            judge=agreement(sightings),
            num_unreadable_verdicts=sum(sighting.verdict == "unreadable" for sighting in sightings),
        )

    def rows(self) -> list[tuple[str, str]]:
        """Names and values, as a person reads them."""
        rows = [
            ("entries in the pool", str(self.num_entries)),
            ("looked at", f"{self.num_sampled}, drawn with seed {self.seed}"),
            ("transferable", str(self.transferable)),
            ("… repeats numbers of its problem", str(self.with_numbers)),
            ("… repeats names of its problem", str(self.with_names)),
            ("… copied from its source", str(self.copied)),
            ("… gives the answer away", str(self.leaking)),
            ("warns of what it advises", str(self.contradictory)),
            ("nearly a copy of another", str(self.near_copies)),
            ("never retrieved", str(self.never_retrieved)),
            ("median age", f"{self.median_age_steps:g} steps"),
            ("reward with a lesson − from scratch", _effect_words(self.effect)),
        ]
        if self.judge is not None:
            kappa = "-" if self.judge.kappa is None else f"{self.judge.kappa:.2f}"
            rows.append(("judge agrees", f"{self.judge.share:.0%} of {self.judge.num}, Cohen's kappa {kappa}"))
        if self.num_unreadable_verdicts:
            rows.append(("verdicts that could not be read", str(self.num_unreadable_verdicts)))
        return rows


def _effect_words(found: Effect | None) -> str:
    if found is None:
        return "no groups to compare"
    return (
        f"{found.difference:+.3f} (95 % interval {found.low:+.3f} to {found.high:+.3f}; "
        f"{found.num_with} groups with, {found.num_without} from scratch)"
    )
