"""LoRA as vLLM serves it: the options of a server for a run's adapters, and the layers of a model that an adapter may
have."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.config import Config
from pipeline.config.learner import LORA_RANKS
from pipeline.errors import ConfigError

RUNTIME_SWITCH = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"


def server_options(config: Config) -> list[str]:
    """What a vLLM server needs on its command line.

    Adapters that requests may name at once: those of the S + 1 versions that sample for the steps in flight, and the
    next one."""
    rank = next(rank for rank in LORA_RANKS if rank >= config.learner.lora.rank)
    return ["--enable-lora", "--max-loras", str(config.rollout.max_staleness + 2), "--max-lora-rank", str(rank)]


def adapted_layers(config: Config, folder: Path) -> list[str]:
    """The last parts of the names of layers in the model `folder` that the run's adapters may change; empty where the
    folder has no weights to tell by. Raises ConfigError for target modules that no linear layer bears, because vLLM
    adapts no others."""
    linear, wanted = linear_layers(folder), config.learner.lora.target_modules
    if not linear or not wanted:
        return sorted(last_parts(linear))
    for module in wanted:
        if not any(layer == module or layer.endswith(f".{module}") for layer in linear):
            raise ConfigError(
                f"learner.lora.target_modules names {module!r}, and {folder} has no linear layer of that name, which "
                f"is what vLLM can adapt; it has {', '.join(sorted(last_parts(linear)))}. Name some of these, or none "
                "for all, or set learner.transfer = 'filesystem'"
            )
    return sorted(last_parts(set(wanted)))


def last_parts(layers: set[str]) -> set[str]:
    return {layer.rpartition(".")[2] for layer in layers}


def linear_layers(folder: Path) -> set[str]:
    """Names of the linear layers in a model folder, by the headers of its safetensors: matrices, but for those over the
    vocabulary."""
    from safetensors import safe_open

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    vocabulary = config.get("vocab_size") or config.get("text_config", {}).get("vocab_size")
    layers = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="np") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a mapping
                shape = tensors.get_slice(name).get_shape()
                if name.endswith(".weight") and len(shape) == 2 and shape[0] != vocabulary:
                    layers.add(name.removesuffix(".weight"))
    return layers
