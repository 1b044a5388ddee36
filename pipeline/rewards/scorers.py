"""Built-in scorers: functions that decide the verdict on an answer, by mathematics, tests, or a task family."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import cache, partial

from pipeline.config.rollout import RewardSection
from pipeline.errors import ConfigError, IsolationError
from pipeline.rewards.code.extraction import as_program, extract_code
from pipeline.rewards.code.sandbox import isolation_problem
from pipeline.rewards.code.test_runner import run_tests
from pipeline.rewards.extraction import cleaned, conclusion, extract_answer
from pipeline.rewards.families import judgement
from pipeline.rewards.math import same_answer, within
from pipeline.types import Label, Verdict

MAX_ANSWER_CHARS = 1000
Scorer = Callable[[str, Label], Verdict]
"""Of a text without a model's thinking."""


def make_scorer(name: str, settings: RewardSection) -> Scorer:
    """The function (text, label) → verdict of a built-in scorer; of a user's own: `pipeline.rewards.contract`.

    Raises ConfigError for one that cannot be had.
    """
    if name == "code" and (problem := isolation_problem()):
        raise ConfigError(f"reward.scorer = 'code': {problem}")
    scorers = {"auto": _auto, "math": math_verdict, "code": code_verdict, "format": _format_verdict}
    if name not in scorers:
        raise ConfigError(
            f"reward.scorer = {name!r} is unknown; use 'auto', 'math', 'code', 'format', 'judge' or your own "
            "'module:function'"
        )
    return partial(scorers[name], settings=settings)


def _auto(text: str, label: Label, settings: RewardSection) -> Verdict:
    """By what the label holds: tests of a program, what a family's own scorer needs, or an answer alone."""
    if "tests" in label.entry:
        _isolated()
        return code_verdict(text, label, settings)
    if "family" in label.entry:
        return _family_verdict(text, label, settings)
    return math_verdict(text, label, settings)


@cache
def _isolated() -> None:
    """Raises IsolationError where untrusted code cannot be contained."""
    if problem := isolation_problem():
        raise IsolationError(problem)


def _family_verdict(text: str, label: Label, settings: RewardSection) -> Verdict:
    """By the family's own scorer, which pays for parts of an answer, for its length, and for guesses among others: 1
    from the threshold on, and 0 below, unless `reward.graded`."""
    answer = extract_answer(text)
    if answer is None:
        return Verdict(kind="no_answer")
    score, correct = judgement(answer, label, settings.threshold)
    verdict = _verdict(score if settings.graded else float(correct), answer, settings)
    return verdict.model_copy(update={"correct": correct})


def _format_verdict(text: str, label: Label, settings: RewardSection) -> Verdict:
    """1 where an answer can be parsed, whatever it is."""
    answer = extract_answer(text)
    return Verdict(kind="no_answer") if answer is None else _verdict(1.0, answer, settings)


def math_verdict(text: str, label: Label, settings: RewardSection) -> Verdict:
    """Whether what `text` concludes with is the gold answer, its currency and units included."""
    answer = conclusion(text)
    if answer is None:
        return Verdict(kind="no_answer")
    return _verdict(math_score(answer, label), cleaned(answer), settings)


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


def code_verdict(text: str, label: Label, settings: RewardSection) -> Verdict:
    """Whether the code in `text` passes the tests of `label.entry`: `tests`, `entry_point` and, optionally, a `prompt`
    that the code completes and `setup`, which only the tests see.

    Raises ValueError when the tests cannot be run, IsolationError when nothing can.
    """
    tests, entry_point, prompt = label.entry["tests"], label.entry["entry_point"], label.entry.get("prompt", "")
    setup = "\n".join(part for part in (prompt, label.entry.get("setup", "")) if part)
    code = extract_code(text, entry_point)
    if code is None:
        return Verdict(kind="no_answer")
    program = as_program(code, prompt, entry_point)
    limit_s = 0.8 * settings.timeout_s  # within the parent's, which would cost a new worker
    outcome = asyncio.run(run_tests(program, tests, entry_point, setup=setup, timeout_s=limit_s))
    if outcome.kind == "error":
        raise ValueError(outcome.reason)
    if outcome.kind == "timeout":
        return Verdict(kind="timeout")
    return _verdict(float(outcome.kind == "passed"), code, settings)
