"""The run folder: layout, creation, lock, lineages, and what a resume may change.

Everything a run leaves behind is under one folder; the processes share it and HTTP, nothing else. Small state files are
replaced atomically (`write_atomic`), so a reader never sees half of one.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from pydantic import BaseModel, ConfigDict

from pipeline.config import Config
from pipeline.errors import DiskError, RunFolderError
from pipeline.types import RolloutGroup, WeightVersion

# A resume may change these and nothing else: they alter neither what is sampled nor what is learned.
HARMLESS = (
    "run.root",
    "run.name",
    "servers.port",
    "servers.gpu_ids",
    "servers.startup_timeout_s",
    "servers.max_restarts",
    "servers.kv_cache_gib",
    "servers.canary_tolerance",
    "endpoints",
    "eval.every",
    "learner.num_steps",
    "learner.checkpoint_every",
    "learner.num_checkpoints_kept",
    "learner.num_weights_kept",
    "learner.logprob_gap_tolerance",
    "learner.report_to",
    "learner.cpu_threads",
    "reward.num_workers",
    "requests",
    "operations",
    "rollout.max_groups_in_flight",
    "rollout.group_timeout_s",
    "rollout.max_group_attempts",
    "rollout.max_failed_groups",
)


STORE = "store"
LEARNER_LOCK = "learner"
"""Held by a learner for its life: one that outlives its orchestrator still writes a checkpoint."""
LOCK_POLL_S = 0.1
DISK = "the disk that holds"
"""How the message of a DiskError begins, by which it is known in another process's words."""
GO_ON = "then give the same command again, a run with `train --resume`: what was written whole is kept"
FULL, FAILING = {errno.ENOSPC, errno.EDQUOT}, {errno.EIO, errno.EROFS, errno.ESTALE}
_LANCE_IO = "LanceError(IO)"
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


def cache_folder() -> Path:
    """Where prepared models are kept between runs: $LANPO_CACHE, else ~/.cache/lanpo."""
    return Path(os.environ.get("LANPO_CACHE") or Path.home() / ".cache" / "lanpo").expanduser()


def write_atomic(path: Path, text: str) -> None:
    """Replace `path` as a whole. Raises DiskError when there is no room; the old content then stays."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise disk_error(error, path) from error


def disk_error(error: Exception, path: Path | str) -> Exception:
    """`error` as the user should see it: a full or failing disk named with its remedy, anything else unchanged.

    Libraries in Rust and C++ report what the system said as a text: "No space left on device (os error 28)".
    """
    text = str(error)
    told = _OS_ERROR.search(text)
    number = (isinstance(error, OSError) and error.errno) or (int(told[1]) if told else None)
    if number in FULL or "No space left on device" in text:
        return DiskError(f"{DISK} {path} is full: make room, {GO_ON}")
    if number in FAILING or "Input/output error" in text or (_LANCE_IO in text and "://" not in str(path)):
        reason = os.strerror(number) if number else text[:300]
        return DiskError(
            f"{DISK} {path} fails ({reason}): look at what the system says of it (dmesg), mend or replace it, {GO_ON}"
        )
    return error


def is_uri(location: Path | str) -> bool:
    """Whether `location` is in an object store, not a folder."""
    return "://" in str(location)


def below(store: str, name: str) -> str:
    """Where the run `name` has its tables within `store`, a folder or a URI."""
    return f"{store.rstrip('/')}/{name}" if is_uri(store) else str(Path(store).expanduser().resolve() / name)


class Elsewhere(BaseModel):
    """A store outside of the run folder. `run_id` is in its claim as well (`pipeline.storage.claim`), and tells this run from others."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    location: str
    run_id: str


