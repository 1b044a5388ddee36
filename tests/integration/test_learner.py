"""The learner as a process: trains from a journal, stops on SIGTERM, resumes from its checkpoint, and ends on stdin's
end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.commands.fork import fork_run
from pipeline.run.checkpoints import checkpoint_path, newest_whole
from pipeline.run.folder import LEARNER_LOCK, RunFolder
from pipeline.run.metrics_log import MetricsWriter, read_metrics
from pipeline.run.resume import check_resume_config
from pipeline.runtime.child_process import PARENT_PID
from pipeline.storage.journal import Journal
from pipeline.weights.sync import write_servers
from tests.unit.trainer.groups import make_groups, make_run, tiny_config
from trainer.learner import Learner, work
from trainer.status import LearnerStatus
from trainer.stop import StopSignal

ROOT = Path(__file__).resolve().parents[2]
EXIT_TIMEOUT_S = 120.0


@contextmanager
def learner(run: RunFolder, **env: str) -> Iterator[subprocess.Popen[str]]:
    """A learner process with its stdin held open; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer.learner", "--run", str(run.path)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | env,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdin is not None and process.stderr is not None
        process.stdin.close()
        process.stderr.close()


def read_until(process: subprocess.Popen[str], text: str) -> None:
    """Read the log up to the line that holds `text`; what came instead is shown when the process ends without it."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if text in line:
            return
    pytest.fail("the learner ended first:\n" + "".join(lines[-30:]))


def status_of(run: RunFolder) -> dict[str, Any]:
    return json.loads(run.learner_file.read_text())


def tracked_names(run: RunFolder) -> set[str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    names: set[str] = set()
    for file in run.trackers.iterdir():
        accumulator = EventAccumulator(str(file))
        accumulator.Reload()
        names.update(accumulator.Tags()["scalars"])
    return names


@pytest.fixture(autouse=True)
def _as_the_command_sets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")


def test_a_learner_that_is_loading_ends_at_once(tmp_path: Path) -> None:
    """There is nothing to save, and whoever resumes the run waits for its lock."""
    run = make_run(tmp_path)
    with learner(run) as process:
        while not run.learner_file.exists() and process.poll() is None:
            time.sleep(0.01)
        assert status_of(run)["state"] == "starting"
        process.send_signal(signal.SIGTERM)
        assert process.wait(EXIT_TIMEOUT_S) == -signal.SIGTERM
    with run.locked(LEARNER_LOCK):
        pass


def test_stopped_and_resumed_learner_equals_an_unbroken_one(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "num_steps": 4,
        "kl_coef": 0.04,
        "checkpoint_every": 10,
        "num_warmup_steps": 2,
        "lr_scheduler": "linear",
    }
    unbroken = make_run(tmp_path / "unbroken", **settings)
    torch.set_num_threads(1)
    Learner(unbroken, LearnerStatus(unbroken), StopSignal()).train()

    run = make_run(tmp_path / "broken", num_written=2, report_to=("tensorboard",), **settings)
    with learner(run) as process:
        read_until(process, "step 2 loss")
        process.send_signal(signal.SIGTERM)
        assert process.wait(EXIT_TIMEOUT_S) == 0
    assert newest_whole(run) == 2
    assert status_of(run)["step"] == 2
    assert status_of(run)["state"] == "waiting"

    run.begin_lineage(2)
    for step in (2, 3):
        Journal(run.store).append(make_groups(step, lineage=1))
    with learner(run) as process:
        read_until(process, "step 3 loss")
        MetricsWriter(run.metrics_file, "orchestrator").write("eval", 4, accuracy=0.5)
        read_until(process, "done after step 4")
        assert status_of(run) == {
            "state": "done",
            "step": 4,
            "version": "l1-s000004",
            "error": None,
            "pid": process.pid,
        }
        assert process.poll() is None, "the learner must wait for the orchestrator's last metrics"
        MetricsWriter(run.metrics_file, "orchestrator").write("final", 4, heldout=0.75)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(EXIT_TIMEOUT_S) == 0

    assert run.final_model.is_symlink()
    assert not run.final_model.readlink().is_absolute()
    resumed, expected = (load_file(folder.final_model / "model.safetensors") for folder in (run, unbroken))
    assert resumed.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=0)
    start = load_file(run.weights / "l0-s000000" / "model.safetensors")
    assert any(not torch.equal(start[name], tensor) for name, tensor in expected.items())

    lines, _ = read_metrics(run.metrics_file)
    steps = [line["step"] for line in lines if line["event"] == "learner_step"]
    assert steps == [1, 2, 3, 4]
    assert {"train/loss", "train/orchestrator/final/heldout"} <= tracked_names(run)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_finished_run_that_gets_more_steps_goes_on_at_the_rate_of_a_run_of_that_length(
    tmp_path: Path, schedule: str
) -> None:
    settings: dict[str, Any] = {"kl_coef": 0.0, "checkpoint_every": 2, "lr_scheduler": schedule}
    run = make_run(tmp_path / "run", num_steps=2, num_warmup_steps=1, **settings)
    long = make_run(tmp_path / "long", num_steps=5, num_warmup_steps=1, **settings)
    for each in (run, long):
        Learner(each, LearnerStatus(each), StopSignal()).train()

    config = run.config()
    more = config.model_copy(update={"learner": config.learner.model_copy(update={"num_steps": 5})})
    check_resume_config(config, more)
    run.config_file.write_text(more.model_dump_json())
    run.begin_lineage(2)
    for step in (2, 3, 4):
        Journal(run.store).append(make_groups(step, lineage=1))
    Learner(run, LearnerStatus(run), StopSignal()).train()

    def rates(of: RunFolder) -> list[float]:
        return [line["learning_rate"] for line in read_metrics(of.metrics_file)[0] if line["event"] == "learner_step"]

    assert rates(run)[2:] == pytest.approx(rates(long)[2:])
    assert rates(run) == pytest.approx([0.5e-3, 1e-3, *(more.learner.rate_at(step) for step in (2, 3, 4))])
    assert all(rates(run))


def test_a_stop_before_the_first_step_leaves_no_checkpoint(tmp_path: Path) -> None:
    run = make_run(tmp_path, num_written=0)
    stop = StopSignal()
    stop.request()
    assert work(run, LearnerStatus(run), stop) == 0
    assert newest_whole(run) is None
    assert status_of(run)["state"] == "waiting"


def test_there_is_one_learner_at_a_time_and_none_without_its_orchestrator(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with run.locked(LEARNER_LOCK), learner(run) as process:
        read_until(process, "another learner is at work")
        assert process.wait(EXIT_TIMEOUT_S) == 1
    assert not run.learner_file.exists(), "it leaves the other's status alone"
    # Its parent was killed before the learner could ask the kernel to be told.
    with learner(run, **{PARENT_PID: "1"}) as process:
        assert process.wait(EXIT_TIMEOUT_S) == -signal.SIGTERM
    assert not run.learner_file.exists(), "it had not begun"
    assert newest_whole(run) is None


def test_stale_groups_move_nothing_and_are_counted(tmp_path: Path) -> None:
    run = make_run(tmp_path, num_written=1, num_steps=2, kl_coef=0.0)
    Journal(run.store).append([group.model_copy(update={"step": 1}) for group in make_groups(0)])
    Learner(run, LearnerStatus(run), StopSignal()).train()
    lines, _ = read_metrics(run.metrics_file)
    steps = [line for line in lines if line["event"] == "learner_step"]
    assert [line["num_masked_stale"] for line in steps] == [0, 16]
    assert [line["num_trained_tokens"] > 0 for line in steps] == [True, False]


def test_a_full_disk_while_publishing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_full(*_: object) -> None:
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    run = make_run(tmp_path)
    monkeypatch.setattr("trainer.models.save_model", disk_full)
    assert work(run, LearnerStatus(run), StopSignal()) == 2
    assert "is full: free some space, then give the same command again" in status_of(run)["error"]


def test_a_torn_checkpoint_is_passed_over(tmp_path: Path) -> None:
    run = make_run(tmp_path, checkpoint_every=1, kl_coef=0.0)
    Learner(run, LearnerStatus(run), StopSignal()).train()
    assert newest_whole(run) == 3
    torn = checkpoint_path(run, 3)
    optimizer = torn / "optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:-1])
    assert newest_whole(run) == 2
    (torn / "left").touch()
    run.begin_lineage(2)
    Journal(run.store).append(make_groups(2, lineage=1))
    Learner(run, LearnerStatus(run), StopSignal()).train()
    assert newest_whole(run) == 3
    assert not (torn / "left").exists(), "it was written anew, over nothing of the torn one"


def test_a_fork_goes_on_as_the_run_would_have_or_with_settings_of_its_own(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"num_steps": 4, "kl_coef": 0.04, "checkpoint_every": 2}
    source = make_run(tmp_path, **settings)
    Learner(source, LearnerStatus(source), StopSignal()).train()
    expected = load_file(source.final_model / "model.safetensors")
    for name, learning_rate, every in (("same", 1e-3, 2), ("other", 2e-4, 1)):
        config = tiny_config(tmp_path, **settings | {"checkpoint_every": every, "learning_rate": learning_rate})
        run = fork_run(source, config.model_copy(update={"run": config.run.model_copy(update={"name": name})}), 2)
        write_servers(run, [])
        for step in (2, 3):
            Journal(run.store).append(make_groups(step, lineage=1))
        Learner(run, LearnerStatus(run), StopSignal()).train()
        lines, _ = read_metrics(run.metrics_file)
        steps = [line for line in lines if line["event"] == "learner_step"]
        assert [line["learning_rate"] for line in steps] == [learning_rate] * 2
        assert checkpoint_path(run, 3).exists() == (every == 1)
        found = load_file(run.final_model / "model.safetensors")
        assert all(torch.equal(found[key], tensor) for key, tensor in expected.items()) == (name == "same")
