"""LoRA: what is trained, what is published, and what a checkpoint holds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from safetensors.torch import load_file

from pipeline.config.learner import LearnerSection
from pipeline.run.checkpoints import checkpoint_path
from pipeline.run.folder import RunFolder
from pipeline.storage.journal import Journal
from pipeline.types import WeightVersion
from pipeline.weights.canary import read_canary
from pipeline.weights.publishing import is_adapter, path_of, verify
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

    def give_up(*_: object) -> None:
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


def test_adapters_are_published_alone_and_the_final_model_is_whole(tmp_path: Path) -> None:
    """What is published is what vLLM loads, its canary is that of base and adapter together, and merged it is the final
    model."""
    run = make_run(tmp_path, **LORA, transfer="lora", checkpoint_every=3)
    learner = trained(run)
    for step in (1, 2, 3):
        folder = path_of(run, WeightVersion(lineage=0, step=step))
        verify(folder)
        files = {path.name for path in folder.iterdir()}
        assert files == {"adapter_model.safetensors", "adapter_config.json", "canary.json", "manifest.json"}
        canary = read_canary(folder)
        assert canary is not None
        loaded = PeftModel.from_pretrained(load_model(learner.reference), str(folder))
        for sequence in canary.sequences:
            found = _logprobs(loaded.get_base_model(), list(sequence.token_ids))
            assert found == pytest.approx(list(sequence.logprobs), abs=1e-5)
    assert not is_adapter(learner.reference)
    final = run.final_model.resolve()
    assert final == run.merged / "l0-s000003"
    assert canary is not None
    for sequence in canary.sequences:
        found = _logprobs(load_model(final), list(sequence.token_ids))
        assert found == pytest.approx(list(sequence.logprobs), abs=1e-5)
    run.begin_lineage(3)
    trained(run)
    assert run.final_model.resolve() == run.merged / "l1-s000003", "of a run that had ended, from its checkpoint"
    assert [folder.name for folder in run.merged.iterdir() if folder.is_dir()] == ["l1-s000003"]
    before, after = load_file(final.with_name("l1-s000003") / "model.safetensors"), learner.model.state_dict()
    assert torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])


def test_a_resumed_learner_publishes_the_adapter_of_its_checkpoint(tmp_path: Path) -> None:
    run = make_run(tmp_path, num_steps=2, checkpoint_every=1, **LORA, transfer="lora")
    trained(run)
    adapters = [load_file(path_of(run, WeightVersion(lineage=0, step=2)) / "adapter_model.safetensors")]
    shutil.rmtree(checkpoint_path(run, 2))
    run.begin_lineage(1)
    Journal(run.store).append(make_groups(1, lineage=1))
    trained(run)
    adapters += [
        load_file(path_of(run, WeightVersion(lineage=1, step=step)) / "adapter_model.safetensors") for step in (1, 2)
    ]
    unbroken, first, second = adapters
    assert any(not torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(unbroken[name], second[name]) for name in unbroken)


@pytest.mark.parametrize("rank", [0, 513])
def test_adapters_that_no_server_could_serve_are_refused(rank: int) -> None:
    with pytest.raises(
        ValidationError,
        match=rf"learner\.lora\.rank = {rank}.*set learner\.lora\.rank to 1 to 512, or learner\.transfer",
    ):
        LearnerSection.model_validate({"transfer": "lora", "lora": {"rank": rank}})


def test_the_head_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"learner\.lora\.target_modules"):
        LearnerSection.model_validate({"lora": {"rank": 8, "target_modules": ["q_proj", "lm_head"]}})
