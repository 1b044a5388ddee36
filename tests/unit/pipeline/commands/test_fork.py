"""A fork begins where the other run was, shares its files, and changes nothing of it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands.fork import fork_run
from pipeline.config import Config
from pipeline.errors import ConfigError, DiskError, RunFolderError
from pipeline.experience.pool import Pool
from pipeline.experience.pool_snapshots import rollback
from pipeline.run.checkpoints import checkpoint_path, newest_whole, write_manifest
from pipeline.run.folder import RunFolder
from pipeline.storage.journal import Journal
from pipeline.weights.publishing import latest, publish, verify
from tests.builders import experience, group, saving, version


def config(root: Path, name: str, **sections: Any) -> Config:
    return Config.model_validate({"run": {"root": root, "name": name}, **sections})


def make_source(root: Path) -> RunFolder:
    """A run of 4 steps with checkpoints at 2 and 4, a lesson of each step and an evaluation."""
    run = RunFolder.create(config(root, "source"))
    publish(run, version(0), saving(b"reference"))
    journal, pool = Journal(run.store), Pool(run.store)
    for step in range(4):
        journal.append([group(step=step, oldest=step, pool_version=pool.version)])
        pool.pin(f"step-{step:06d}")
        pool.add([experience(step)])
        if step % 2:
            folder = checkpoint_path(run, step + 1)
            folder.mkdir()
            (folder / "model.safetensors").write_bytes(b"model %d" % step)
            write_manifest(folder)
    report = {"step": 0, "accuracy": 0.5}
    run.state_file.write_text(
        json.dumps(
            {
                "evals": {"after SFT": report, "step 2": {"step": 2}},
                "skills": {"base model": report},
                "totals": {"x": 1},
            }
        )
    )
    return run


def contents(run: RunFolder) -> dict[str, str]:
    return {
        str(path.relative_to(run.path)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in run.path.rglob("*")
        if path.is_file() and path.parent != run.locks
    }


def test_it_begins_at_the_newest_checkpoint_with_what_was_there(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    run = fork_run(source, config(tmp_path, "fork"))
    assert newest_whole(run) == 4
    assert latest(run) == version(0)
    verify(run.weights / "l0-s000000")
    lineages = run.lineages()
    assert (lineages[-1].number, lineages[-1].start_step, lineages[-1].fresh) == (1, 4, True)
    journal = Journal(run.store)
    assert [len(journal.read_step(step, lineages)) for step in range(4)] == [1] * 4
    state = json.loads(run.state_file.read_text())
    assert state["forked_from"] == {"run": str(source.path), "step": 4}
    assert (list(state["evals"]), list(state["skills"])) == (["after SFT"], ["base model"])
    assert "totals" not in state


def test_what_was_sampled_for_later_steps_does_not_count(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    Journal(source.store).append([group(step=4, oldest=2)])
    run = fork_run(source, config(tmp_path, "fork"), 2)
    journal, lineages = Journal(run.store), run.lineages()
    assert [len(journal.read_step(step, lineages)) for step in range(5)] == [1, 1, 0, 0, 0]
    resumed = [*lineages, run.begin_lineage(2)]
    assert [len(journal.read_step(step, resumed)) for step in range(5)] == [1, 1, 0, 0, 0]
    rollback(pool := Pool(run.store), 2)
    assert sorted(entry.id for entry in pool.entries()) == ["x0", "x1"]
    assert Pool(source.store).num_entries() == 4


def test_nothing_of_the_other_run_changes_when_the_fork_goes_on(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    before = contents(source)
    run = fork_run(source, config(tmp_path, "fork"))
    journal, pool = Journal(run.store), Pool(run.store)
    for step in range(4, 8):
        journal.append([group(step=step, oldest=step, lineage=1)])
        pool.add([experience(step)])
        pool.pin("step-000000")
    journal.compact()
    pool.compact()
    pool.unpin("step-000001")
    publish(run, version(4, 1), saving(b"new"))
    assert contents(source) == before
    assert Pool(source.store).num_entries() == 4
    assert (source.weights / "l0-s000000" / "model.safetensors").stat().st_nlink == 2, "linked, not copied"


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_where_files_cannot_be_linked_they_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    source = make_source(tmp_path)

    def no_link(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("pipeline.commands.fork.os.link", no_link)
    run = fork_run(source, config(tmp_path, "fork"))
    shutil.rmtree(source.path)
    verify(run.weights / "l0-s000000")
    assert newest_whole(run) == 4
    assert [len(Journal(run.store).read_step(step, run.lineages())) for step in range(4)] == [1] * 4
    assert Pool(run.store).num_entries() == 4
    assert "step-000001" in Pool(run.store).pins


def test_evaluations_of_other_problems_are_left_behind(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    run = fork_run(source, config(tmp_path, "fork", problems={"heldout_seed": 1}))
    assert json.loads(run.state_file.read_text())["evals"] == {}


def test_a_fork_from_the_start_takes_the_seeded_model_and_no_history(tmp_path: Path) -> None:
    run = fork_run(make_source(tmp_path), config(tmp_path, "fork"), 0)
    assert newest_whole(run) is None
    assert Journal(run.store).num_groups() == 0
    assert Pool(run.store).num_entries() == 0


@pytest.mark.parametrize(
    ("settings", "step", "complaint"),
    [
        ({}, 3, r"--at-step 3: .* has no whole checkpoint of that step; it has \[2, 4\]"),
        ({"learner": {"num_steps": 4}}, None, r"learner.num_steps = 4 leaves nothing to train after step 4"),
        ({"model": {"path": "other"}}, None, r"model.path = 'other': the forked run began with 'embedded'"),
    ],
)
def test_what_cannot_be_forked_is_named_and_leaves_no_folder(
    tmp_path: Path, settings: dict[str, Any], step: int | None, complaint: str
) -> None:
    source = make_source(tmp_path)
    with pytest.raises((ConfigError, RunFolderError), match=complaint):
        fork_run(source, config(tmp_path, "fork", **settings), step)
    assert not (tmp_path / "fork").exists()


def test_a_run_in_use_and_a_run_without_weights_are_refused(tmp_path: Path) -> None:
    source = make_source(tmp_path)
    with source.locked(), pytest.raises(RunFolderError, match="in use"):
        fork_run(source, config(tmp_path, "fork"))
    assert not (tmp_path / "fork").exists()
    with pytest.raises(RunFolderError, match="nothing to fork"):
        fork_run(RunFolder.create(config(tmp_path, "empty")), config(tmp_path, "fork"))


def test_a_full_disk_leaves_no_half_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    source = make_source(tmp_path)
    monkeypatch.setattr("pipeline.commands.fork.name_latest", disk_full)
    with pytest.raises(DiskError):
        fork_run(source, config(tmp_path, "fork"))
    assert not (tmp_path / "fork").exists()
