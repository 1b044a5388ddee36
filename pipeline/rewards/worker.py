"""The process that scores answers: JSON lines in, JSON lines out, one at a time; the parent kills it when it overruns.

Run by `pipeline.rewards.verifier` as `python -m pipeline.rewards.worker REWARD_SECTION_AS_JSON`. The first line out
says that it is ready, or why it cannot be. Scoring runs in the main thread. No library's own time-out is used: those
raise inside code that may swallow the exception and then report a wrong answer; the parent's kill cannot be mistaken.
Should the parent be gone, the worker ends by itself: at the end of its input, or a while after the time-out when stuck.
Memory is limited to what the libraries take plus 1 GiB."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from pipeline.config.rollout import RewardSection
from pipeline.errors import ConfigError, IsolationError
from pipeline.rewards.scorers import Scorer, make_scorer, math_score
from pipeline.runtime.plugins import is_plugin
from pipeline.types import Label

MEMORY_BYTES = 1 << 30


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
    """The reply line on one answer. Whatever scoring raises, memory errors included, is the outcome 'error'; that code
    cannot be contained is no outcome, but ends the run."""
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
