"""Opens what a run folder holds for commands that read it afterwards, also while the run goes on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from pipeline.config import Config
from pipeline.errors import RunFolderError
from pipeline.experience.pool import Pool
from pipeline.experience.pool_scan import PoolColumns
from pipeline.experience.usefulness import Usefulness, usefulness_in
from pipeline.problems.dataset import ProblemSet, load_problems
from pipeline.run.folder import RunFolder
from pipeline.storage.claim import check_claim
from pipeline.storage.journal import GroupResult, Journal

MAX_DIGITS = 18
"""Of a version: what is longer fits into no table, and is no pin either."""


class RunPool:
    """The pool of a run and what belongs to it. The journal is read when it is asked for: it may hold a million
    groups."""

    def __init__(self, run: RunFolder, config: Config, version: int | str | None = None) -> None:
        self.run = run
        self.config = config
        self.pool = Pool(run.store, config.pool, version=version, uses=lambda entry_id: self.usefulness.of(entry_id))

    @cached_property
    def journal(self) -> Journal:
        return Journal(self.run.store)

    @cached_property
    def usefulness(self) -> Usefulness:
        """The uses of every entry that a group of this run saw."""
        return usefulness_in(self.journal, self.run.lineages())

    def outcomes(self) -> Iterator[GroupResult]:
        """What came of every group of the run."""
        return self.journal.outcomes(self.run.lineages())

    def columns(self) -> PoolColumns:
        """The entries column by column, at the version of the pool."""
        return PoolColumns(self.run.store, self.pool.version)

    def problems(self) -> ProblemSet:
        """The problems of the run, generated or loaded again."""
        return load_problems(self.config.problems, self.config.run.seed, self.config.reward.code.packages)

    def answers(self) -> dict[str, str]:
        """Gold answers of the training problems by the hash of their texts. An id may be another problem's in another
        run; a problem whose answer is no text (a program) has none."""
        return {task.problem.text_hash: task.label.answer for task in self.problems().train if task.label.answer}


def make_tables(run: RunFolder, config: Config) -> None:
    """Make journal and pool of a new run, if its store is elsewhere: there, nobody else may have to. Raises
    StoreError."""
    if run.elsewhere is not None:
        Journal(run.store)
        Pool(run.store, config.pool)


def open_run(folder: Path, version: str = "") -> RunPool:
    """The pool of a run, as it is now or at a `version` (a number or a pin), read-only then.

    Raises RunFolderError naming what is missing."""
    run = RunFolder.open(folder)
    config = run.config()
    is_number = version.isdecimal() and len(version) <= MAX_DIGITS
    check_claim(run)
    try:
        return RunPool(run, config, int(version) if is_number else version or None)
    except ValueError as error:
        pins = ", ".join(sorted(RunPool(run, config).pool.pins)) or "none"
        raise RunFolderError(
            f"--version {version}: {folder} has no such version of its pool ({error}); pinned are: {pins}"
        ) from error
