"""A model that is divided among the learner's processes: FSDP2, by accelerate's plugin.

| what | where it is |
|---|---|
| weights, gradients, optimizer state | every rank its part of each tensor; a layer is whole only while it computes |
| the reference model | the same |
| weights to publish, their canary | rank 0 gathers them with the others' help and writes them alone |
| checkpoint | every rank writes its part into one folder; rank 0 declares it whole when all have |

Each forward and backward pass is a conversation of all ranks, so all take part in every one of them, also those whose
groups teach nothing. A death breaks the next pass of the others, which end with an error; a checkpoint without one
rank's part is never declared whole.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.state import PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, fsdp2_prepare_model
from peft import PeftConfig, get_peft_model, get_peft_model_state_dict
from torch import Tensor, nn
from torch.distributed import checkpoint as distributed_checkpoint
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel, TrainingArguments
from trl.trainer.utils import add_fused_lm_head, create_model_from_path, disable_dropout_in_model, get_config_model_id

from pipeline.errors import ConfigError
from trainer.lora import merged_state, without_wrapper
from trainer.processes import is_rank0

SETTINGS = Path(__file__).parent / "launch" / "fsdp2.yaml"
"""What `learner.sharding = "fsdp2"` means: the same file that `accelerate launch` takes."""
WHOLE = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
PARTS = "pytorch_model_fsdp_0"
"""Folder of the weights in a checkpoint that the ranks wrote together, as transformers names it."""


def fsdp_arguments() -> dict[str, Any]:
    """`SETTINGS` as TrainingArguments take them."""
    settings: dict[str, Any] = load_config_from_file(str(SETTINGS)).fsdp_config
    settings["cpu_offload"] = settings.pop("fsdp_offload_params")
    return {"fsdp": True, "fsdp_config": settings}


def divide_on_cpus(accelerator: Accelerator, arguments: dict[str, Any] | None) -> None:
    """Make `accelerator` divide the model where it has no GPUs: accelerate takes FSDP up for accelerators only, and
    would copy the model to every process in silence. `arguments` are the plugin's; None: those of the environment."""
    state = accelerator.state
    state.fsdp_plugin = FullyShardedDataParallelPlugin(**arguments or {})
    state.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP


def check_engine() -> None:
    """Raise ConfigError when `accelerate launch` was told of an engine that the learner cannot train with. On CPUs
    accelerate would pass over it in silence, and without the engine's package end with an ImportError."""
    for name in ("DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true":
            raise _unknown(name)


def _unknown(engine: str) -> ConfigError:
    return ConfigError(
        f"the learner was started under {engine}, with which it cannot train; divide the model with FSDP2 instead: "
        'learner.sharding = "fsdp2", or accelerate launch --config_file trainer/launch/fsdp2.yaml'
    )


def prepare(accelerator: Accelerator, *, asked: bool, bf16: bool) -> None:
    """Refuse what the learner cannot do with the way `accelerator` divides a model (ConfigError), and set the
    arithmetic.

    `asked`: whether it should be divided. accelerate's own bfloat16 would round what leaves the model, the
    log-probabilities, and add up gradients in bfloat16."""
    kind = accelerator.distributed_type
    if asked and kind == DistributedType.NO:
        raise ConfigError(
            "a model cannot be divided in one process: start two or more (accelerate launch --num_processes N), or set "
            'learner.sharding = "none" and start the learner without fsdp2.yaml'
        )
    if kind in WHOLE:
        return
    if kind != DistributedType.FSDP:
        raise _unknown(kind.value)
    plugin = accelerator.state.fsdp_plugin
    if plugin.fsdp_version != 2:
        raise ConfigError(
            f"fsdp_version = {plugin.fsdp_version}: the learner divides a model with FSDP2 only; set fsdp_version: 2 "
            "(trainer/launch/fsdp2.yaml does)"
        )
    if plugin.cpu_ram_efficient_loading:
        raise ConfigError(
            "fsdp_cpu_ram_efficient_loading = true: the learner loads its model in every process, and was never run "
            "with this; set it to false"
        )
    if "SHARDED" not in str(plugin.state_dict_type):
        raise ConfigError(
            f"fsdp_state_dict_type = {plugin.state_dict_type.name}: a checkpoint is written by all processes; set it "
            "to SHARDED_STATE_DICT"
        )
    plugin.mixed_precision_policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bf16 else None, reduce_dtype=torch.float32
    )


def asked_for(arguments: TrainingArguments) -> bool:
    """Whether the settings or `accelerate launch` ask for a divided model."""
    return bool(arguments.fsdp) or os.environ.get("ACCELERATE_USE_FSDP") == "true"


def reference(accelerator: Accelerator, policy: PreTrainedModel, temperature: float) -> PreTrainedModel:
    """The model that `policy` was loaded as, made ready as TRL does it, and divided like the policy: a layer is whole
    only while it computes."""
    model = create_model_from_path(
        get_config_model_id(policy.config),
        dtype=policy.dtype,
        attn_implementation=policy.config._attn_implementation,
        device_map=None,
    )
    disable_dropout_in_model(model)
    add_fused_lm_head(model, temperature=temperature)
    return fsdp2_prepare_model(accelerator, model).eval()


def is_divided(model: nn.Module) -> bool:
    return isinstance(next(model.parameters()), DTensor)


def gathered(model: PreTrainedModel) -> dict[str, Tensor]:
    """The whole weights of a divided `model` (an adapter merged into them) in rank 0's memory, tied ones once; nothing
    elsewhere.

    Every rank must call this, when no pass is under way. One weight at a time is whole."""
    state = merged_state(model) or model.state_dict()
    whole = {}
    for name, weight in state.items():
        if name not in model.all_tied_weights_keys:
            tensor = weight.full_tensor() if isinstance(weight, DTensor) else weight
            if is_rank0():
                whole[name] = tensor.detach().cpu()
    return whole


def load_parts(model: PreTrainedModel, checkpoint: Path, adapter: PeftConfig | None) -> PreTrainedModel:
    """`model`, which is whole, with the weights (or the `adapter`) of a checkpoint that ranks wrote together, however
    many."""
    wrapped: Any = get_peft_model(model, adapter) if adapter else model
    state = get_peft_model_state_dict(wrapped) if adapter else wrapped.state_dict()
    distributed_checkpoint.load({"model": state}, checkpoint_id=checkpoint / PARTS, no_dist=True)
    return without_wrapper(wrapped)


def has_parts(checkpoint: Path) -> bool:
    return (checkpoint / PARTS).is_dir()


def check_layout(checkpoint: Path, *, divided: bool) -> None:
    """Raise ConfigError when a learner that is `divided` or not cannot go on from `checkpoint`."""
    if has_parts(checkpoint) == divided:
        return
    was, now = ("fsdp2", "none") if has_parts(checkpoint) else ("none", "fsdp2")
    raise ConfigError(
        f"{checkpoint} was written with learner.sharding = '{was}', and this learner runs with '{now}', which reads "
        f"another layout; go on with learner.sharding = '{was}' (or the accelerate configuration of before), or begin "
        "a new run whose model.path is this run's newest weights"
    )
