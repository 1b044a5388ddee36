"""Copying, which a small model from nothing begins with: attention that finds what followed the same words before.

A few million parameters do not come to it among other texts: after 60,000 of them a rule was not yet found by its name.
On tokens in random order, said twice, it takes a minute, if the weights begin near it (induction heads, Olsson et al.
2022): in the first layer two heads look at the token before and at the one before that, in the second layer two heads
look for places where these are the current tokens. All else is random, and all is trained."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM

OFFSETS = (1, 2)
NUM_FREQUENCIES = 4
"""Of a head that looks back by an offset: the fastest ones, which tell neighbouring places apart."""
STRENGTH = 6.0
NUM_STEPS, BATCH_SIZE, NUM_WARMUP_STEPS = 400, 32, 50
NUM_COPIED = (6, 28)


@torch.no_grad()
def begin_copying(model: LlamaForCausalLM) -> None:
    """Sets the weights of two heads in each of the first two layers; `model` needs biases in its attention."""
    config = model.config
    size, width = config.hidden_size // config.num_attention_heads, config.hidden_size
    first, second = (layer.self_attn for layer in model.model.layers[:2])
    read = torch.randn(size, width) / width**0.5
    written = []
    for head, offset in enumerate(OFFSETS):
        rows = slice(head * size, (head + 1) * size)
        for place in range(NUM_FREQUENCIES):
            angle = offset * config.rope_parameters["rope_theta"] ** (-2 * place / size)
            row = head * size + place
            first.q_proj.bias[row] = STRENGTH
            first.k_proj.bias[row] = STRENGTH * math.cos(angle)
            first.k_proj.bias[row + size // 2] = STRENGTH * math.sin(angle)
        first.v_proj.weight[rows] = read
        first.o_proj.weight[:, rows] = torch.randn(width, size) / size**0.5
        written.append(torch.linalg.pinv(first.o_proj.weight[:, rows]))
    # A place is looked for whose previous token is the current one, and whose last but one is the previous one.
    for head, (wanted, found) in enumerate(((read, written[0]), (written[0], written[1]))):
        rows = slice(head * size, (head + 1) * size)
        second.q_proj.weight[rows], second.k_proj.weight[rows] = wanted, found


def practise_copying(
    model: LlamaForCausalLM, learning_rate: float, seed: int, num_steps: int, log: Callable[[str], None]
) -> None:
    """Trains `model` in place on tokens in random order that are said twice, by the loss of the second time."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.0)
    for step in range(1, num_steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, step / NUM_WARMUP_STEPS)
        num = rng.randint(*NUM_COPIED)
        once = torch.randint(model.config.vocab_size, (BATCH_SIZE, num), generator=generator)
        tokens = torch.cat([once, once], 1)
        logits = model(input_ids=tokens).logits[:, num:-1]
        loss = cross_entropy(logits.flatten(0, 1), tokens[:, num + 1 :].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0:
            log(f"copying: step {step} of {num_steps}, loss {loss.item():.3f}")
