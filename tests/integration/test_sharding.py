"""A learner whose model is divided between two processes over gloo: FSDP2. It learns what one process learns with a
whole model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from pipeline.run.checkpoints import checkpoint_path, newest_whole
from pipeline.run.folder import RunFolder
from pipeline.storage.journal import Journal
from pipeline.types import WeightVersion
from pipeline.weights.canary import FILE, Canary
from pipeline.weights.publishing import path_of
from tests.documents import Document
from tests.integration.test_data_parallel import (
    COMPARED,
    SETTINGS,
    children_of,
    steps_of,
    to_its_end,
    trained_alone,
    wait_until_gone,
)
from tests.integration.test_learner import EXIT_TIMEOUT_S, ROOT, learner, read_until, status_of
from tests.unit.trainer.groups import make_groups, make_run
from trainer.learner import Learner
from trainer.sharding import PARTS
from trainer.status import LearnerStatus
from trainer.stop import StopSignal

DIVIDED: dict[str, Any] = {"num_processes": 2, "sharding": "fsdp2"}
VARIANTS: dict[str, dict[str, Any]] = {
    "lora": {"lora": {"rank": 4, "target_modules": ["q_proj", "down_proj"]}},
    "unshared": {"share_prefix": False},
    "recomputed": {"gradient_checkpointing": True},
}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return trained_alone(tmp_path_factory.mktemp("alone"))


def assert_same_training(run: RunFolder, lineage: int, step: int, alone: RunFolder, tolerance: float = 1e-5) -> None:
    """Weights, their canary and what was logged, up to `step`."""
    ours, theirs = (
        path_of(folder, WeightVersion(lineage=number, step=step)) for folder, number in ((run, lineage), (alone, 0))
    )
    found, expected = load_file(ours / "model.safetensors"), load_file(theirs / "model.safetensors")
    start = load_file(path_of(alone, WeightVersion(lineage=0, step=0)) / "model.safetensors")
    assert found.keys() == expected.keys()
    assert any((expected[name] - start[name]).abs().max() > 100 * tolerance for name in start)
    for name, weight in expected.items():
        assert (found[name] - weight).abs().max() < tolerance, name
    canary, wanted = (Canary.model_validate_json((folder / FILE).read_text()) for folder in (ours, theirs))
    for sequence, other in zip(canary.sequences, wanted.sequences, strict=True):
        assert sequence.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    # Without shared prefixes padding is computed as well, and it depends on who computes what.
    names = [name for name in COMPARED if run.config().learner.share_prefix or name != "num_computed_tokens"]
    for logged, other_logged in zip(steps_of(run), steps_of(alone)[:step], strict=True):
        for name in names:
            assert logged[name] == pytest.approx(other_logged[name], rel=1e-4), name


def go_on(run: RunFolder, step: int, num_written: int) -> None:
    """What the orchestrator does at a resume: a lineage from `step` on, and `num_written` steps sampled in it."""
    run.begin_lineage(step)
    for number in range(step, step + num_written):
        Journal(run.store).append(make_groups(number, lineage=run.lineages()[-1].number))


def stopped_after(run: RunFolder, step: int) -> None:
    """Train up to `step` in processes that the learner starts itself, and stop it there."""
    with learner(run) as process:
        read_until(process, f"step {step} loss")
        process.send_signal(signal.SIGTERM)
        assert process.wait(EXIT_TIMEOUT_S) == 0
    assert newest_whole(run) == step
    parts = [path.stat().st_size for path in sorted((checkpoint_path(run, step) / PARTS).glob("__*_0.distcp"))]
    assert len(parts) == 2 and min(parts) > 0.4 * sum(parts), "each process wrote its half"


def wait_for_version(run: RunFolder, label: str) -> None:
    deadline = time.monotonic() + EXIT_TIMEOUT_S
    while status_of(run)["version"] != label:
        assert time.monotonic() < deadline and status_of(run)["state"] != "failed", status_of(run)
        time.sleep(0.1)


def launched(run: RunFolder, num_processes: int) -> subprocess.CompletedProcess[str]:
    """The learner of `run`, to its end, by the command of docs/scaling.md, which names 2 processes."""
    (documented,) = [
        words for words in Document.read(ROOT / "docs" / "scaling.md").commands if words[:2] == ["accelerate", "launch"]
    ]
    values = {"RUN": str(run.path), "2": str(num_processes)}
    command = [sys.executable, "-m", "accelerate.commands.launch", *(values.get(word, word) for word in documented[2:])]
    return to_its_end(command, timeout_s=600)


def test_a_divided_model_learns_the_same_stops_resumes_and_dies_together(tmp_path: Path, alone: RunFolder) -> None:
    run = make_run(tmp_path, num_written=2, **SETTINGS | DIVIDED)
    stopped_after(run, 2)
    go_on(run, 2, num_written=1)
    with learner(run) as process:
        read_until(process, "step 3 loss")
        wait_for_version(run, "l1-s000003")
        (other,) = children_of(process.pid)
        os.kill(other, signal.SIGKILL)
        Journal(run.store).append(make_groups(3, lineage=1))  # the next thing that both must do together
        assert process.wait(EXIT_TIMEOUT_S) == 1
    wait_until_gone(other)
    assert status_of(run)["state"] == "failed"
    assert newest_whole(run) == 2, "what both write together, one alone does not declare whole"
    assert_same_training(run, 1, 3, alone)


@pytest.mark.slow
def test_when_the_leader_is_killed_none_is_left(tmp_path: Path) -> None:
    run = make_run(tmp_path, num_written=1, **SETTINGS | DIVIDED)
    with learner(run) as process:
        read_until(process, "step 1 loss")
        (other,) = children_of(process.pid)
        process.kill()
        wait_until_gone(other)


@pytest.mark.slow
def test_accelerate_launch_starts_it_and_another_number_of_processes_goes_on(tmp_path: Path, alone: RunFolder) -> None:
    """The shipped file alone, without `learner.sharding`. Resumed once more at its end, one process puts the parts
    together."""
    run = make_run(tmp_path, num_written=2, **SETTINGS | DIVIDED)
    stopped_after(run, 2)
    go_on(run, 2, num_written=2)
    run.config_file.write_text(run.config_file.read_text().replace('"fsdp2"', '"none"'))
    ended = launched(run, 4)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert_same_training(run, 1, 4, alone)
    run.begin_lineage(4)
    Learner(run, LearnerStatus(run), StopSignal()).train()
    assert_same_training(run, 2, 4, alone)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_other_ways_to_compute_learn_the_same(tmp_path: Path, variant: str) -> None:
    settings = VARIANTS[variant]
    alone = trained_alone(tmp_path / "alone", **settings)
    run = make_run(tmp_path / "divided", num_written=2, **SETTINGS | DIVIDED | settings)
    stopped_after(run, 2)
    go_on(run, 2, num_written=2)
    with learner(run) as process:
        read_until(process, "done after step 4")
    assert_same_training(run, 1, 4, alone, tolerance=2e-5)
    run.begin_lineage(4)
    with learner(run) as process:
        read_until(process, "done after step 4")
    assert_same_training(run, 2, 4, alone, tolerance=2e-5)
