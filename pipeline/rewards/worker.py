"""The process that scores answers: JSON lines in, JSON lines out, one at a time; the parent kills it when it overruns.

Run by `pipeline.rewards.verifier` as `python -m pipeline.rewards.worker REWARD_SECTION_AS_JSON`. The first line out says that it
is ready, or why it cannot be. Scoring runs in the main thread. No library's own time-out is used: those raise inside
code that may swallow the exception and then report a wrong answer; the parent's kill cannot be mistaken. Should the
parent be gone, the worker ends by itself: at the end of its input, or a while after the time-out when stuck. Memory is
limited to what the libraries take plus 1 GiB."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import resource
import signal
import sys
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from pipeline.config.problems import FamilySettings
from pipeline.config.rollout import RewardSection
from pipeline.errors import ConfigError, IsolationError
from pipeline.rewards.answers import cleaned, extract_answer, strip_think
from pipeline.rewards.code.extraction import as_program, extract_code
from pipeline.rewards.code.sandbox import isolation_problem
from pipeline.rewards.code.test_runner import run_tests
from pipeline.rewards.extraction import conclusion
from pipeline.rewards.math.equality import same_answer
from pipeline.rewards.math.tolerance import within
from pipeline.runtime.plugins import is_plugin, load_function
from pipeline.types import Label, Verdict

MEMORY_BYTES = 1 << 30
MAX_ANSWER_CHARS = 1000

Scorer = Callable[[str, Label], Verdict]


def make_scorer(settings: RewardSection) -> Scorer:
    """The function (text, label) → verdict that `reward.scorer` names.

    Raises ConfigError for one that cannot be had.
    """
    if is_plugin(settings.scorer):
        function = load_function(settings.scorer, "reward.scorer")
        return lambda text, label: _verdict(float(function(text, label.answer)), extract_answer(text), settings)
    if settings.scorer == "auto":
        return lambda text, label: _auto(text, label, settings)
    if settings.scorer == "math":
        return lambda text, label: math_verdict(text, label, settings)
    if settings.scorer == "code":
        try:
            _isolated()
        except IsolationError as error:
            raise ConfigError(f"reward.scorer = 'code': {error}") from error
        return lambda text, label: code_verdict(text, label, settings)
    raise ConfigError(
        f"reward.scorer = {settings.scorer!r} is unknown; use 'auto', 'math', 'code' or your own 'module:function'"
    )


def _auto(text: str, label: Label, settings: RewardSection) -> Verdict:
    """By what the label holds: tests of a program, what a family's own scorer needs, or an answer alone."""
    if "tests" in label.entry:
        _isolated()
        return code_verdict(text, label, settings)
    if "family" in label.entry:
        return _scored(text, label, family_score, settings)
    return math_verdict(text, label, settings)


@cache
def _isolated() -> None:
    """Raises IsolationError where untrusted code cannot be contained."""
    if problem := isolation_problem():
        raise IsolationError(problem)


def _scored(text: str, label: Label, score: Callable[[str, Label], float], settings: RewardSection) -> Verdict:
    answer = extract_answer(strip_think(text))
    if answer is None:
        return Verdict(kind="no_answer")
    return _verdict(score(answer, label), answer, settings)


def math_verdict(text: str, label: Label, settings: RewardSection) -> Verdict:
    """Whether what `text` concludes with is the gold answer, its currency and units included."""
    answer = conclusion(strip_think(text))
    if answer is None:
        return Verdict(kind="no_answer")
    return _verdict(math_score(answer, label), cleaned(answer), settings)


def _verdict(score: float, answer: str | None, settings: RewardSection) -> Verdict:
    if not math.isfinite(score):
        raise ValueError(f"the scorer returned {score}; a finite number is expected")
    shown = answer[:MAX_ANSWER_CHARS] if answer is not None else None
    return Verdict(kind="scored", score=score, correct=score >= settings.threshold, answer=shown)


def family_score(answer: str, label: Label) -> float:
    """The reasoning-gym family's own score of `answer`."""
    family = label.entry["family"]
    dataset = _family(family, json.dumps(label.entry.get("params", {}), sort_keys=True))
    return float(dataset.score_answer(answer, label.entry))


@lru_cache(maxsize=64)
def _family(name: str, params: str) -> Any:
    from pipeline.problems.reasoning_gym import create_family

    return create_family(FamilySettings(name=name, params=json.loads(params)), 0, 0, 1)


def math_score(answer: str, label: Label) -> float:
    """1 for the gold answer in whatever format, or within the error that the label allows, else 0.

    Raises ValueError for what is too large to judge."""
    if same_answer(label.answer, answer):
        return 1.0
    return float("tolerance" in label.entry and within(label.answer, answer, label.entry["tolerance"]))


def code_verdict(text: str, label: Label, settings: RewardSection) -> Verdict:
    """Whether the code in `text` passes the tests of `label.entry`: `tests`, `entry_point` and, optionally, a `prompt` that the code
    completes and `setup`, which only the tests see.

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


def _warm_up(settings: RewardSection) -> None:
    """Import and exercise the libraries, so that no answer's time pays for it."""
    if is_plugin(settings.scorer) or settings.scorer == "code":
        return
    math_score(r"\int_0^1 x \, dx", Label(problem_id="", answer="1/2"))
    if settings.scorer == "auto":
        import reasoning_gym  # noqa: F401


def _limit_memory() -> None:
    """Address space: what is mapped now plus MEMORY_BYTES."""
    try:
        mapped = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    except OSError:  # no /proc: limit to a generous total instead
        mapped = 3 * MEMORY_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = mapped + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def reply_to(text: str, label: Label, score: Scorer) -> bytes:
    """The reply line on one answer. Whatever scoring raises, memory errors included, is the outcome 'error'; that code cannot
    be contained is no outcome, but ends the run."""
    try:
        reply: dict[str, Any] = {"verdict": score(text, label).model_dump()}
    except IsolationError as error:
        reply = {"config_error": f"problem {label.problem_id!r} asks for a program, but {error}"}
    except Exception as error:  # noqa: BLE001 - the boundary: any failure of any scorer becomes an outcome
        reply = {"verdict": {"kind": "error"}, "reason": f"{type(error).__name__}: {str(error)[:300]}"}
    return orjson.dumps(reply) + b"\n"


def _serve(requests: BinaryIO, replies: BinaryIO, score: Scorer, timeout_s: float) -> None:
    for line in requests:
        request = json.loads(line)
        label = Label.model_validate(request["label"])
        for text in request["texts"]:
            # SIGALRM ends the process. Twice the parent's deadline: it strikes only when the parent is gone.
            signal.setitimer(signal.ITIMER_REAL, 2 * timeout_s + 5)
            reply = reply_to(text, label, score)
            signal.setitimer(signal.ITIMER_REAL, 0)
            replies.write(reply)
            replies.flush()


def main(section: str) -> None:
    # A scorer may print: its output must not mix with the replies.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    settings = RewardSection.model_validate_json(section)
    try:
        score = make_scorer(settings)
        _warm_up(settings)
    except ConfigError as error:
        replies.write(orjson.dumps({"config_error": str(error)}) + b"\n")
        replies.flush()
        return
    _limit_memory()
    replies.write(orjson.dumps({"ready": True}) + b"\n")
    replies.flush()
    _serve(sys.stdin.buffer, replies, score, settings.timeout_s)


if __name__ == "__main__":
    main(sys.argv[1])
