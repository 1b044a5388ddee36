"""The process that scores answers: JSON lines in, JSON lines out; the parent kills it when it overruns.

Run by `pipeline.rewards.verifier` as `python -m pipeline.rewards.worker REWARD_SECTION_AS_JSON`. The first line out
says that it is ready and how answers should come, or why it cannot be. A request holds answers to one or several
problems; one line goes out for each answer, in order, as soon as its verdict is there. Scoring runs in the main thread.
No library's own time-out is used: those raise inside code that may swallow the exception and then report a wrong
answer; the parent's kill cannot be mistaken. What a scorer prints goes to the log of this process, and what it reads
from is empty: neither is the pipe to the parent. Should the parent be gone, the worker ends by itself: at the end of
its input, or a while after the time-out when stuck. Memory is limited to what the libraries take plus 1 GiB."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from pipeline.config.rollout import RewardSection
from pipeline.errors import ConfigError, IsolationError
from pipeline.rewards.scorers import math_score
from pipeline.rewards.scoring import Answer, Scoring
from pipeline.types import Label, Task

MEMORY_BYTES = 1 << 30


def _warm_up(settings: RewardSection) -> None:
    """Import and exercise the libraries, so that no answer's time pays for it."""
    names = {one.scorer for one in settings.all_scorers}
    if names & {"auto", "math"}:
        math_score(r"\int_0^1 x \, dx", Label(problem_id="", answer="1/2"))
    if "auto" in names:
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


def _answers(line: bytes) -> list[Answer]:
    """The answers of a request; those to one problem share its task."""
    found: list[Answer] = []
    for job in json.loads(line)["jobs"]:
        task = Task.model_validate(job["task"])
        found += [(text, task) for text in job["texts"]]
    return found


def _serve(requests: BinaryIO, replies: BinaryIO, scoring: Scoring, timeout_s: float) -> None:
    for line in requests:
        answers = _answers(line)
        verdicts = scoring.verdicts(answers)
        for _, task in answers:
            # SIGALRM ends the process. Twice the parent's deadline: it strikes only when the parent is gone.
            signal.setitimer(signal.ITIMER_REAL, 2 * timeout_s * (len(answers) if scoring.whole_groups else 1) + 5)
            try:
                reply: dict[str, Any] = {"verdict": next(verdicts).model_dump()}
            except IsolationError as error:
                reply = {"config_error": f"problem {task.problem.id!r} asks for a program, but {error}"}
            signal.setitimer(signal.ITIMER_REAL, 0)
            _write(replies, reply)


def _write(replies: BinaryIO, reply: dict[str, Any]) -> None:
    try:
        replies.write(orjson.dumps(reply) + b"\n")
        replies.flush()
    except OSError as error:
        sys.stderr.write(f"it closed a file that it did not open, the pipe that rewards go through ({error})\n")
        os._exit(1)  # at an ordinary exit the pipe would be flushed again, with a traceback


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes from and to the parent, out of reach of what a scorer reads and prints."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, replies


def main(section: str) -> None:
    requests, replies = _own_pipes()
    settings = RewardSection.model_validate_json(section)
    try:
        scoring = Scoring(settings)
        _warm_up(settings)
    except ConfigError as error:
        _write(replies, {"config_error": str(error)})
        return
    _limit_memory()
    wishes = {"whole_groups": scoring.whole_groups, "concurrency": scoring.concurrency, "hint": scoring.hint}
    _write(replies, {"ready": True, **wishes})
    try:
        _serve(requests, replies, scoring, settings.timeout_s)
    finally:
        scoring.close()


if __name__ == "__main__":
    main(sys.argv[1])
