"""Which checkpoints are whole, and which are kept. Without torch."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.run.checkpoints import (
    MANIFEST,
    begin,
    checkpoint_path,
    is_whole,
    newest_whole,
    oldest_whole,
    prune,
    steps,
    write_manifest,
)
from pipeline.run.folder import RunFolder
from pipeline.runtime.written import LIST, Written
from tests.strangers import state_of

LARGE = 2 << 20


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(Config.model_validate({"run": {"root": str(tmp_path), "name": "run"}}))


def checkpoint(run: RunFolder, step: int, *, whole: bool = True) -> Path:
    folder = checkpoint_path(run, step)
    folder.mkdir(exist_ok=True)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    (folder / "optimizer.pt").write_bytes(b"o" * LARGE)
    if whole:
        write_manifest(folder)
    return folder


def test_none_without_checkpoints(run: RunFolder) -> None:
    assert newest_whole(run) is None


def test_newest_is_by_number_not_by_name(run: RunFolder) -> None:
    for step in (5, 10, 100):
        checkpoint(run, step)
    assert steps(run) == [5, 10, 100]
    assert newest_whole(run) == 100


def test_without_manifest_it_is_not_whole(run: RunFolder) -> None:
    checkpoint(run, 5, whole=False)
    assert oldest_whole(run) is None, "the pool of step 0 is still needed while the first checkpoint is written"
    checkpoint(run, 10)
    checkpoint(run, 15, whole=False)
    assert newest_whole(run) == oldest_whole(run) == 10


def test_torn_checkpoints_are_skipped(run: RunFolder) -> None:
    checkpoint(run, 5)
    (checkpoint(run, 10) / "optimizer.pt").write_bytes(b"o" * (LARGE - 1))
    (checkpoint(run, 15) / "trainer_state.json").unlink()
    (checkpoint(run, 20) / "trainer_state.json").write_text(json.dumps({"global_step": 99}))
    (checkpoint(run, 25) / MANIFEST).write_text('{"files": {"opt')
    assert newest_whole(run) == 5


def test_a_checkpoint_of_no_files_is_not_whole(run: RunFolder) -> None:
    folder = checkpoint_path(run, 5)
    folder.mkdir()
    write_manifest(folder)
    assert not is_whole(folder)


def test_prune_keeps_the_newest_whole_ones_and_drops_old_torn_ones(run: RunFolder) -> None:
    for step in (5, 10, 20):
        checkpoint(run, step)
    for step in (14, 25):
        begin(checkpoint_path(run, step))
        (checkpoint_path(run, step) / "optimizer.pt").write_bytes(b"torn")
    checkpoint(run, 15, whole=False)
    (checkpoint_path(run, 5) / "notes.txt").write_text("mine")
    prune(run, keep=2)
    assert steps(run) == [5, 10, 15, 20, 25]
    assert [file.name for file in checkpoint_path(run, 5).iterdir()] == ["notes.txt"]
    assert checkpoint_path(run, 15).is_dir(), "nothing says that this run began it"


def test_what_is_in_the_place_of_a_checkpoint_is_kept_beside_it(run: RunFolder) -> None:
    folder = checkpoint(run, 5, whole=False)
    left = sorted(file.name for file in folder.iterdir())
    begin(folder)
    assert list(folder.iterdir()) == []
    (kept,) = run.checkpoints.glob("checkpoint-5.kept-*")
    assert sorted(file.name for file in kept.iterdir()) == left
    (folder / "optimizer.pt").write_bytes(b"torn")
    begin(folder)
    assert list(folder.iterdir()) == []
    assert steps(run) == [5]
    assert len(list(run.checkpoints.glob("checkpoint-*"))) == 2, "what this run began is replaced"


def _notes(run: RunFolder, elsewhere: Path) -> list[str]:
    (checkpoint_path(run, 5) / "notes.txt").write_text("mine")
    return ["checkpoint-5/notes.txt"]


def _edited(run: RunFolder, elsewhere: Path) -> list[str]:
    (checkpoint_path(run, 5) / "trainer_state.json").write_text("mine")
    (checkpoint_path(run, 5) / "optimizer.pt").write_bytes(b"mine")
    return ["checkpoint-5/optimizer.pt", "checkpoint-5/trainer_state.json"]


def _moved_and_linked(run: RunFolder, elsewhere: Path) -> list[str]:
    checkpoint_path(run, 5).rename(elsewhere)
    checkpoint_path(run, 5).symlink_to(elsewhere)
    return ["checkpoint-5/complete.json", "checkpoint-5/optimizer.pt", "checkpoint-5/trainer_state.json"]


def _linked_within(run: RunFolder, elsewhere: Path) -> list[str]:
    (checkpoint_path(run, 5) / "optimizer.pt").rename(elsewhere)
    (checkpoint_path(run, 5) / "optimizer.pt").symlink_to(elsewhere)
    return ["checkpoint-5/optimizer.pt"]


def _another_runs(run: RunFolder, elsewhere: Path) -> list[str]:
    other = RunFolder.create(Config.model_validate({"run": {"root": str(elsewhere), "name": "other"}}))
    shutil.copytree(checkpoint(other, 3), checkpoint_path(run, 3))
    shutil.rmtree(checkpoint_path(run, 5))
    shutil.copytree(checkpoint(other, 6), checkpoint_path(run, 5))
    return [f"checkpoint-{step}/{name}" for step in (3, 5) for name in (MANIFEST, "optimizer.pt", "trainer_state.json")]


def _manifest_reaches_out(run: RunFolder, elsewhere: Path) -> list[str]:
    """Listed as ours, as no manifest of ours would be."""
    (run.path / "outside.txt").write_text("mine")
    folder = checkpoint_path(run, 5)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"]["../../outside.txt"] = manifest["files"]["../../outside.txt/../outside.txt"] = {"size": 4}
    Written(run.checkpoints).write(f"checkpoint-5/{MANIFEST}", json.dumps(manifest))
    return ["../outside.txt"]


def _put_back(run: RunFolder, elsewhere: Path) -> list[str]:
    shutil.copytree(checkpoint_path(run, 5), elsewhere)
    checkpoint(run, 7)
    prune(run, keep=1)
    assert not checkpoint_path(run, 5).exists()
    shutil.copytree(elsewhere, checkpoint_path(run, 5))
    return ["checkpoint-5/complete.json", "checkpoint-5/optimizer.pt", "checkpoint-5/trainer_state.json"]


def _folder_of_that_inode(run: RunFolder, elsewhere: Path) -> list[str]:
    prune(run, keep=1)  # nothing; then as a disk would that gives the inode again
    folder = checkpoint_path(run, 5)
    found = folder.stat()
    checkpoint(run, 7)
    prune(run, keep=1)
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    lines = run.checkpoints / LIST
    old, new = f'"inode":{found.st_ino}', f'"inode":{folder.stat().st_ino}'
    lines.write_text(lines.read_text().replace(old, new))
    return ["checkpoint-5/mine.txt"]


def _manifest_taken_away(run: RunFolder, elsewhere: Path) -> list[str]:
    (checkpoint_path(run, 5) / MANIFEST).unlink()
    (checkpoint_path(run, 5) / "notes.txt").write_text("mine")
    return ["checkpoint-5/notes.txt", "checkpoint-5/optimizer.pt", "checkpoint-5/trainer_state.json"]


def _replaced(run: RunFolder, elsewhere: Path) -> list[str]:
    """By a folder of another program's, to which the disk gives the inode again."""
    folder = checkpoint_path(run, 5)
    for file in folder.iterdir():
        file.unlink()
    (folder / "mine.bin").write_text("mine")
    return ["checkpoint-5/mine.bin"]


