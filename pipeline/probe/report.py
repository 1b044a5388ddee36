"""What the answers of a probe say: rates and paired effects with 95 % intervals, a verdict on each skill, a conclusion.

A rate is a share of problems with Wilson's interval, an effect the mean difference of two conditions on the same
problems (`pipeline.statistics.paired`). A verdict is "yes" or "no" where the interval excludes the other, or where it
is of `ENOUGH` problems or more, "partly" where a part of the skill is there, else "unclear": few problems decide
nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from pydantic import Field

from pipeline.probe.grounds import BUILT_IN
from pipeline.probe.skills import (
    BY_USE,
    BY_WORDS,
    CONTRARY,
    CRITIQUE,
    FREE,
    FRESH,
    IRRELEVANT,
    LESSON,
    NONE,
    NUM_CHOICES,
    OWN,
    OWN_FREE,
    SKILLS,
    WRONG,
    Answer,
    Skill,
)
from pipeline.statistics import paired, wilson_interval
from pipeline.types import Record

FOLLOWS, BEYOND_CONTENT_FREE = 0.60, 0.20
COSTS = 0.03
TELLS = 0.80
UPHOLDS, OVERTURNS = 0.80, 0.50
ENOUGH = 100
"""Problems of which a rate is taken as it is."""
SOLVABLE = 0.20
"""Least accuracy without a lesson at which a cost could be seen."""
FEWEST = 8
"""Attempts of a kind below which nothing is said."""

INSPECTED = {
    "right": "right attempts upheld",
    "wrong": "wrong attempts overturned",
    "cut": "cut attempts completed",
}
"""By the kind of attempt, the rate of right answers after a critique."""
READERS = (BY_USE, BY_WORDS)
Verdict = Literal["yes", "partly", "no", "unclear"]

VERDICTS: tuple[Verdict, ...] = ("yes", "partly", "no", "unclear")


class Rate(Record):
    """A share of `num` problems with its interval."""

    name: str
    value: float
    low: float
    high: float
    num: int

    def __str__(self) -> str:
        return f"{self.value:.0%} [{self.low:.0%}, {self.high:.0%}] of {self.num}"


class Effect(Record):
    """A paired difference over `num` problems with its interval, in shares."""

    name: str
    value: float
    low: float
    high: float
    p_value: float
    num: int

    def __str__(self) -> str:
        return f"{100 * self.value:+.1f} points [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


class SkillReport(Record):
    """What was measured of a skill on a ground."""

    skill: Skill
    ground: str
    verdict: Verdict
    reason: str
    rates: tuple[Rate, ...]
    effects: tuple[Effect, ...] = ()

    def rate(self, name: str) -> Rate | None:
        return next((rate for rate in self.rates if rate.name == name), None)

    def effect(self, name: str) -> Effect | None:
        return next((effect for effect in self.effects if effect.name == name), None)


class ProbeReport(Record):
    """`verdicts` are by skill over all grounds, `needs_sft` the skills that are missing."""

    name: str
    skills: tuple[SkillReport, ...]
    verdicts: dict[Skill, Verdict]
    needs_sft: tuple[str, ...]
    conclusion: str
    failures: dict[str, int] = Field(default_factory=dict)
    num_requests: int = 0
    num_known: int = 0
    num_prompt_tokens: int = 0
    num_completion_tokens: int = 0
    cost: float = 0.0
    seconds: float = 0.0

    def line(self) -> str:
        """The verdicts and their main numbers, for a log."""
        return "; ".join(f"{one.skill} ({one.ground}) {one.verdict}: {one.reason}" for one in self.skills)


class _Cells:
    """Answers of one skill on one ground."""

    def __init__(self, answers: Iterable[Answer]) -> None:
        self._answers = list(answers)

    def of(self, condition: str, **traits: str) -> dict[str, bool]:
        """Whether each problem was answered as it should be, under a condition and with these traits."""
        return {
            answer.problem_id: answer.correct
            for answer in self._answers
            if answer.condition == condition and traits.items() <= answer.traits.items()
        }

    def rate(self, name: str, condition: str, **traits: str) -> list[Rate]:
        return rate(name, list(self.of(condition, **traits).values()))

    def effect(self, name: str, condition: str, other: str) -> list[Effect]:
        """`condition` − `other`."""
        first, second = self.of(condition), self.of(other)
        both = [problem for problem in first if problem in second]
        if not both:
            return []
        found = paired([float(first[one]) for one in both], [float(second[one]) for one in both])
        return [
            Effect(name=name, value=found.effect, low=found.low, high=found.high, p_value=found.p_value, num=len(both))
        ]

    def accepted(self) -> list[bool]:
        """Whether each lesson passed the checks of training."""
        return [not answer.traits["rejected"] for answer in self._answers if answer.condition == BY_USE]

    def values(self, trait: str) -> list[str]:
        return list(dict.fromkeys(answer.traits[trait] for answer in self._answers if trait in answer.traits))


def rate(name: str, outcomes: Sequence[bool]) -> list[Rate]:
    """None where there is nothing to measure."""
    if not outcomes:
        return []
    low, high = wilson_interval(sum(outcomes), len(outcomes))
    return [Rate(name=name, value=sum(outcomes) / len(outcomes), low=low, high=high, num=len(outcomes))]


def report(name: str, answers: Sequence[Answer], **facts: object) -> ProbeReport:
    """`facts` are the fields of a ProbeReport about requests and time."""
    found: list[SkillReport] = []
    for skill in SKILLS:
        for ground in sorted({answer.ground for answer in answers if answer.skill == skill}, key=_place):
            cells = _Cells(answer for answer in answers if (answer.skill, answer.ground) == (skill, ground))
            if (measured := MEASURES[skill](ground, cells, found)) is not None:
                found.append(measured)
    verdicts = {
        skill: overall([one.verdict for one in found if one.skill == skill])
        for skill in SKILLS
        if any(one.skill == skill for one in found)
    }
    missing = tuple(skill for skill, verdict in verdicts.items() if verdict in ("no", "partly"))
    return ProbeReport.model_validate(
        {
            "name": name, "skills": tuple(found), "verdicts": verdicts, "needs_sft": missing,
            "conclusion": conclusion(verdicts), **facts,
        }
    )  # fmt: skip


def _place(ground: str) -> tuple[int, str]:
    """In tables; answers come in any order."""
    return (BUILT_IN.index(ground) if ground in BUILT_IN else len(BUILT_IN)), ground


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict over several grounds: what one of them lacks is lacking; those that say nothing do not count."""
    telling = set(verdicts) - {"unclear"}
    if not telling:
        return "unclear"
    if len(telling) == 1:
        return telling.pop()
    return "partly"


