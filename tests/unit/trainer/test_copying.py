"""What the small model begins with: attention that finds what followed the same words before."""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trainer.copying import OFFSETS, begin_copying, practise_copying


def small(num_heads: int = 4) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=200, hidden_size=128, intermediate_size=128, num_hidden_layers=2, num_attention_heads=num_heads,
        attention_bias=True, initializer_range=0.06, attn_implementation="eager",
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    begin_copying(model)
    return model


@torch.no_grad()
def attention(model: LlamaForCausalLM, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Of each layer, (heads, to, from) of the one text of `tokens`."""
    return tuple(layer[0] for layer in model(input_ids=tokens[None], output_attentions=True).attentions)


def test_the_first_layer_looks_one_and_two_tokens_back_and_the_second_behind_the_same_tokens() -> None:
    once = torch.randperm(200)[:24]
    first, second = attention(small(), torch.cat([once, once]))
    for head, offset in enumerate(OFFSETS):
        assert (first[head].argmax(-1)[offset:] == torch.arange(48 - offset)).float().mean() > 0.8
    # Behind the first occurrence of the current token lies at least thrice what chance would give it.
    behind = second[:2, torch.arange(24, 47), torch.arange(1, 24)].mean(1)
    assert behind.max() > 3 / 36, behind


def test_a_few_steps_of_copying_lower_its_loss_and_are_logged() -> None:
    model, lines = small(), list[str]()
    practise_copying(model, 2e-3, seed=0, num_steps=50, log=lines.append)
    assert len(lines) == 1 and lines[0].startswith("copying: step 50 of 50, loss ")
