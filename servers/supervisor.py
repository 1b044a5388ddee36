"""Keeps one server process running: start, look for readiness, restart when it dies, end it with its whole tree.

Invariants: at most one tree runs at a time; a first start that fails is reported at once (a restart would fail alike),
a server that was up is restarted at most `max_restarts` times with a pause that doubles; when `run` ends, in whatever
way, nothing of the tree is left.

| waits for | woken by |
|---|---|
| the server to come up | a look at it every LOOK_EVERY_S, until it is up or `startup_timeout_s` have passed |
| a server that is up to end | its pidfd |
| the order to stop | SIGTERM, SIGINT |
"""

from __future__ import annotations

import asyncio
import itertools
import re
import shlex
import subprocess
import sys
import time
from asyncio import FIRST_COMPLETED
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from pipeline.errors import ServerStartError
from pipeline.runtime.child_process import Process
from pipeline.runtime.event_loop import on_signal
from servers.process_tree import end_tree

LOOK_EVERY_S = 0.5
MAX_PAUSE_S = 30.0
# What the guard needs beyond its own grace to reap what it killed.
REAP_S = 2.0
NUM_ERROR_LINES = 8
ERROR = re.compile(r"([\w.]*(Error|Exception)|.{0,60}\berror): \S")
PREFIX = re.compile(r"^(\([^)]*pid=\d+\)\s*)?([A-Z]+ \d\d-\d\d \d\d:\d\d:\d\d \[[^]]*\]\s*)?")
"""What vLLM puts before a line: '(EngineCore pid=7) ERROR 11-23 07:49:03 [file.py:9] '."""


class Outcome(Enum):
    """How one life of the server ended, in the words of its message."""

    STOPPED = ""
    DIED_IN_START = "the server ended during its start with status {status}"
    TOO_SLOW = "the server did not answer within servers.startup_timeout_s = {startup_timeout_s:g}"
    DIED = "the server ended by itself with status {status}"


@dataclass(frozen=True)
class Supervisor:
    """Runs `command` under a guard, its output appended to `log`. Use it from the main thread, for it handles signals.

    `is_up` says whether the server answers; it is called in a thread every LOOK_EVERY_S until it says yes.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    is_up: Callable[[], bool]
    max_restarts: int
    startup_timeout_s: float
    first_pause_s: float = 1.0
    grace_s: float = 10.0

    async def run(self) -> None:
        """Return after SIGTERM or SIGINT. Raises ServerStartError when the server cannot be kept running."""
        requested = asyncio.Event()
        with on_signal(requested.set):
            await self._keep_up(asyncio.create_task(requested.wait()))

    async def _keep_up(self, stop: asyncio.Task[Any]) -> None:
        for num_restarts in itertools.count():
            offset = self.log.stat().st_size if self.log.exists() else 0
            outcome, status = await self._live(stop)
            if outcome is Outcome.STOPPED:
                return
            what = outcome.value.format(status=status, startup_timeout_s=self.startup_timeout_s)
            never_up = num_restarts == 0 and outcome is not Outcome.DIED
            if never_up or num_restarts == self.max_restarts:
                after = "" if never_up else f" after {num_restarts} restarts (servers.max_restarts)"
                raise ServerStartError(f"{what}{after}. Its log {self.log} says:\n{error_lines(self.log, offset)}")
            pause_s = min(MAX_PAUSE_S, self.first_pause_s * 2**num_restarts)
            restart = f"restart {num_restarts + 1} of {self.max_restarts} in {pause_s:g} s"
            print(f"{what}; {restart}", file=sys.stderr, flush=True)
            await asyncio.wait([stop], timeout=pause_s)
            if stop.done():
                return

    async def _live(self, stop: asyncio.Task[Any]) -> tuple[Outcome, int]:
        """One life of the server: how it ended and the exit status. Nothing of it is left on return."""
        guarded = [sys.executable, "-m", "servers.guard", "--grace-s", str(self.grace_s), "--", *self.command]
        with self.log.open("ab") as output:
            output.write(f"=== {time.strftime('%Y-%m-%d %H:%M:%S')} {shlex.join(self.command)}\n".encode())
            output.flush()
            guard = await Process.start(
                guarded, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, env=self.environment
            )
        assert guard.stdin is not None
        try:
            outcome = await self._watch(guard, stop)
        finally:
            guard.stdin.close()
            await end_tree(guard, self.grace_s + REAP_S)
        return outcome, await guard.wait()

    async def _watch(self, guard: Process, stop: asyncio.Task[Any]) -> Outcome:
        """Wait until the server ends, stops being waited for, or is to be stopped."""
        ends = [asyncio.create_task(guard.wait()), stop]
        deadline = time.monotonic() + self.startup_timeout_s
        up = False
        while not (await asyncio.wait(ends, timeout=None if up else LOOK_EVERY_S, return_when=FIRST_COMPLETED))[0]:
            up = await asyncio.to_thread(self.is_up)
            if not up and time.monotonic() > deadline:
                return Outcome.TOO_SLOW
        if stop.done():
            return Outcome.STOPPED
        return Outcome.DIED if up else Outcome.DIED_IN_START


def error_lines(log: Path, offset: int) -> str:
    """What `log` says from byte `offset` on about a failure: its distinct error messages, else its last lines.

    vLLM's last lines only say that the cause is above; the cause is the message of an exception somewhere before.
    """
    with log.open("rb") as file:
        file.seek(offset)
        text = file.read().decode("utf-8", errors="replace")
    lines = [PREFIX.sub("", line).strip() for line in text.splitlines()[1:] if line.strip()]
    errors = [line for line in lines if ERROR.match(line)]
    return "\n".join((list(dict.fromkeys(errors)) or lines)[-NUM_ERROR_LINES:])
