"""LoRA: what is trained, what is published, and what a checkpoint holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from pipeline.canary import read_canary
from pipeline.checkpoints import checkpoint_path
from pipeline.journal import Journal
from pipeline.learner_config import LearnerSection
from pipeline.records import WeightVersion
from pipeline.run import RunFolder
from pipeline.weights import path_of
from tests.unit.trainer.groups import make_groups, make_run
from trainer.canary import _logprobs
from trainer.learner import Learner
from trainer.models import load_model
from trainer.status import LearnerStatus
from trainer.stop import StopSignal

LORA: dict[str, Any] = {"lora": {"rank": 4}, "kl_coef": 0.04, "learning_rate": 1e-2, "num_weights_kept": 10}


@pytest.fixture(autouse=True)
def _as_the_command_sets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")


def trained(run: RunFolder) -> Learner:
    learner = Learner(run, LearnerStatus(run), StopSignal())
    learner.train()
    return learner


def weights_of(run: RunFolder, step: int, lineage: int = 0) -> dict[str, torch.Tensor]:
    return load_file(path_of(run, WeightVersion(lineage=lineage, step=step)) / "model.safetensors")


def test_only_linear_layers_move_and_what_is_published_is_a_whole_model(tmp_path: Path) -> None:
    run = make_run(tmp_path, **LORA)
    learner = trained(run)
    before, after = weights_of(run, 0), weights_of(run, 3)
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if "_proj" in name}
    folder = path_of(run, WeightVersion(lineage=0, step=3))
    canary = read_canary(folder)
    assert canary is not None
    for sequence in canary.sequences:
        of_published = _logprobs(load_model(folder), list(sequence.token_ids))
        assert of_published == pytest.approx(list(sequence.logprobs), abs=1e-5), "the adapter's, before it was merged"
    assert learner.trainer.state.global_step == 3


def test_publishing_does_not_write_to_the_weights(tmp_path: Path) -> None:
    run = make_run(tmp_path, **LORA)
    learner = trained(run)
    frozen = {
        name.replace(".base_layer.", "."): weight
        for name, weight in learner.model.state_dict().items()
        if ".lora_" not in name
    }
    for name, weight in weights_of(run, 0).items():
        assert torch.equal(frozen[name], weight), name


def test_a_resumed_learner_equals_an_unbroken_one(tmp_path: Path) -> None:
    unbroken = make_run(tmp_path / "unbroken", num_steps=4, checkpoint_every=2, **LORA)
    trained(unbroken)
    run = make_run(tmp_path / "broken", num_steps=4, num_written=2, checkpoint_every=2, **LORA)

    stop: Any = StopSignal()

    def give_up(timeout_s: float) -> None:
        raise TimeoutError("nobody samples this step")

    stop.wait = give_up
    with pytest.raises(TimeoutError):
        Learner(run, LearnerStatus(run), stop).train()
    run.begin_lineage(2)
    for step in (2, 3):
        Journal(run.store).append(make_groups(step, lineage=1))
    trained(run)
    expected, found = weights_of(unbroken, 4), weights_of(run, 4, lineage=1)
    for name in expected:
        assert torch.equal(expected[name], found[name]), name


def test_a_checkpoint_holds_the_adapter_and_a_finished_run_publishes_it_merged(tmp_path: Path) -> None:
    run = make_run(tmp_path, checkpoint_every=3, **LORA)
    trained(run)
    files = {path.name for path in checkpoint_path(run, 3).iterdir()}
    assert "adapter_model.safetensors" in files and "model.safetensors" not in files
    run.begin_lineage(3)
    trained(run)
    expected, found = weights_of(run, 3), weights_of(run, 3, lineage=1)
    for name in expected:
        assert torch.equal(expected[name], found[name]), name


def test_the_head_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"learner\.lora\.target_modules"):
        LearnerSection.model_validate({"lora": {"rank": 8, "target_modules": ["q_proj", "lm_head"]}})
