"""Lets a disk fail again and again while a run's files are written. Prints a line of JSON.

A small disk that is full (a tmpfs; in a mount namespace of its own, so that it is this process's alone):
    unshare -Urm python -m tests.integration.disk_child full FOLDER N
One that answers with I/O errors (io_faults.c, which must be preloaded):
    LD_PRELOAD=io_faults.so IO_FAULTS_FOLDER=FOLDER python -m tests.integration.disk_child broken FOLDER N"""

from __future__ import annotations

import ctypes
import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.config import Config
from pipeline.errors import DiskError
from pipeline.experience.pool import Pool
from pipeline.experience.pool_integrity import entry_faults
from pipeline.run.checkpoints import checkpoint_path, is_whole, newest_whole, write_manifest
from pipeline.run.checkpoints import prune as prune_checkpoints
from pipeline.run.folder import RunFolder
from pipeline.runtime.files import disk_error, write_atomic
from pipeline.storage.journal import Journal
from pipeline.weights.publishing import latest, path_of, prune, publish, verify
from tests.builders import experience, group, saving, version

SIZE = 64 << 20
RUNS_OF = 10
"""Failures until the disk is cleared: what a run keeps must not fill it by itself."""


class Writer:
    """Writes what orchestrator and learner write, and remembers what was acknowledged."""

    def __init__(self, root: Path, rng: random.Random) -> None:
        self.run = RunFolder.create(Config.model_validate({"run": {"root": root, "name": "r"}}))
        self.rng = rng
        self.step = 0
        self.groups: list[str] = []
        self.entries: list[str] = []

    def write(self, num_steps: int) -> None:
        """Some steps more, as a process that has just started. Raises DiskError."""
        journal, pool = Journal(self.run.store), Pool(self.run.store)
        for _ in range(num_steps):
            self.step += 1
            made = [group(step=self.step, slot=slot, oldest=self.step) for slot in range(4)]
            journal.append(made)
            self.groups += [one.id for one in made]
            lesson = experience(self.step, problem_id=f"p{self.step}")
            pool.add([lesson])
            self.entries.append(lesson.id)
            if self.step % 3 == 0:
                journal.compact()
                pool.compact()
            publish(self.run, version(self.step), saving(self.rng.randbytes(50_000)))
            prune(self.run, 2)
            if self.step % 3 == 0:
                self._checkpoint()
            write_atomic(self.run.state_file, json.dumps({"step": self.step}))

    def _checkpoint(self) -> None:
        folder = checkpoint_path(self.run, self.step)
        try:
            folder.mkdir()
            (folder / "model.safetensors").write_bytes(self.rng.randbytes(80_000))
            (folder / "trainer_state.json").write_text(json.dumps({"global_step": self.step}))
        except OSError as error:
            raise disk_error(error, folder) from error  # as the learner's outermost boundary does
        write_manifest(folder)
        prune_checkpoints(self.run, 2)

    def wrong(self) -> list[str]:
        """What a process that starts now finds damaged or missing."""
        found = []
        journal, lineages = Journal(self.run.store), self.run.lineages()
        stored = Counter(one.id for step in range(self.step + 1) for one in journal.read_step(step, lineages))
        found += [f"group {name} is there {stored[name]} times" for name in self.groups if stored[name] != 1]
        pool = Pool(self.run.store)
        entries = list(pool.entries())
        ids = Counter(entry.id for entry in entries)
        found += [f"entry {name} is there {ids[name]} times" for name in self.entries if ids[name] != 1]
        found += [words for entry in entries for words in entry_faults(entry, heldout=(), answers={})]
        # Through their indices, which are written too.
        if entries:
            pool.search(entries[0].problem_text, 5)
            found += [f"entry {entry.id} is not found by its id" for entry in entries if pool.get(entry.id) is None]
        for one in (self.step and journal.read_step(self.step, lineages)) or ():
            journal.attempt(one.problem.id, lineages, random.Random(0))
        newest = latest(self.run)
        if newest is not None:
            verify(path_of(self.run, newest))
        step = newest_whole(self.run)
        if step is not None and not is_whole(checkpoint_path(self.run, step)):
            found.append(f"checkpoint {step}")
        if self.run.state_file.exists():
            json.loads(self.run.state_file.read_text())
        return found


class SmallDisk:
    """Has some space left, up to 400 kB."""

    num_failed = 0
    """Failures that only the disk knows of."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], check=True)
        self._folder, self._rng = folder, rng

    @contextmanager
    def failing(self) -> Iterator[None]:
        ballast = self._folder / "ballast"
        space = shutil.disk_usage(self._folder).free - self._rng.randrange(400_000)
        ballast.write_bytes(b"\0" * max(0, space))
        try:
            yield
        finally:
            ballast.unlink()


class BrokenDisk:
    """Fails once, or from a moment on, after some hundred calls. A single failure may be in what Lance can do without
    (a hint)."""

    num_failed = 0

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self._rng, self._faults = rng, ctypes.CDLL(None)

    @contextmanager
    def failing(self) -> Iterator[None]:
        self._faults.io_faults_arm(self._rng.randrange(300), self._rng.choice([1, 1 << 30]))
        try:
            yield
        finally:
            self.num_failed = self._faults.io_faults_disarm()


def main(kind: str, folder: Path, num: int) -> None:
    rng, found, where = random.Random(3), [], Counter[str]()
    disk = SmallDisk(folder, rng) if kind == "full" else BrokenDisk(folder, rng)
    writer = None
    for index in range(num):
        if index % RUNS_OF == 0:
            for path in folder.iterdir():
                shutil.rmtree(path)
            writer = Writer(folder, rng)
            writer.write(3)
        assert writer is not None
        try:
            with disk.failing():
                writer.write(100)
            if disk.num_failed:
                where["nothing that matters"] += 1
            else:
                found.append(f"failure {index}: the disk never failed")
        except DiskError as error:
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None and "disk_child" in trace.tb_frame.f_code.co_filename:
                trace = trace.tb_next
            where[trace.tb_frame.f_code.co_qualname if trace else "?"] += 1
        found += [f"failure {index}: {problem}" for problem in writer.wrong()]
        writer.write(2)
        found += [f"after failure {index}: {problem}" for problem in writer.wrong()]
    print(json.dumps({"wrong": found, "where": where}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
