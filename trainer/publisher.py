"""Publishes the learner's weights and has every server load them.

Order, and what a crash leaves: weights on disk (atomic) → servers reloaded → status names the version. The version
named is therefore always one that all servers serve.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.config import Config
from pipeline.errors import WeightsRefusedError, WeightSyncError
from pipeline.run.folder import RunFolder
from pipeline.run.metrics_log import MetricsWriter
from pipeline.runtime.files import disk_error, unused
from pipeline.types import WeightVersion
from pipeline.weights import publishing, sync
from trainer.status import LearnerStatus
from trainer.stop import StopSignal

logger = logging.getLogger(__name__)
RETRY_S = 2.0
# A server that is reloaded and refused for so long is not one that is away.
REFUSED_PATIENCE_S = 600.0


class Publisher:
    """Desired state of the servers, one version at a time. `save` writes the current model into the folder it is
    given."""

    def __init__(
        self,
        run: RunFolder,
        config: Config,
        lineage: int,
        save: Callable[[Path], None],
        status: LearnerStatus,
        metrics: MetricsWriter,
        stop: StopSignal,
        send: sync.Send | None = None,
    ) -> None:
        self._run = run
        self._config = config
        self._lineage = lineage
        self._save = save
        self._status = status
        self._metrics = metrics
        self._stop = stop
        self._send = send
        self._started = False
        self.publish_s = 0.0
        self.reload_s = 0.0
        """Seconds spent for the last version."""

    def publish(self, step: int, *, final: bool = False) -> Path | None:
        """Make the model after `step` optimizer steps the one that is served, if that step is due; its folder, else
        None.

        The first call is always due, so that a resumed learner's servers hold its weights. Raises DiskError,
        RunFolderError where somebody's files have the version's name, StopRequested, and WeightSyncError when servers
        stay unreachable for `server_patience_s`, or answer the canary as other weights for `REFUSED_PATIENCE_S`.
        """
        if not final:
            self._stop.check()
        self.publish_s = self.reload_s = 0.0
        if not self._is_due(step, final=final):
            return None
        version = WeightVersion(lineage=self._lineage, step=step)
        if self._status.version == version.label:
            return publishing.path_of(self._run, version)
        self._status.update("publishing", step=step)
        begin = time.monotonic()
        folder = publishing.path_of(self._run, version)
        if not publishing.is_published(self._run, version):
            folder = publishing.publish(self._run, version, self._save)
        self.publish_s = time.monotonic() - begin
        self.reload_s = self._sync_all(version)
        self._started = True
        learner = self._config.learner
        # A request that names an adapter may be under way for as long as it may take.
        in_use_s = self._config.requests.timeout_s if learner.transfer == "lora" else 0.0
        publishing.prune(self._run, learner.num_weights_kept, in_use_s)
        self._status.update("training", version=version.label)
        self._metrics.write("publish", step, version=version.label, publish_s=self.publish_s, reload_s=self.reload_s)
        return folder

    def will_save(self, step: int, *, final: bool = False) -> bool:
        """Whether `publish` would write weights."""
        version = WeightVersion(lineage=self._lineage, step=step)
        return self._is_due(step, final=final) and not publishing.is_published(self._run, version)

    def _is_due(self, step: int, *, final: bool) -> bool:
        return final or not self._started or step % self._config.learner.publish_every == 0

    def _sync_all(self, version: WeightVersion) -> float:
        """Retries while servers are unreachable: one that died is being started again by its supervisor. Each new
        reason is an alert.

        Who was not reached by `send` loads the files."""
        deadline, reported, send = time.monotonic() + self._config.server_patience_s, "", self._send
        refused_since = float("inf")
        while True:
            try:
                return sync.sync_all(self._run, version, send).reload_s
            except WeightSyncError as error:
                now = time.monotonic()
                refused_since = min(refused_since, now) if isinstance(error, WeightsRefusedError) else float("inf")
                if now > deadline or now - refused_since > REFUSED_PATIENCE_S:
                    raise
                logger.warning("%s; trying again", error)
                if str(error) != reported:
                    reported = str(error)
                    self._metrics.write("alert", version.step, kind="weight_sync", message=f"{reported}; trying again")
                send = None
                self._status.update("publishing", error=str(error))
                self._stop.wait(RETRY_S)


def merged_model(run: RunFolder, label: str, save: Callable[[Path], None]) -> Path:
    """The folder with the whole model of a version that was published as an adapter; that of another one goes. Raises
    DiskError, RunFolderError."""
    for other in run.merged.iterdir() if run.merged.exists() else ():
        publishing.remove_version(other)
    return publishing.write_version(run.merged / label, save)


def link_final_model(run: RunFolder, folder: Path) -> None:
    """Point `final_model` at `folder`, relative to the run folder, so that a run can be moved as a whole. Raises
    RunFolderError where there is something else of that name, DiskError."""
    publishing.check_final_model(run)
    temporary = unused(run.final_model)
    try:
        temporary.symlink_to(folder.relative_to(run.path))
        temporary.replace(run.final_model)
    except OSError as error:
        raise disk_error(error, run.final_model) from error
