"""The run folder: creation, lock, lineages, and what a resume may change."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.errors import DiskError, RunFolderError
from pipeline.run.folder import RunFolder
from pipeline.run.lineage import Lineage, group_is_current
from pipeline.run.resume import check_resume_config
from pipeline.runtime.files import disk_error, write_atomic
from tests.builders import group


def config(root: Path, **sections: dict[str, object]) -> Config:
    return Config.model_validate({"run": {"root": root, "name": "a"}, **sections})


def test_a_folder_that_exists_is_refused_with_the_remedy(tmp_path: Path) -> None:
    RunFolder.create(config(tmp_path))
    with pytest.raises(RunFolderError, match=r"run\.name = 'a'.*exists already.*--resume"):
        RunFolder.create(config(tmp_path))


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no run folder"):
        RunFolder.open(tmp_path)


def test_a_fork_that_was_killed_is_no_run(tmp_path: Path) -> None:
    """Half of its store may be there, and the lineages of none: it would go on as another run."""
    run = RunFolder.create(config(tmp_path), unfinished=True)
    for asked in (lambda: RunFolder.open(run.path), lambda: RunFolder.create(config(tmp_path))):
        with pytest.raises(RunFolderError, match="a fork that was cut short; remove the folder"):
            asked()


def test_the_resolved_config_comes_back_equal(tmp_path: Path) -> None:
    wanted = config(tmp_path, feedback={"ratio": [[0, 0.0], [10, 0.75]]}, rollout={"group_size": 4})
    assert RunFolder.create(wanted).config() == wanted


def test_two_processes_cannot_hold_one_run(tmp_path: Path) -> None:
    run = RunFolder.create(config(tmp_path))
    with run.locked(), pytest.raises(RunFolderError, match="in use"), run.locked():
        pass


def test_a_restart_abandons_what_newer_weights_sampled_and_nothing_else() -> None:
    lineages = [Lineage(number=0, start_step=0), Lineage(number=1, start_step=5), Lineage(number=2, start_step=7)]
    assert group_is_current(group(step=4, oldest=4, lineage=0), lineages)
    assert group_is_current(group(step=5, oldest=5, lineage=0), lineages), (
        "sampled by the very weights of the checkpoint"
    )
    assert not group_is_current(group(step=6, oldest=6, lineage=0), lineages)
    assert group_is_current(group(step=6, oldest=6, lineage=1), lineages)
    assert not group_is_current(group(step=8, oldest=8, lineage=1), lineages)
    assert group_is_current(group(step=99, oldest=99, lineage=2), lineages)


def test_lineages_are_numbered_on(tmp_path: Path) -> None:
    run = RunFolder.create(config(tmp_path))
    assert run.begin_lineage(5) == Lineage(number=1, start_step=5)
    assert run.begin_lineage(3) == Lineage(number=2, start_step=3)
    assert [lineage.number for lineage in run.lineages()] == [0, 1, 2]


def test_a_resume_shows_the_differences_and_accepts_harmless_ones(tmp_path: Path) -> None:
    stored = config(tmp_path)
    check_resume_config(stored, config(tmp_path, learner={"num_steps": 99, "cpu_threads": 1}))
    with pytest.raises(RunFolderError, match=r"rollout\.group_size: 8 in the run, 4 now") as caught:
        check_resume_config(stored, config(tmp_path, rollout={"group_size": 4}, learner={"num_steps": 99}))
    assert "num_steps" not in str(caught.value)


def test_a_full_disk_is_named_and_the_old_content_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "state.json"
    write_atomic(file, "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pipeline.runtime.files.os.fsync", full)
    with pytest.raises(DiskError, match=r"state\.json is full: free some space.*--resume"):
        write_atomic(file, "new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_under_lance_is_recognised_by_its_text() -> None:
    assert isinstance(
        disk_error(RuntimeError("LanceError(IO): No space left on device (os error 28)"), "store"), DiskError
    )
    other = RuntimeError("something else")
    assert disk_error(other, "store") is other


@pytest.mark.parametrize("num_written", [0, 1])
def test_a_run_that_died_while_its_folder_was_made_can_be_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_written: int
) -> None:
    left = num_written

    def cut_short(path: Path, text: str) -> None:
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        write_atomic(path, text)

    with monkeypatch.context() as killed:
        killed.setattr("pipeline.run.folder.write_atomic", cut_short)
        killed.setattr("pipeline.run.folder.shutil.rmtree", lambda *_, **__: None)  # a SIGKILL cleans nothing up
        with pytest.raises(KeyboardInterrupt):
            RunFolder.create(config(tmp_path))
    run = RunFolder.create(config(tmp_path))
    assert run.lineages() == [Lineage(number=0, start_step=0)]
    assert run.config() == config(tmp_path)
