"""Loading and saving models: float32 weights, a tokenizer with a chat template, or a ModelError that says what is
missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from pipeline.config.learner import LearnerSection
from pipeline.errors import ConfigError, ModelError
from trainer.lora import merged_state


def load_tokenizer(path: Path | str) -> PreTrainedTokenizerBase:
    """The tokenizer of `path` (a folder or hub id), with a pad token. Raises ModelError without one or without chat
    template."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), padding_side="left")
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"model {path}: no tokenizer could be loaded ({error}); save one beside the weights with "
            "`tokenizer.save_pretrained`"
        ) from error
    if not tokenizer.chat_template:
        raise ModelError(
            f"model {path}: its tokenizer has no chat template; use an instruction-tuned model, or put a "
            "chat_template.jinja into the folder"
        )
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"model {path}: its tokenizer names no end-of-sequence token; set eos_token in its tokenizer_config.json"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def decoded(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    """The text of tokens as a server returns it: without special ones, blanks as they are."""
    return str(tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def load_model(path: Path | str, settings: LearnerSection | None = None) -> PreTrainedModel:
    """The causal language model of `path` in float32: bfloat16 weights would swallow small updates. `settings` choose
    its attention.

    Raises ModelError, ConfigError."""
    try:
        chosen = attention_of(settings) if settings else None
        model: Any = AutoModelForCausalLM.from_pretrained(str(path), dtype=torch.float32, attn_implementation=chosen)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"model {path}: its weights could not be loaded ({error}); give a folder with config.json and "
            "model.safetensors"
        ) from error
    return model


def attention_of(settings: LearnerSection) -> str | None:
    """The attention implementation of transformers that `learner.attention` names; None: the model's default. Raises
    ConfigError."""
    if settings.attention == "flex_attention" and not torch.cuda.is_available():
        raise ConfigError(
            "learner.attention = 'flex_attention' needs a GPU: PyTorch has no backward pass of it for CPUs; set "
            "learner.attention = 'auto', which is sdpa here"
        )
    return None if settings.attention == "auto" else settings.attention


def save_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, state: dict[str, Tensor] | None = None
) -> None:
    """Write safetensors (an adapter merged into them), configuration, tokenizer and chat template into `folder`.

    `state` stands for the weights of a model that has only a part of them."""
    model.save_pretrained(folder, state_dict=state or merged_state(model))
    tokenizer.save_pretrained(folder)


def state_of(model: PreTrainedModel) -> dict[str, Tensor]:
    """The weights of `model` by name (an adapter merged into them), each once: tied ones under the name that is
    saved."""
    state = merged_state(model) or {name: weight.detach() for name, weight in model.state_dict().items()}
    once: dict[int, tuple[str, Tensor]] = {}
    for name, weight in state.items():
        once.setdefault(weight.data_ptr(), (name, weight))
    return dict(once.values())
