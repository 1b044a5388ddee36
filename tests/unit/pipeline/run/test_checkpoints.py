"""Which checkpoints are whole, and which are kept. Without torch."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
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

LARGE = 2 << 20


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(Config.model_validate({"run": {"root": str(tmp_path), "name": "run"}}))


def checkpoint(run: RunFolder, step: int, *, whole: bool = True) -> Path:
    folder = checkpoint_path(run, step)
    folder.mkdir()
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
        begin(run, checkpoint_path(run, step))
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
    begin(run, folder)
    assert list(folder.iterdir()) == []
    (kept,) = run.checkpoints.glob("checkpoint-5.kept-*")
    assert sorted(file.name for file in kept.iterdir()) == left
    (folder / "optimizer.pt").write_bytes(b"torn")
    begin(run, folder)
    assert list(folder.iterdir()) == []
    assert steps(run) == [5]
    assert len(list(run.checkpoints.iterdir())) == 2, "what this run began is replaced"


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
