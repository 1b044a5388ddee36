"""The learner's status for the other processes: `learner.json`, replaced atomically at every change of state."""

from __future__ import annotations

import json
import os
from typing import Literal

from pipeline.run.folder import RunFolder
from pipeline.runtime.files import write_atomic

State = Literal["starting", "waiting", "training", "publishing", "done", "failed"]


class LearnerStatus:
    """Writes {"state", "step", "version", "error", "pid"}; without a run, in a process that is not rank 0, nothing.

    `step` counts completed optimizer steps; `version` is the label that every server was last brought to, or null.
    """

    def __init__(self, run: RunFolder | None) -> None:
        self._file = run.learner_file if run else None
        self.step = 0
        self.version: str | None = None

    def update(
        self, state: State, *, step: int | None = None, version: str | None = None, error: str | None = None
    ) -> None:
        """Change the state; `step` and `version` stay where None, `error` is cleared. Raises DiskError."""
        self.step = self.step if step is None else step
        self.version = version or self.version
        content = {"state": state, "step": self.step, "version": self.version, "error": error, "pid": os.getpid()}
        if self._file:
            write_atomic(self._file, json.dumps(content))