class Lineage(BaseModel):
    """One uninterrupted stretch of learning. It began at `start_step`, the step of the checkpoint that it continues."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    number: int
    start_step: int
    fresh: bool = False
    """Whether nothing counts that earlier lineages sampled for its steps: a fork, with settings of its own."""

    def abandons(self, sampled_by: WeightVersion, step: int | None) -> bool:
        """Whether what `sampled_by` of an earlier lineage sampled for `step` is no part of the history that this one continues; None:
        for any step.

        Ours (design.md, Resume): a restart from the checkpoint of step k abandons every group that weights newer than k
        sampled."""
        return sampled_by.step > self.start_step or (self.fresh and step is not None and step >= self.start_step)


class RunFolder:
    """Paths and small state of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.config_file = self.path / "config.json"
        self.provenance_file = self.path / "provenance.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.lineages_file = self.path / "lineages.json"
        self.learner_file = self.path / "learner.json"
        self.servers_file = self.path / "servers.json"
        self.state_file = self.path / "state.json"
        self.store_file = self.path / "store.json"
        self.logs = self.path / "logs"
        self.weights = self.path / "weights"
        self.checkpoints = self.path / "checkpoints"
        self.trackers = self.path / "trackers"
        self.evals = self.path / "evals"
        self.locks = self.path / "locks"
        self.merged = self.path / "merged"
        self.final_model = self.path / "final_model"
        self.unfinished_file = self.path / "unfinished"

    @classmethod
    def create(cls, config: Config, *, unfinished: bool = False) -> RunFolder:
        """Make a new run folder, which appears whole or not at all, with the resolved configuration. Raises RunFolderError if it exists."""
        name = config.run.name or f"{config.recipe}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"
        run = cls(config.run.root / name)
        exists = RunFolderError(
            f"run.name = {name!r}: {run.path} exists already; choose another name, or continue it with "
            f"`train --resume {run.path}`"
        )
        if run.path.exists():
            run._refuse_unfinished()
            raise exists
        made = cls(run.path.with_name(f".{name}.{os.getpid()}"))
        try:
            # Another process had this id, and died.
            shutil.rmtree(made.path, ignore_errors=True)
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
        return Config.model_validate_json(self.config_file.read_text(encoding="utf-8"))

    @contextmanager
    def locked(self, name: str = "run", patience_s: float = 0.0) -> Iterator[None]:
        """Hold an exclusive lock of this run; with `patience_s` it blocks that long at most. Raises RunFolderError if another
        process holds it. A process that dies lets go of it."""
        self.locks.mkdir(exist_ok=True)
        deadline_s = time.monotonic() + patience_s
        with (self.locks / name).open("w") as file:
            while not taken(file):
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


def taken(file: TextIO) -> bool:
    """Whether the lock of `file` could be taken at once."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def survives(group: RolloutGroup, lineages: list[Lineage]) -> bool:
    """Whether `group` belongs to the surviving history: no later lineage abandons it."""
    return counts(WeightVersion(lineage=group.lineage, step=group.newest_version.step), lineages, group.step)


def counts(version: WeightVersion, lineages: list[Lineage], step: int | None = None) -> bool:
    """Whether what `version` samples for `step` belongs to the surviving history, so that it may be trained."""
    return not any(lineage.abandons(version, step) for lineage in lineages if lineage.number > version.lineage)


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as {'rollout.group_size': 8, ...}; lists stay whole."""
    if not isinstance(value, dict) or (not value and prefix):
        return {prefix: value}
    return {
        key: leaf
        for name, item in value.items()
        for key, leaf in flat(item, f"{prefix}.{name}" if prefix else name).items()
    }


def check_resume_config(stored: Config, wanted: Config) -> None:
    """Raise RunFolderError when `wanted` differs from `stored` in a setting that changes the run; name each difference."""
    before, after = flat(stored.model_dump(mode="json")), flat(wanted.model_dump(mode="json"))
    differing = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
    harmful = [key for key in differing if not any(key == ok or key.startswith(f"{ok}.") for ok in HARMLESS)]
    if harmful:
        lines = "\n".join(f"  {key}: {before.get(key)!r} in the run, {after.get(key)!r} now" for key in harmful)
        raise RunFolderError(
            f"a resumed run must keep its settings, but these differ:\n{lines}\n"
            "Leave them as they were, or start a new run with `train --config`."
        )
