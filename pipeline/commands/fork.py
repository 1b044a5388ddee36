"""A new run from a checkpoint of another one, which stays as it is.

What the two share is linked, not copied, where the file system can: files of the store, of published weights and of
checkpoints are never changed once they are written. The new run has a lineage of its own, in which nothing counts that
was sampled for the checkpoint's step or a later one (`Lineage.fresh`): it may have other settings."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from pathlib import Path

from pipeline.config import Config
from pipeline.errors import ConfigError, RunFolderError
from pipeline.experience.pool import LOCK_FILE, Pool
from pipeline.experience.pool_snapshots import version_at
from pipeline.run.checkpoints import checkpoint_path, is_whole, newest_whole, steps
from pipeline.run.folder import RunFolder
from pipeline.run.lineage import Lineage
from pipeline.run.state import RunState
from pipeline.runtime.files import disk_error, is_uri
from pipeline.storage.claim import TABLE as CLAIM
from pipeline.storage.claim import check_claim, new_run, release
from pipeline.storage.journal import Journal
from pipeline.weights.publishing import REFERENCE, adopt, name_latest, path_of

# What a held-out evaluation depends on, beside the weights.
EVALUATED = ("problems", "eval", "reward", "model")


def fork_run(source: RunFolder, config: Config, step: int | None = None) -> RunFolder:
    """A run folder for `config` that begins where `source` was after `step` optimizer steps (None: its newest whole
    checkpoint).

    Raises RunFolderError or ConfigError when it cannot, DiskError; no folder is left then."""
    step = _chosen_step(source, step)
    if config.learner.num_steps <= step:
        raise ConfigError(
            f"learner.num_steps = {config.learner.num_steps} leaves nothing to train after step {step}, where the fork "
            "begins; raise learner.num_steps, or fork at an earlier step with --at-step"
        )
    if config.model.path != (before := source.config().model.path):
        raise ConfigError(
            f"model.path = {config.model.path!r}: the forked run began with {before!r}, and a fork keeps its model; "
            "start a new run for another one"
        )
    check_claim(source)
    run = new_run(config, unfinished=True)
    with ExitStack() as on_failure:
        on_failure.callback(shutil.rmtree, run.path, ignore_errors=True)
        on_failure.callback(release, run)
        try:
            with source.locked():
                _take_over(source, run, step)
        except OSError as error:
            raise disk_error(error, run.path) from error
        on_failure.pop_all()
    return run


def _chosen_step(source: RunFolder, step: int | None) -> int:
    if not path_of(source, REFERENCE).exists():
        raise RunFolderError(f"{source.path} has published no weights yet; there is nothing to fork")
    if step is None:
        return newest_whole(source) or 0
    if step and not is_whole(checkpoint_path(source, step)):
        whole = [number for number in steps(source) if is_whole(checkpoint_path(source, number))]
        raise RunFolderError(
            f"--at-step {step}: {source.path} has no whole checkpoint of that step; it has {whole or 'none'} (and 0, "
            "the start)"
        )
    return step


def _take_over(source: RunFolder, run: RunFolder, step: int) -> None:
    _link(path_of(source, REFERENCE), path_of(run, REFERENCE))
    if step:
        _take_over_store(source, run, step)
        _link(checkpoint_path(source, step), checkpoint_path(run, step))
    adopt(run)
    name_latest(run, REFERENCE)
    lineages = source.lineages()
    run.write_lineages([*lineages, Lineage(number=lineages[-1].number + 1, start_step=step, fresh=True)])
    _take_over_state(source, run, step)
    run.unfinished_file.unlink()


def _take_over_store(source: RunFolder, run: RunFolder, step: int) -> None:
    """Journal and pool. What is in an object store is copied, so that neither run needs anything of the other's: the
    journal whole, the pool as it was at `step`."""
    old, new = source.store, run.store
    if not is_uri(old) and not is_uri(new):
        _link(Path(old), Path(new))
        return
    Journal(old).copy_to(new)
    pool = Pool(old)
    Pool(old, version=version_at(pool, step)).copy_to(new)
    Pool(new).add(pool.imported())


def _link(source: Path, target: Path) -> None:
    """`source` under another name; the lock, which is written in place, and the claim to the store are not shared."""
    skipped = shutil.ignore_patterns(LOCK_FILE, f"{CLAIM}.lance")
    shutil.copytree(source, target, copy_function=_link_file, ignore=skipped, dirs_exist_ok=True)


def _link_file(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
    return target


def _take_over_state(source: RunFolder, run: RunFolder, step: int) -> None:
    """What is known of the new run: where it comes from, and the evaluations and probes that still say something of
    it."""
    old, new = source.config(), run.config()
    state = RunState(run)
    state.values["forked_from"] = {"run": str(source.path), "step": step}
    if all(getattr(old, name) == getattr(new, name) for name in EVALUATED):
        before = RunState(source)
        for mine, theirs in ((state.evals, before.evals), (state.skills, before.skills)):
            mine.update((name, report) for name, report in theirs.items() if report["step"] == 0)
    state.save()
