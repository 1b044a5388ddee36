"""Keeps what matrix products and attention return for the backward pass, and computes what lies between them anew.

Norms, activations, rotations and casts take about two thirds of the memory of a forward pass and little of its time.
Unlike full gradient checkpointing no product is computed twice."""

from __future__ import annotations

from functools import partial
from typing import Any

from accelerate.utils import AutocastKwargs
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts
from transformers import PreTrainedModel

UNCACHED = AutocastKwargs(cache_enabled=False)
"""Autocast that casts a weight when it is used and keeps nothing of it: a pass of ours uses each of them once."""

# By name: which of them exist depends on torch and its devices.
KEPT = (
    "mm",
    "addmm",
    "bmm",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
)


def recompute_cheap_parts(model: PreTrainedModel) -> None:
    """Have each layer of `model` keep no more for its backward pass; gradients are the same."""
    model.gradient_checkpointing_enable(
        gradient_checkpointing_kwargs={
            "use_reentrant": False,
            "context_fn": partial(create_selective_checkpoint_contexts, _policy),
        }
    )


def _policy(context: Any, operator: Any, *_: Any, **__: Any) -> CheckpointPolicy:
    kept = operator.name().partition("::")[2].partition(".")[0] in KEPT
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE
