"""Packed rows give the log-probabilities, entropies and gradients of rows computed apart."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny_model import make_tiny_model
from trainer import token_logps
from trainer.models import load_model
from trainer.shared_prefix import attention_of, pack, prompt_groups, shared_prefix_logps, supports_shared_prefix

TEMPERATURE = 0.7


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.set_num_threads(1)
    return load_model(make_tiny_model(tmp_path_factory.mktemp("model"), hidden_size=64))


def rows(seed: int, prompt_lengths: list[int], group_size: int = 3, num_completion: int = 9) -> tuple[Tensor, Tensor]:
    """Groups of rows as TRL pads them: prompts on the left, completions on the right."""
    rng = random.Random(seed)
    width = max(prompt_lengths)
    ids, mask = [], []
    for length in prompt_lengths:
        prompt = [rng.randrange(250) for _ in range(length)]
        for _ in range(group_size):
            size = rng.randint(1, num_completion)
            completion = [rng.randrange(250) for _ in range(size)]
            ids.append([0] * (width - length) + prompt + completion + [0] * (num_completion - size))
            mask.append([0] * (width - length) + [1] * (length + size) + [0] * (num_completion - size))
    return torch.tensor(ids), torch.tensor(mask)


def unshared(model: Any, ids: Tensor, mask: Tensor, num_completion: int) -> tuple[Tensor, Tensor]:
    """Each row alone, without padding."""
    logps = torch.zeros(len(ids), num_completion)
    entropies = torch.zeros(len(ids), num_completion)
    for row in range(len(ids)):
        tokens = ids[row][mask[row].bool()]
        size = int(mask[row, -num_completion:].sum())
        logits = model(input_ids=tokens[None]).logits[0, -size - 1 : -1] / TEMPERATURE
        normalised = torch.log_softmax(logits, dim=-1)
        logps[row, :size] = normalised.gather(1, tokens[-size:, None]).squeeze(1)
        entropies[row, :size] = -(normalised.exp() * normalised).sum(-1)
    return logps, entropies


def gradients(model: Any, logps: Tensor) -> Tensor:
    weights = torch.linspace(-1.0, 1.0, logps.numel()).view_as(logps)
    model.zero_grad()
    (logps * weights).sum().backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flex attention as torch defines it: for CPUs it has no compiled backward pass, and refuses before it looks."""
    from torch.nn.attention import flex_attention as torch_flex
    from transformers.integrations import flex_attention

    def attend(*tensors: Any, training: bool, **kwargs: Any) -> Any:
        return torch_flex.flex_attention(*tensors, **kwargs)

    monkeypatch.setattr(flex_attention, "compile_friendly_flex_attention", attend)
    monkeypatch.setattr(torch_flex, "_validate_device", lambda *tensors: None)


@pytest.mark.parametrize("dense", [True, False], ids=["dense", "chunked"])
@pytest.mark.parametrize("attention", ["sdpa", "eager", "flex_attention"])
@pytest.mark.parametrize("prompt_lengths", [[1], [1, 1, 7], [13, 4], [5, 1, 20, 2]])
def test_equals_rows_computed_apart(
    model: Any, prompt_lengths: list[int], attention: str, dense: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_logps, "MAX_DENSE_LOGITS", 1 << 30 if dense else 0)
    monkeypatch.setattr(model.config, "_attn_implementation", "sdpa")
    ids, mask = rows(len(prompt_lengths), prompt_lengths)
    expected_logps, expected_entropies = unshared(model, ids, mask, 9)
    expected = gradients(model, expected_logps)
    monkeypatch.setattr(model.config, "_attn_implementation", attention)
    if attention == "flex_attention":
        uncompiled(monkeypatch)
    groups = prompt_groups(ids, mask, 9)
    logps, entropies, num_tokens = shared_prefix_logps(
        model, ids, mask, 9, groups, temperature=TEMPERATURE, compute_entropy=True
    )
    assert entropies is not None
    torch.testing.assert_close(logps, expected_logps.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropies, expected_entropies, rtol=1e-5, atol=1e-5)
    difference = gradients(model, logps) - expected
    assert difference.norm() / expected.norm() < 1e-5
    assert num_tokens == sum(prompt_lengths) + int(mask[:, -9:].sum()) - len(ids)


def test_no_entropy_unless_asked(model: Any) -> None:
    ids, mask = rows(3, [4])
    assert shared_prefix_logps(model, ids, mask, 9, [[0, 1, 2]], temperature=1.0, compute_entropy=False)[1] is None


def test_groups_are_runs_of_one_prompt() -> None:
    ids, mask = rows(5, [4, 4, 2])
    assert prompt_groups(ids, mask, 9) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_a_prompt_that_ends_like_the_padded_one_is_another_prompt() -> None:
    ids = torch.tensor([[0, 5, 1], [0, 5, 1]])
    assert prompt_groups(ids, torch.tensor([[0, 1, 1], [1, 1, 1]]), 1) == [[0], [1]]


def test_completions_see_the_prompt_and_themselves_only() -> None:
    visible = attention_of(torch.tensor([[0, 0, 1, 1, 2, -1]]))[0, 0].int().tolist()
    assert visible == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]


def test_positions_of_every_completion_continue_the_prompt() -> None:
    ids = torch.tensor([[7, 8, 1, 2, 3], [7, 8, 4, 5, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])
    packed = pack(ids, mask, 3, [[0, 1]])
    assert packed.input_ids_RT.tolist() == [[7, 8, 1, 2, 4]]
    assert packed.position_ids_RT.tolist() == [[0, 1, 2, 3, 2]]
    assert packed.sources_N.tolist() == [1, 2, 3, 1, 4]
    assert packed.targets_N.tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("_attn_implementation", "flash_attention_2"),
        ("layer_types", ["full_attention", "sliding_attention"]),
        ("sliding_window", 16),
        ("final_logit_softcapping", 30.0),
        ("logits_scaling", 2.0),
    ],
)
def test_other_architectures_are_left_to_trl(
    model: Any, setting: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert supports_shared_prefix(model)
    monkeypatch.setattr(model.config, setting, value, raising=False)
    assert not supports_shared_prefix(model)