def _manifest_of_another_program(run: RunFolder, elsewhere: Path) -> list[str]:
    shutil.rmtree(checkpoint_path(run, 5))
    checkpoint_path(run, 5).mkdir()
    checkpoint_path(run, 3).mkdir()
    (checkpoint_path(run, 3) / MANIFEST).write_text("[]")
    (checkpoint_path(run, 5) / MANIFEST).write_text('{"files": ["mine.bin"]}')
    return [f"checkpoint-3/{MANIFEST}", f"checkpoint-5/{MANIFEST}"]


def _of_another_disk(run: RunFolder, elsewhere: Path) -> list[str]:
    folder = checkpoint_path(run, 5)
    (folder / MANIFEST).unlink()
    lines, device = run.checkpoints / LIST, folder.stat().st_dev
    lines.write_text(lines.read_text().replace(f'"device":{device}', f'"device":{device + 1}'))
    return ["checkpoint-5/optimizer.pt", "checkpoint-5/trainer_state.json"]


THEIRS = (
    _notes, _edited, _moved_and_linked, _linked_within, _another_runs, _manifest_reaches_out, _put_back,
    _folder_of_that_inode, _of_another_disk, _manifest_taken_away, _replaced, _manifest_of_another_program,
)  # fmt: skip


@pytest.mark.parametrize("change", THEIRS)
@pytest.mark.parametrize("copied", [False, True])
def test_prune_touches_nothing_that_this_run_did_not_write(
    run: RunFolder, tmp_path: Path, change: Callable[[RunFolder, Path], list[str]], copied: bool
) -> None:
    """However often, and in a copy of the run folder."""
    begin(checkpoint_path(run, 5))
    checkpoint(run, 5)
    theirs = change(run, tmp_path / "elsewhere")
    if copied:
        shutil.copytree(run.path, tmp_path / "copy", symlinks=True)
        run = RunFolder(tmp_path / "copy")
    state = state_of([run.checkpoints / name for name in theirs])
    for step in (10, 11, 12):
        begin(checkpoint_path(run, step))
        checkpoint(run, step)
        prune(run, keep=1)
    assert state_of([run.checkpoints / name for name in theirs]) == state
    left = [str(path.relative_to(run.checkpoints)) for step in (3, 5) for path in checkpoint_path(run, step).glob("*")]
    assert sorted(left) == [name for name in theirs if not name.startswith("..")], "what was ours is gone"
    assert not checkpoint_path(run, 10).exists() and not checkpoint_path(run, 11).exists()


