"""Built-in scorers: functions that decide the verdict on an answer, by mathematics, tests, or a task family."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import cache, partial

from pipeline.config.rollout import RewardSection
from pipeline.errors import ConfigError, IsolationError
from pipeline.rewards.code.programs import ProgramScorer
from pipeline.rewards.code.sandbox import isolation_problem
from pipeline.rewards.extraction import cleaned, conclusion, extract_answer
from pipeline.rewards.families import judgement
from pipeline.rewards.math import is_echo, same_answer, within
from pipeline.types import MAX_ANSWER_CHARS, Label, Verdict

_ORDERED = re.compile(
    r"\bin (?:that|this|(?:\w+ly )?(?:in|de)creasing|ascending|descending|alphabetical|chronological|numerical) order\b"
    r"|\b(?:order(?:ed)?|list(?:ed)?|rank(?:ed)?|sort(?:ed)?)\b[^.?!]{0,60}\bfrom (?:the )?\w+ to (?:the )?\w+"
    r"|\brespectively\b",
    re.IGNORECASE,
)
_AND, _BRACES = re.compile(r",?\s+and\s+"), re.compile(r"\\[{}]")
DISORDERED = "the problem asks for an order, and it has another one"
ECHO = "it repeats an expression of the problem without computing it"
Scorer = Callable[..., Verdict]
"""(text, label, problem="") → verdict: of a text without a model's thinking, and of the problem's text where that may
count."""


def make_scorer(name: str, settings: RewardSection, programs: ProgramScorer | None = None) -> Scorer:
    """The function (text, label, problem) → verdict of a built-in scorer, which has `programs` run; of a user's own:
    `pipeline.rewards.contract`.

    Raises ConfigError for one that cannot be had.
    """
    if name == "code" and (problem := isolation_problem(settings.code.packages)):
        raise ConfigError(f"reward.scorer = 'code': {problem}")
    programs = programs or ProgramScorer(settings)
    scorers: dict[str, Callable[..., Verdict]] = {
        "auto": partial(_auto, programs),
        "code": programs,
        "math": math_verdict,
        "format": _format_verdict,
    }
    if name not in scorers:
        raise ConfigError(
            f"reward.scorer = {name!r} is unknown; use 'auto', 'math', 'code', 'format', 'judge' or your own "
            "'module:function'"
        )
    return partial(scorers[name], settings=settings)


def _auto(programs: ProgramScorer, text: str, label: Label, settings: RewardSection, problem: str = "") -> Verdict:
    """By what the label holds: tests of a program, what a family's own scorer needs, or an answer alone."""
    if "tests" in label.entry:
        _isolated(settings.code.packages)
        return programs(text, label, settings)
    if "family" in label.entry:
        return _family_verdict(text, label, settings, problem)
    return math_verdict(text, label, settings, problem)


@cache
def _isolated(packages: tuple[str, ...]) -> None:
    """Raises IsolationError where untrusted code cannot be contained."""
    if problem := isolation_problem(packages):
        raise IsolationError(problem)


def _family_verdict(text: str, label: Label, settings: RewardSection, problem: str) -> Verdict:
    """By the family's own scorer, which pays for parts of an answer, for its length, and for guesses among others: 1
    from the threshold on, and 0 below, unless `reward.graded`."""
    answer = extract_answer(text)
    if answer is None:
        return Verdict(kind="no_answer")
    if settings.refuse_echo and is_echo(problem, label.answer, answer):
        return _echo(answer, settings)
    score, correct = judgement(answer, label, settings.threshold)
    verdict = _verdict(score if settings.graded else float(correct), answer, settings)
    return verdict.model_copy(update={"correct": correct})


def _echo(answer: str, settings: RewardSection) -> Verdict:
    return _verdict(0.0, answer, settings).model_copy(update={"text": ECHO})


def _format_verdict(text: str, label: Label, settings: RewardSection, problem: str = "") -> Verdict:
    """1 where an answer can be parsed, whatever it is."""
    answer = extract_answer(text)
    return Verdict(kind="no_answer") if answer is None else _verdict(1.0, answer, settings)


def math_verdict(text: str, label: Label, settings: RewardSection, problem: str = "") -> Verdict:
    """Whether what `text` concludes with is the gold answer, its currency and units included, and not just a copy of
    what `problem` asks to compute."""
    answer = conclusion(text)
    if answer is None:
        return Verdict(kind="no_answer")
    score = math_score(answer, label)
    if score and _ORDERED.search(problem) and not any(_is_in_order(gold, answer) for gold in label.answers):
        return _verdict(0.0, cleaned(answer), settings).model_copy(update={"text": DISORDERED})
    if score and settings.refuse_echo and all(is_echo(problem, gold, answer) for gold in label.answers):
        return _echo(cleaned(answer), settings)
    return _verdict(score, cleaned(answer), settings)


def _is_in_order(gold: str, answer: str) -> bool:
    """Whether a list has the order of the gold one; what is no list, or is not its equal in any order (but within the
    error that the label allows), has."""
    listed = [_AND.sub(", ", _BRACES.sub("", each)) for each in (gold, cleaned(answer))]
    is_list = all("," in each and not each.startswith(("(", "[")) for each in listed)
    return not is_list or same_answer(*(f"({each})" for each in listed)) or not same_answer(gold, answer)


def _verdict(score: float, answer: str | None, settings: RewardSection) -> Verdict:
    if not math.isfinite(score):
        raise ValueError(f"the scorer returned {score}; a finite number is expected")
    shown = answer[:MAX_ANSWER_CHARS] if answer is not None else None
    return Verdict(kind="scored", score=score, correct=score >= settings.threshold, answer=shown)


def math_score(answer: str, label: Label) -> float:
    """1 for a gold answer in whatever format, or within the error that the label allows, else 0.

    Raises ValueError for what is too large to judge."""
    if any(same_answer(gold, answer) for gold in label.answers):
        return 1.0
    bounds = label.entry.get("tolerance")
    return float(bounds is not None and any(within(gold, answer, bounds) for gold in label.answers))
