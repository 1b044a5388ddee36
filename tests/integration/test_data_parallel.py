"""A learner of two processes over gloo: it learns what one process learns, stops, resumes, and leaves nobody behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.run.checkpoints import newest_whole
from pipeline.run.folder import RunFolder
from pipeline.run.metrics_log import read_metrics
from pipeline.storage.journal import Journal
from pipeline.types import RolloutGroup, WeightVersion
from pipeline.weights.publishing import path_of
from tests.integration.test_learner import EXIT_TIMEOUT_S, ROOT, learner, read_until, status_of
from tests.unit.trainer.groups import as_pairs, in_contexts, make_groups, make_run
from trainer.learner import Learner
from trainer.status import LearnerStatus
from trainer.stop import StopSignal

SETTINGS: dict[str, Any] = {"num_steps": 4, "kl_coef": 0.04, "checkpoint_every": 10}
COMPARED = ("loss", "grad_norm", "num_trained_tokens", "num_computed_tokens", "logprob_gap_mean", "logprob_gap_max")


PAIRS = {"paired_groups": True}
OBJECTIVE = {
    "num_steps": 2,
    "train_under": "scratch",
    "context_ratio": "token",
    "context_ratio_cap": 1.2,
    "sampled_weight": 0.3,
}
OF_CONTEXTS = (
    *("share_advantage_in_context", "context_ratio_ess", "context_ratio_at_cap", "context_ratio_at_floor"),
    *("context_log_ratio", "num_masked_uncut"),
)


def pairs(step: int) -> list[RolloutGroup]:
    return as_pairs(in_contexts(make_groups(step)))


def trained_alone(root: Path, **settings: Any) -> RunFolder:
    """What one process makes of the same journal."""
    run = make_run(root, **SETTINGS | settings)
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")  # as the command sets it
        Learner(run, LearnerStatus(run), StopSignal()).train()
    return run


def to_its_end(command: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return trained_alone(tmp_path_factory.mktemp("alone"))


def assert_same_training(
    run: RunFolder, lineage: int, alone: RunFolder, step: int = 4, compared: tuple[str, ...] = COMPARED
) -> None:
    expected = load_file(path_of(alone, WeightVersion(lineage=0, step=step)) / "model.safetensors")
    found = load_file(path_of(run, WeightVersion(lineage=lineage, step=step)) / "model.safetensors")
    for name, weight in expected.items():
        assert (found[name] - weight).abs().max() < 1e-5, name
    for theirs, ours in zip(steps_of(alone), steps_of(run), strict=True):
        for name in compared:
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4), name


def steps_of(run: RunFolder) -> list[dict[str, Any]]:
    return [line for line in read_metrics(run.metrics_file)[0] if line["event"] == "learner_step"]


def children_of(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_until_gone(pid: int, patience_s: float = 20.0) -> None:
    deadline = time.monotonic() + patience_s
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, f"process {pid} outlived its leader"
        time.sleep(0.1)


def test_stopped_and_resumed_with_two_processes_equals_one_unbroken_process(tmp_path: Path, alone: RunFolder) -> None:
    run = make_run(tmp_path, num_written=2, num_processes=2, **SETTINGS)
    with learner(run) as process:
        read_until(process, "step 2 loss")
        process.send_signal(signal.SIGTERM)
        assert process.wait(EXIT_TIMEOUT_S) == 0
    assert newest_whole(run) == 2
    assert (run.checkpoints / "checkpoint-2" / "rng_state_1.pth").exists(), "each process saves its part"
    run.begin_lineage(2)
    for step in (2, 3):
        Journal(run.store).append(make_groups(step, lineage=1))
    with learner(run) as process:
        read_until(process, "done after step 4")
    assert_same_training(run, 1, alone)


def test_pairs_trained_without_their_contexts_are_divided_whole(tmp_path: Path) -> None:
    settings = {"rollout": PAIRS, "groups": pairs, **OBJECTIVE}
    alone = trained_alone(tmp_path / "alone", **settings)
    run = make_run(tmp_path / "two", num_processes=2, **SETTINGS | settings)
    with learner(run) as process:
        read_until(process, "done after step 2")
    assert_same_training(run, 0, alone, step=2, compared=(*COMPARED, *OF_CONTEXTS))


def test_accelerate_launch_starts_the_processes_as_well(tmp_path: Path, alone: RunFolder) -> None:
    run = make_run(tmp_path, **SETTINGS)
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--main_process_port",
        "0",
    ]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    ended = to_its_end([*command, "-m", "trainer.learner", "--run", str(run.path)], timeout_s=300)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert status_of(run)["state"] == "done"
    assert_same_training(run, 0, alone)


@pytest.mark.parametrize("victim", ["leader", pytest.param("other", marks=pytest.mark.slow)])
def test_when_one_process_is_killed_none_is_left(tmp_path: Path, victim: str) -> None:
    run = make_run(tmp_path, num_written=1, num_processes=2, **SETTINGS)
    with learner(run) as process:
        read_until(process, "step 1 loss")
        (other,) = children_of(process.pid)
        os.kill(process.pid if victim == "leader" else other, signal.SIGKILL)
        if victim == "other":
            Journal(run.store).append(make_groups(1))  # the next thing that both must do together
            assert process.wait(EXIT_TIMEOUT_S) == 1
            assert status_of(run)["state"] == "failed"
        wait_until_gone(other)
