"""Keeps one server process running: start, look for readiness, restart when it dies, end it with its whole tree.

Invariants: at most one tree runs at a time; a first start that fails is reported at once (a restart would fail alike),
a server that was up is restarted at most `max_restarts` times with a pause that doubles; when `run` ends, in whatever
way, nothing of the tree is left.

| waits for | woken by |
|---|---|
| the server to come up | a look at it every LOOK_EVERY_S, until it is up or `startup_timeout_s` have passed |
| a server that is up to end | SIGCHLD |
| the order to stop | SIGTERM, SIGINT |
"""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from pathlib import Path

from pipeline.errors import ServerStartError
from servers.process_tree import Wakeups, end_tree

LOOK_EVERY_S = 0.5
MAX_PAUSE_S = 30.0
# What the guard needs beyond its own grace to reap what it killed.
REAP_S = 2.0
NUM_ERROR_LINES = 8


class Outcome(Enum):
    """How one life of the server ended."""

    STOPPED = auto()
    DIED_IN_START = auto()
    TOO_SLOW = auto()
    DIED = auto()


class Supervisor:
    """Runs `command` under a guard, its output appended to `log`. Use it from the main thread, for it handles signals.

    `is_up` says whether the server answers; it is asked every LOOK_EVERY_S until it says yes, and must return soon.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        is_up: Callable[[], bool],
        *,
        max_restarts: int,
        startup_timeout_s: float,
        first_pause_s: float = 1.0,
        grace_s: float = 10.0,
    ) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self._log = log
        self._is_up = is_up
        self._max_restarts = max_restarts
        self._startup_timeout_s = startup_timeout_s
        self._first_pause_s = first_pause_s
        self._grace_s = grace_s

    def run(self) -> None:
        """Return after SIGTERM or SIGINT. Raises ServerStartError when the server cannot be kept running."""
        with Wakeups((signal.SIGTERM, signal.SIGINT)) as wakeups:
            num_restarts = 0
            while True:
                offset = self._log.stat().st_size if self._log.exists() else 0
                outcome, status = self._live(wakeups)
                if outcome is Outcome.STOPPED:
                    return
                what = self._words(outcome, status)
                if num_restarts == 0 and outcome is not Outcome.DIED:
                    raise ServerStartError(f"{what}. Its log {self._log} says:\n{error_lines(self._log, offset)}")
                if num_restarts == self._max_restarts:
                    raise ServerStartError(
                        f"{what} after {num_restarts} restarts (servers.max_restarts). Its log {self._log} says:\n"
                        f"{error_lines(self._log, offset)}"
                    )
                pause_s = min(MAX_PAUSE_S, self._first_pause_s * 2**num_restarts)
                num_restarts += 1
                print(
                    f"{what}; restart {num_restarts} of {self._max_restarts} in {pause_s:g} s",
                    file=sys.stderr,
                    flush=True,
                )
                if self._pause(wakeups, pause_s):
                    return

    def _live(self, wakeups: Wakeups) -> tuple[Outcome, int]:
        """One life of the server: how it ended and the exit status. Nothing of it is left on return."""
        guarded = [sys.executable, "-m", "servers.guard", "--grace-s", str(self._grace_s), "--", *self._command]
        with self._log.open("ab") as output:
            output.write(f"=== {time.strftime('%Y-%m-%d %H:%M:%S')} {shlex.join(self._command)}\n".encode())
            output.flush()
            guard = subprocess.Popen(
                guarded,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
        try:
            outcome = self._watch(guard, wakeups)
        finally:
            if guard.stdin is not None:
                guard.stdin.close()
            end_tree(guard, wakeups, self._grace_s + REAP_S)
        return outcome, guard.returncode

    def _watch(self, guard: subprocess.Popen[bytes], wakeups: Wakeups) -> Outcome:
        deadline = time.monotonic() + self._startup_timeout_s
        up = False
        while guard.poll() is None and not wakeups.stop_requested:
            wakeups.wait(None if up else LOOK_EVERY_S)
            if not up and guard.poll() is None:
                up = self._is_up()
                if not up and time.monotonic() > deadline:
                    return Outcome.TOO_SLOW
        if wakeups.stop_requested:
            return Outcome.STOPPED
        return Outcome.DIED if up else Outcome.DIED_IN_START

    def _words(self, outcome: Outcome, status: int) -> str:
        if outcome is Outcome.TOO_SLOW:
            return f"the server did not answer within servers.startup_timeout_s = {self._startup_timeout_s:g}"
        return f"the server ended {'during its start' if outcome is Outcome.DIED_IN_START else 'by itself'} with status {status}"

    def _pause(self, wakeups: Wakeups, pause_s: float) -> bool:
        """Sleep; True when told to stop meanwhile."""
        deadline = time.monotonic() + pause_s
        while not wakeups.stop_requested and time.monotonic() < deadline:
            wakeups.wait(deadline - time.monotonic())
        return wakeups.stop_requested


def error_lines(log: Path, offset: int) -> str:
    """What `log` says from byte `offset` on about a failure: its distinct error messages, else its last lines.

    vLLM's last lines only say that the cause is above; the cause is the message of an exception somewhere before.
    """
    with log.open("rb") as file:
        file.seek(offset)
        text = file.read().decode("utf-8", errors="replace")
    lines = [_without_prefix(line) for line in text.splitlines()[1:] if line.strip()]
    errors = list(
        dict.fromkeys(line for line in lines if re.match(r"([\w.]*(Error|Exception)|.{0,60}\berror): \S", line))
    )
    return "\n".join((errors or lines)[-NUM_ERROR_LINES:])


def _without_prefix(line: str) -> str:
    """The line without vLLM's '(EngineCore pid=7) ERROR 11-23 07:49:03 [file.py:9] '."""
    return re.sub(r"^(\([^)]*pid=\d+\)\s*)?([A-Z]+ \d\d-\d\d \d\d:\d\d:\d\d \[[^]]*\]\s*)?", "", line).strip()
