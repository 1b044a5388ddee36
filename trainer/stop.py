"""Stops the learner early: at SIGTERM or SIGINT, and at its parent's death.

A request is a flag. Long waits are woken by it (`StopSignal.wait`), an optimizer step under way is finished first.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

from pipeline.runtime.file_watcher import Changes


class StopRequested(Exception):  # noqa: N818 - no error
    """Raised out of a wait that a stop request cut short. Not an error."""


class StopSignal:
    """A flag set by SIGTERM and SIGINT, and a pipe that can be read from then on."""

    def __init__(self) -> None:
        self.requested = False
        self._woken, self._wake = os.pipe()

    def install(self) -> None:
        """Take over SIGTERM and SIGINT of this process. Main thread only."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def request(self) -> None:
        if not self.requested:
            self.requested = True
            os.write(self._wake, b"x")

    def check(self) -> None:
        """Raise StopRequested if a stop was asked for."""
        if self.requested:
            raise StopRequested

    def wait(self, timeout_s: float, changes: Changes | None = None) -> None:
        """Wait up to `timeout_s`, or until something changes. Raises StopRequested as soon as a stop is asked for."""
        (changes or Changes(None)).wait(self._woken, timeout_s=timeout_s)
        self.check()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.request()
