"""The folder of a run: its layout, how it is made and opened, its locks, the list of its lineages.

Everything a run leaves behind is under one folder; the processes share it and HTTP, nothing else. Small state files are
replaced atomically (`write_atomic`), so a reader never sees half of one.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pipeline.config import Config
from pipeline.config.loading import stored_config
from pipeline.errors import RunFolderError
from pipeline.run.lineage import Lineage
from pipeline.runtime.files import is_uri, try_lock, unused, write_atomic

STORE = "store"
LEARNER_LOCK = "learner"
"""Held by a learner for its life: one that outlives its orchestrator still writes a checkpoint."""
LOCK_POLL_S = 0.1


def below(store: str, name: str) -> str:
    """Where the tables of the run `name` are within `store`, a folder or a URI."""
    return f"{store.rstrip('/')}/{name}" if is_uri(store) else str(Path(store).expanduser().resolve() / name)


class Elsewhere(BaseModel):
    """A store outside of the run folder. `run_id`, which is in its claim too (`pipeline.storage.claim`), tells this run
    from others."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    location: str
    run_id: str


class RunFolder:
    """Paths and small state of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.config_file = self.path / "config.json"
        self.provenance_file = self.path / "provenance.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.lineages_file = self.path / "lineages.json"
        self.judgements_file = self.path / "judgements.sqlite"
        self.learner_file = self.path / "learner.json"
        self.servers_file = self.path / "servers.json"
        self.state_file = self.path / "state.json"
        self.store_file = self.path / "store.json"
        self.logs = self.path / "logs"
        self.weights = self.path / "weights"
        self.checkpoints = self.path / "checkpoints"
        self.templates = self.path / "templates"
        self.trackers = self.path / "trackers"
        self.evals = self.path / "evals"
        self.locks = self.path / "locks"
        self.merged = self.path / "merged"
        self.final_model = self.path / "final_model"
        self.unfinished_file = self.path / "unfinished"

    @classmethod
    def create(cls, config: Config, *, unfinished: bool = False) -> RunFolder:
        """Make a new run folder, which appears whole or not at all, with the resolved configuration. Raises
        RunFolderError if it exists."""
        name = config.run.name or f"{config.recipe}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"
        run = cls(config.run.root / name)
        exists = RunFolderError(
            f"run.name = {name!r}: {run.path} exists already; choose another name, or continue it with "
            f"`train --resume {run.path}`"
        )
        if run.path.exists():
            run._refuse_unfinished()
            raise exists
        made = cls(unused(run.path))
        try:
            for folder in (made.logs, made.weights, made.checkpoints, made.trackers, made.evals, made.locks):
                folder.mkdir(parents=True)
            if config.run.store:
                elsewhere = Elsewhere(location=below(config.run.store, name), run_id=uuid.uuid4().hex)
                write_atomic(made.store_file, elsewhere.model_dump_json())
            else:
                made.path.joinpath(STORE).mkdir()
            write_atomic(made.config_file, config.model_dump_json(indent=2))
            made.write_lineages([Lineage(number=0, start_step=0)])
            if unfinished:
                made.unfinished_file.touch()
            made.path.rename(run.path)
        except BaseException as error:
            shutil.rmtree(made.path, ignore_errors=True)
            if isinstance(error, OSError) and run.path.exists():  # somebody else was quicker
                raise exists from error
            raise
        return run

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run. Raises RunFolderError if `path` is none."""
        run = cls(path)
        if not run.config_file.is_file():
            raise RunFolderError(
                f"{path} is no run folder (it has no config.json); give the folder that `train` printed"
            )
        run._refuse_unfinished()
        return run

    def _refuse_unfinished(self) -> None:
        if self.unfinished_file.exists():
            raise RunFolderError(
                f"{self.path} is a fork that was cut short; remove the folder, and give the same command again"
            )

    @property
    def elsewhere(self) -> Elsewhere | None:
        """Where journal and pool are; None: in the folder `store` of this one."""
        if not self.store_file.is_file():
            return None
        return Elsewhere.model_validate_json(self.store_file.read_text(encoding="utf-8"))

    @property
    def store(self) -> Path | str:
        """Folder or URI of journal and pool."""
        return elsewhere.location if (elsewhere := self.elsewhere) else self.path / STORE

    def config(self) -> Config:
        return stored_config(self.config_file)

    @contextmanager
    def locked(self, name: str = "run", patience_s: float = 0.0) -> Iterator[None]:
        """Hold an exclusive lock of this run; with `patience_s` it blocks that long at most. Raises RunFolderError if
        another process holds it. A process that dies gives it back."""
        self.locks.mkdir(exist_ok=True)
        deadline_s = time.monotonic() + patience_s
        with (self.locks / name).open("w") as file:
            while not try_lock(file):
                if time.monotonic() >= deadline_s:
                    raise RunFolderError(
                        f"{self.path} is in use by another process (lock {name!r}); wait for it to end"
                    )
                time.sleep(LOCK_POLL_S)
            yield

    def lineages(self) -> list[Lineage]:
        return [Lineage.model_validate(item) for item in json.loads(self.lineages_file.read_text(encoding="utf-8"))]

    def write_lineages(self, lineages: list[Lineage]) -> None:
        write_atomic(
            self.lineages_file, json.dumps([lineage.model_dump(exclude_defaults=True) for lineage in lineages])
        )

    def begin_lineage(self, start_step: int) -> Lineage:
        """Continue from the checkpoint of `start_step`: labels of the abandoned stretch are never used again."""
        lineages = self.lineages()
        lineage = Lineage(number=lineages[-1].number + 1, start_step=start_step)
        self.write_lineages([*lineages, lineage])
        return lineage
