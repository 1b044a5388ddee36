"""What saves memory changes no result: recomputed parts, and a reference that is mapped from its file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.tiny_model import make_tiny_model
from trainer.models import load_model, save_model
from trainer.recompute import recompute_cheap_parts
from trainer.reference import MappedWeights

IDS = torch.arange(80).view(2, 40)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    return make_tiny_model(tmp_path / "model", hidden_size=64)


def loss_of(model: Any, *, autocast: bool) -> Any:
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        return model(input_ids=IDS, labels=IDS, use_cache=False).loss


def kept_bytes(model: Any) -> int:
    """Of the tensors that a forward pass keeps for its backward pass, weights aside."""
    kept: dict[int, int] = {}
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = loss_of(model, autocast=False)
    del loss
    return sum(size for pointer, size in kept.items() if pointer not in weights)


@pytest.mark.parametrize("autocast", [False, True])
def test_recomputing_cheap_parts_changes_no_gradient(folder: Path, autocast: bool) -> None:
    model = load_model(folder).train()
    results = []
    for recompute in (False, True):
        if recompute:
            recompute_cheap_parts(model)
        model.zero_grad()
        loss = loss_of(model, autocast=autocast)
        loss.backward()
        results.append((loss.item(), torch.cat([weight.grad.flatten() for weight in model.parameters()])))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])


class Products(TorchDispatchMode):
    """Counts matrix products."""

    num = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.num += function.name().startswith(("aten::mm", "aten::addmm", "aten::bmm"))
        return function(*args, **(kwargs or {}))


def test_recomputing_computes_no_product_twice(folder: Path) -> None:
    model = load_model(folder).train()
    numbers = []
    for recompute in (False, True):
        if recompute:
            recompute_cheap_parts(model)
        with Products() as products:
            loss_of(model, autocast=True).backward()
        numbers.append(products.num)
    assert numbers[0] == numbers[1] > 0


def test_recomputing_keeps_less(folder: Path) -> None:
    model = load_model(folder).train()
    before = kept_bytes(model)
    recompute_cheap_parts(model)
    assert kept_bytes(model) < 0.7 * before


def resident_kib(file: Path) -> int:
    """Of the private views of `file` in this process that are writable."""
    total, counts = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            counts = line.endswith(str(file)) and " rw-p " in line
        elif counts and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


def test_a_mapped_reference_computes_the_same_and_is_in_memory_only_then(folder: Path) -> None:
    plain, reference = load_model(folder), load_model(folder)
    mapped = MappedWeights(reference, folder)
    with torch.no_grad():
        expected = plain(input_ids=IDS).logits
        del plain
        assert torch.equal(reference(input_ids=IDS).logits, expected)
        size = sum(weight.numel() for weight in reference.parameters()) * 4 // 1024
        assert resident_kib(folder / "model.safetensors") >= 0.9 * size
        mapped.release()
        assert resident_kib(folder / "model.safetensors") < 0.5 * size
        assert torch.equal(reference(input_ids=IDS).logits, expected)


def test_weights_of_another_type_or_place_stay_as_they_are(folder: Path, tmp_path: Path) -> None:
    model = load_model(folder)
    small = tmp_path / "small"
    save_model(model.to(torch.bfloat16), _Tokenizer(), small)
    model = load_model(folder)
    pointers = [weight.data_ptr() for weight in model.parameters()]
    for other in (small, tmp_path / "nowhere"):
        MappedWeights(model, other).release()
        assert [weight.data_ptr() for weight in model.parameters()] == pointers


class _Tokenizer:
    def save_pretrained(self, folder: Path) -> None:
        return None