def conclusion(verdicts: Mapping[Skill, Verdict]) -> str:
    """The answer to "does it need SFT", in a sentence or two."""
    if not verdicts:
        return "Nothing was measured."
    by = {verdict: [skill for skill, found in verdicts.items() if found == verdict] for verdict in VERDICTS}
    parts = []
    if by["yes"]:
        parts.append(f"It can {_listed(by['yes'])}.")
    if by["partly"]:
        parts.append(f"It can {_listed(by['partly'])} in part.")
    if by["no"]:
        parts.append(f"It cannot {_listed(by['no'])}.")
    if by["unclear"]:
        parts.append(
            f"Whether it can {_listed(by['unclear'])} these problems do not tell: ask more of them (--n), or others "
            "(--problems)."
        )
    if missing := [*by["no"], *by["partly"]]:
        parts.append(f"SFT is needed for {_listed(missing)}: train with sft.enabled = true, or `sft` alone.")
    elif not by["unclear"]:
        parts.append("It needs no SFT: train with sft.enabled = false.")
    return " ".join(parts)


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _reaches(found: Rate | Effect, least: float) -> Verdict:
    """Whether it is `least` or more."""
    if found.low >= least or (found.value >= least and found.num >= ENOUGH):
        return "yes"
    if found.high < least or found.num >= ENOUGH:
        return "no"
    return "unclear"


def _of_parts(*parts: Verdict) -> Verdict:
    """The verdict on a skill that is there where all of its parts are."""
    known = overall(parts)
    return "unclear" if known == "yes" and "unclear" in parts else known


def _follow(ground: str, cells: _Cells, before: Sequence[SkillReport]) -> SkillReport | None:
    both = _both(cells)
    if not both:
        return None
    rates = [
        *rate("both contradicting lessons followed", list(both.values())),
        *(
            one
            for trait in ("wording", "rules")
            for value in cells.values(trait)
            for one in rate(f"both followed, {trait} {value}", list(_both(cells, **{trait: value}).values()))
        ),
        *(one for name in (LESSON, IRRELEVANT, FREE, NONE) for one in cells.rate(f"as the lesson says: {name}", name)),
    ]
    effects = [
        *cells.effect("lesson − content-free", LESSON, FREE),
        *cells.effect("lesson − irrelevant lesson", LESSON, IRRELEVANT),
        *cells.effect("lesson − no lesson", LESSON, NONE),
    ]
    beyond = effects[0]
    verdict = _of_parts(_reaches(rates[0], FOLLOWS), _reaches(beyond, BEYOND_CONTENT_FREE))
    if verdict == "no" and beyond.low > 0:
        verdict = "partly"
    reason = f"both of two contradicting lessons followed: {rates[0]}; lesson − content-free {beyond}"
    return SkillReport(
        skill="follow", ground=ground, verdict=verdict, reason=reason, rates=tuple(rates), effects=tuple(effects)
    )


