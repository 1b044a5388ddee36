"""Opening what a run folder holds for commands that look at it afterwards, also while the run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pipeline.claim import check_claim
from pipeline.config import Config
from pipeline.errors import RunFolderError
from pipeline.journal import Journal
from pipeline.pool import Pool
from pipeline.problems import ProblemSet, load_problems
from pipeline.run import RunFolder
from pipeline.usefulness import Usefulness, usefulness_in


class RunPool(NamedTuple):
    run: RunFolder
    config: Config
    journal: Journal
    usefulness: Usefulness
    pool: Pool

    def problems(self) -> ProblemSet:
        """The problems of the run, generated or loaded again."""
        return load_problems(self.config.problems, self.config.run.seed)


def make_tables(run: RunFolder, config: Config) -> None:
    """Make journal and pool of a new run, if its store is elsewhere: there, nobody else may have to. Raises StoreError."""
    if run.elsewhere is not None:
        Journal(run.store)
        Pool(run.store, config.pool)


def open_run(folder: Path, version: str = "") -> RunPool:
    """The pool of a run, as it is now or at a `version` (a number or a pin), read-only then.

    Raises RunFolderError naming what is missing."""
    run = RunFolder.open(folder)
    config = run.config()
    check_claim(run)
    journal = Journal(run.store)
    usefulness = usefulness_in(journal, run.lineages())
    try:
        pool = Pool(
            run.store, config.pool, version=int(version) if version.isdecimal() else version or None, uses=usefulness.of
        )
    except ValueError as error:
        pins = ", ".join(sorted(Pool(run.store, config.pool).pins)) or "none"
        raise RunFolderError(
            f"--version {version}: {folder} has no such version of its pool ({error}); pinned are: {pins}"
        ) from error
    return RunPool(run, config, journal, usefulness, pool)
