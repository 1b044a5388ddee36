"""LoRA through PEFT: only low-rank additions to the linear layers are trained, and servers get them merged, or as they
are.

Merged, what is published is a whole model, which every server, canary and reader of a run treats as any other. Merging
reads the layers and never writes to them: adding and subtracting a product again and again would let the frozen weights
drift. With `learner.transfer = "lora"` the adapter alone is published, and only the final model is merged. Checkpoints
hold the adapter. The reference policy is the model with its adapter switched off.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.config import Config

BASE_LAYER = ".base_layer."


def lora_config(config: Config) -> LoraConfig | None:
    """PEFT's settings, or None where all weights are trained. The head stays as it is: TRL reads its weight
    directly."""
    settings = config.learner.lora
    if settings.rank == 0:
        return None
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # only ever divided
        target_modules=list(settings.target_modules) or "all-linear",
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )


def without_wrapper(model: nn.Module) -> nn.Module:
    """The causal language model itself, with the adapter in its layers if it has one."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def with_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """PEFT's wrapper of `model`, with the adapter of the checkpoint `folder` in its layers."""
    return PeftModel.from_pretrained(model, str(folder))


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Write the adapter, and nothing else, into `folder` as PEFT and vLLM load it."""
    # The base is never changed, so that there is nothing of it to save; looking for that may ask the hub.
    model.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)


def merged_state(model: PreTrainedModel) -> dict[str, Tensor] | None:
    """The weights that `model` computes with, under the names that it has without an adapter; None where it has
    none."""
    adapted: dict[str, Any] = {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}
    if not adapted:
        return None
    state = {
        name.replace(BASE_LAYER, "."): weight.detach()
        for name, weight in model.state_dict().items()
        if ".lora_" not in name
    }
    for name, layer in adapted.items():
        (adapter,) = layer.active_adapters
        state[f"{name}.weight"] = state[f"{name}.weight"] + layer.get_delta_weight(adapter).detach()
    return state