def _both(cells: _Cells, **traits: str) -> dict[str, bool]:
    """Whether both answers are those of their own lesson's rule."""
    lesson, contrary = cells.of(LESSON, **traits), cells.of(CONTRARY, **traits)
    return {problem: lesson[problem] and contrary[problem] for problem in lesson if problem in contrary}


def _ignore(ground: str, cells: _Cells, before: Sequence[SkillReport]) -> SkillReport | None:
    names = (NONE, IRRELEVANT, WRONG, FREE, OWN, OWN_FREE)
    rates = [one for name in names for one in cells.rate(f"right: {name}", name)]
    effects = [
        *cells.effect("cost of an irrelevant lesson", NONE, IRRELEVANT),
        *cells.effect("cost of a wrong lesson", NONE, WRONG),
        *cells.effect("cost of content-free text", NONE, FREE),
        *cells.effect("lessons of the pool − no lesson", OWN, NONE),
        *cells.effect("lessons of the pool − content-free", OWN, OWN_FREE),
    ]
    if not effects:
        return None
    cost, alone = effects[0], rates[0]
    reason = f"an irrelevant lesson costs {cost}, so at most {100 * max(cost.high, 0):.1f}; right without {alone}"
    verdict: Verdict = "unclear"
    if alone.value < SOLVABLE:
        reason += "; too few to see a cost"
    elif cost.high <= COSTS:
        verdict = "yes"
    elif cost.value > COSTS and cost.low > 0:
        verdict = "no"
    return SkillReport(
        skill="ignore", ground=ground, verdict=verdict, reason=reason, rates=tuple(rates), effects=tuple(effects)
    )


def _summarise(ground: str, cells: _Cells, before: Sequence[SkillReport]) -> SkillReport | None:
    # A cut attempt may not show its method: it is no ground for a verdict.
    whole = {by: [*cells.of(by, attempt="right").values(), *cells.of(by, attempt="wrong").values()] for by in READERS}
    rates = [
        *rate("rule told by what a reader does with the lesson", whole[BY_USE]),
        *rate("rule told by the lesson's words", whole[BY_WORDS]),
        *(
            one
            for by in READERS
            for kind in ("right", "wrong", "cut")
            for one in cells.rate(f"{by}, of attempts that are {kind}", by, attempt=kind)
        ),
        *rate("lesson accepted", cells.accepted()),
        *rate("attempt followed the rule that was told", list(cells.of("attempt").values())),
    ]
    if len(whole[BY_USE]) < FEWEST:
        reason = f"only {len(whole[BY_USE])} of its attempts followed any rule; nothing to tell from them"
        return SkillReport(skill="summarise", ground=ground, verdict="unclear", reason=reason, rates=tuple(rates))
    by_use, by_words = rates[:2]
    reads = any(one.skill == "follow" and one.verdict == "yes" for one in before)
    decides = by_use if reads or by_use.value >= by_words.value else by_words
    verdict = _reaches(decides, TELLS)
    if verdict == "no" and decides.low > 1 / NUM_CHOICES:
        verdict = "partly"
    how = "what a reader does with it" if decides is by_use else "its words, for the model does not follow lessons"
    reason = f"the lesson alone tells which of {NUM_CHOICES} rules an attempt followed: {decides}, by {how}"
    return SkillReport(skill="summarise", ground=ground, verdict=verdict, reason=reason, rates=tuple(rates))


def _inspect(ground: str, cells: _Cells, before: Sequence[SkillReport]) -> SkillReport | None:
    rates = [
        *(one for kind, name in INSPECTED.items() for one in cells.rate(name, CRITIQUE, attempt=kind)),
        *cells.rate("right from scratch where the attempt was wrong", FRESH),
    ]
    named = {one.name: one for one in rates}
    upheld, overturned = named.get(INSPECTED["right"]), named.get(INSPECTED["wrong"])
    reason = f"right attempts upheld: {upheld or 'none to see'}; wrong ones overturned: {overturned or 'none to see'}"
    parts: list[Verdict] = ["unclear", "unclear"]
    if upheld is None or upheld.num < FEWEST:
        reason += "; it is seldom right, so too hard to tell"
    else:
        parts[0] = _reaches(upheld, UPHOLDS)
        if overturned is not None and overturned.num >= FEWEST:
            parts[1] = _reaches(overturned, OVERTURNS)
    return SkillReport(skill="inspect", ground=ground, verdict=_of_parts(*parts), reason=reason, rates=tuple(rates))


Measure = Callable[[str, _Cells, Sequence[SkillReport]], SkillReport | None]
MEASURES: dict[Skill, Measure] = {
    "follow": _follow,
    "ignore": _ignore,
    "summarise": _summarise,
    "inspect": _inspect,
}
