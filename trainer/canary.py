"""Writes the canary of weights that are about to be published (pipeline.weights.canary): what the learner gives fixed
texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipeline.runtime.files import write_atomic
from pipeline.weights.canary import FILE, Canary, CanarySequence

# Plain text, arithmetic and mark-up: what the policy reads and writes. Short, because a server answers them at every
# reload.
TEXTS = (
    "What is 17 + 25? First 17 + 20 = 37, then 37 + 5 = 42. The answer is \\boxed{42}.",
    "The quick brown fox jumps over the lazy dog, and then it rests in the shade of an old tree.",
)


def write_canary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Put `model`'s canary beside its weights in `folder`; a tokenizer that makes less than two tokens of the texts has
    none."""
    all_ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    sequences = tuple(
        CanarySequence(token_ids=tuple(ids), logprobs=tuple(_logprobs(model, ids))) for ids in all_ids if len(ids) > 1
    )
    if sequences:
        write_atomic(folder / FILE, Canary(sequences=sequences).model_dump_json())


@torch.no_grad()
def _logprobs(model: PreTrainedModel, ids: list[int]) -> list[float]:
    """Log-probabilities (T - 1,) of `ids` (T,), each token but the first given those before it, in the precision of the
    weights.

    accelerate's forward is under autocast, whose rounding is no property of what is published; flash attention knows 16
    bits only."""
    forward: Any = getattr(model, "_original_forward", model.forward)
    was_training, attention = model.training, model.config._attn_implementation
    model.eval()
    try:
        if attention.startswith("flash"):
            model.set_attn_implementation("sdpa")
        ids_1T = torch.tensor([ids], device=model.device)
        logits_TV = forward(input_ids=ids_1T, use_cache=False).logits[0, :-1].float()
        return torch.log_softmax(logits_TV, dim=-1).gather(1, ids_1T[0, 1:, None]).squeeze(1).tolist()
    finally:
        model.train(was_training)
        if attention.startswith("flash"):
            model.set_attn_implementation(attention)
