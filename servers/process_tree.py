"""A process and everything that it starts, so that none of it outlives its owner. Standard library only; Linux.

Invariants: a subreaper adopts the orphans among its descendants, so they stay findable below it; `end_tree` returns
when no descendant is left. Waiting is on events (SIGCHLD, signals, a pipe), never on a poll.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
# Loaded once: looking a library up after fork, in a child that has not yet called exec, is not safe.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Ask the kernel to send this process `number` when the thread that started it ends. Linux only; elsewhere
    nothing."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def adopt_orphans() -> None:
    """Make this process the parent of its descendants' orphans. Linux only; elsewhere nothing."""
    if _libc is not None:
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, zombies left out."""
    children: dict[int, list[int]] = {}
    zombies = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The command in parentheses may hold anything, spaces included.
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue  # gone meanwhile
        children.setdefault(int(parent), []).append(int(entry.name))
        if state == "Z":
            zombies.add(int(entry.name))
    found, pending = [], [pid]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return [process for process in found if process not in zombies]


class Wakeups:
    """Context manager that turns signals into wake-ups of `wait`. Main thread only; one at a time in a process."""

    def __init__(self, stop_signals: Sequence[signal.Signals]) -> None:
        self._stop_signals = tuple(stop_signals)
        self.stop_requested = False

    def __enter__(self) -> Self:
        self._read, write = os.pipe()
        for end in (self._read, write):
            os.set_blocking(end, False)
        self._write = write
        self._old_fd = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        self._old = {number: signal.signal(number, self._request_stop) for number in self._stop_signals}
        # Without a handler of its own the default (ignore) would write nothing to the pipe.
        self._old[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_fd)
        os.close(self._read)
        os.close(self._write)

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        self.stop_requested = True

    def wait(self, timeout_s: float | None = None, also: Sequence[int] = ()) -> list[int]:
        """Sleep until a signal arrives, a descriptor in `also` is readable or closed (returned), or time is up."""
        ready, _, _ = select.select([self._read, *also], [], [], None if timeout_s is None else max(0.0, timeout_s))
        if self._read in ready:
            os.read(self._read, 4096)
        return [descriptor for descriptor in ready if descriptor != self._read]


def end_tree(child: subprocess.Popen[bytes], wakeups: Wakeups, grace_s: float) -> None:
    """SIGTERM to `child`, and after `grace_s` or its end SIGKILL to every descendant of this process. Returns when none
    is left."""
    if child.poll() is None:
        child.terminate()
    deadline = time.monotonic() + grace_s
    while child.poll() is None and time.monotonic() < deadline:
        wakeups.wait(deadline - time.monotonic())
    while remaining := descendants(os.getpid()):
        for pid in remaining:
            _kill(pid)
        # What a killed process started between look and kill is ours now: look again after each end.
        _reap_one(child)
    child.wait()


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):  # ended meanwhile
        os.kill(pid, signal.SIGKILL)


def _reap_one(child: subprocess.Popen[bytes]) -> None:
    """Wait for the end of one child or adopted orphan. `child` is left to its Popen, which keeps the exit status."""
    if child.poll() is None:
        child.wait()
        return
    with suppress(ChildProcessError):  # what was seen is gone
        os.waitpid(-1, 0)