def test_what_a_kill_leaves_without_the_manifest_that_was_listed_is_removed(run: RunFolder) -> None:
    folder = checkpoint_path(run, 5)
    for _ in range(2):
        begin(folder)
        checkpoint(run, 5)
        (folder / MANIFEST).unlink()
    begin(folder)
    checkpoint(run, 5, whole=False)
    checkpoint(run, 10)
    prune(run, keep=1)
    assert [path.name for path in run.checkpoints.glob("checkpoint-*")] == ["checkpoint-10"]


def test_a_copied_run_prunes_what_it_took_along(run: RunFolder, tmp_path: Path) -> None:
    for step in (5, 10):
        checkpoint(run, step)
    shutil.copytree(run.path, tmp_path / "copy")
    copy = RunFolder(tmp_path / "copy")
    assert newest_whole(copy) == 10
    checkpoint(copy, 15)
    prune(copy, keep=1)
    assert (steps(copy), steps(run)) == ([15], [5, 10])


def test_checkpoints_on_another_disk_by_a_link_to_all_of_them_are_pruned(run: RunFolder, tmp_path: Path) -> None:
    run.checkpoints.rename(tmp_path / "disk")
    run.checkpoints.symlink_to(tmp_path / "disk")
    for step in (5, 10):
        begin(checkpoint_path(run, step))
        checkpoint(run, step)
    prune(run, keep=1)
    assert steps(run) == [10]


def test_prune_leaves_torn_ones_alone_without_a_whole_one(run: RunFolder) -> None:
    checkpoint(run, 5, whole=False)
    prune(run, keep=1)
    assert steps(run) == [5]


def test_the_orchestrator_can_ask_without_torch() -> None:
    code = "import sys, pipeline.run.checkpoints; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_500_truncations_all_fall_back_to_the_last_whole_one(run: RunFolder) -> None:
    """Promise 13 in full: any file of a checkpoint, its manifest too, cut at any length."""
    rng = random.Random(13)
    checkpoint(run, 5)
    folder = checkpoint(run, 10)
    (folder / "global_step10").mkdir()
    (folder / "global_step10" / "rank_0.pt").write_bytes(rng.randbytes(5000))
    write_manifest(folder)
    whole = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert len(whole) == 4 and newest_whole(run) == 10
    for _ in range(500):
        path = rng.choice(list(whole))
        length = rng.randrange(len(whole[path]))
        os.truncate(path, length)
        assert newest_whole(run) == 5, f"{path.name} cut at {length} of {len(whole[path])} bytes"
        path.write_bytes(whole[path])
    assert newest_whole(run) == 10
