"""Reads the learner's status from the small file that it replaces atomically, and waits for its steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict

from pipeline.errors import DiskError, ProcessEndedError
from pipeline.run.folder import RunFolder
from pipeline.runtime.child_process import Child
from pipeline.runtime.file_watcher import Changes
from pipeline.runtime.files import DISK
from pipeline.types import WeightVersion


class LearnerStatus(BaseModel):
    """`step` counts completed optimizer steps; `version` labels the weights that are live on every server."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    state: Literal["starting", "waiting", "training", "publishing", "done", "failed"] = "starting"
    step: int = 0
    version: str | None = None
    error: str | None = None
    pid: int | None = None

    @property
    def live(self) -> WeightVersion | None:
        return WeightVersion.parse(self.version) if self.version else None


class LearnerLink:
    """Reads the status of one learner process."""

    def __init__(self, run: RunFolder, child: Child) -> None:
        self._run = run
        self._child = child

    def status(self) -> LearnerStatus:
        """The status of this very process; 'starting' until it has written one. Raises what the learner failed with."""
        try:
            status = LearnerStatus.model_validate(json.loads(self._run.learner_file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            status = LearnerStatus()
        if status.pid != self._child.pid:
            status = LearnerStatus()
        if status.state == "failed":
            kind = DiskError if DISK in (status.error or "") else ProcessEndedError
            raise kind(f"the learner failed: {status.error} (log: {self._child.log})")
        if status.state != "done":
            self._child.check()
        return status

    async def wait_until(self, reached: Callable[[LearnerStatus], bool]) -> LearnerStatus:
        """Wait until the status satisfies `reached`. Raises ProcessEndedError when the learner dies first."""
        with Changes(self._run.path) as changes:
            while not reached(status := self.status()):
                await changes.changed()
        return status

    async def wait_for_step(self, step: int, lineage: int) -> LearnerStatus:
        """Wait until weights of at least `step` updates, of this lineage, are live on every server."""

        def reached(status: LearnerStatus) -> bool:
            live = status.live
            return live is not None and live.step >= step and (live.lineage == lineage or live.step == 0)

        return await self.wait_until(reached)
