"""The canary that the learner publishes is what its model computes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from pipeline.weights.canary import read_canary
from tests.tiny_model import make_tiny_model
from trainer.canary import TEXTS, write_canary
from trainer.models import load_model, load_tokenizer


def test_each_token_gets_its_log_probability_given_those_before_it(tmp_path: Path) -> None:
    make_tiny_model(tmp_path)
    model, tokenizer = load_model(tmp_path), load_tokenizer(tmp_path)
    model.train()
    write_canary(model, tokenizer, tmp_path)
    canary = read_canary(tmp_path)
    assert canary is not None and len(canary.sequences) == len(TEXTS)
    assert model.training, "the model is left as it was"
    model.eval()
    for sequence in canary.sequences:
        ids = torch.tensor([sequence.token_ids])
        loss = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:])
        assert -sum(sequence.logprobs) / len(sequence.logprobs) == pytest.approx(loss.item(), rel=1e-5)


@pytest.fixture
def fresh_accelerate() -> Iterator[None]:
    """accelerate keeps one state for a process, and the learners of other tests have set it."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("fresh_accelerate")
def test_it_is_of_the_weights_and_not_of_the_rounding_of_autocast(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model", hidden_size=256)
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    write_canary(model, tokenizer, folder)
    plain = read_canary(folder)
    prepared = Accelerator(cpu=True, mixed_precision="bf16").prepare_model(model)
    ids = torch.tensor([[1, 2, 3]])
    assert prepared(ids).logits.dtype == torch.float32 and not torch.equal(
        prepared(ids).logits, load_model(folder)(ids).logits
    )
    write_canary(prepared, tokenizer, folder)
    assert read_canary(folder) == plain


def test_weights_without_one_have_none(tmp_path: Path) -> None:
    assert read_canary(tmp_path) is None
