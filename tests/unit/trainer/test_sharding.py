"""The shipped settings are read by their libraries, what the learner cannot do is refused, and parts of a checkpoint
fit together."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils.deepspeed import HfDeepSpeedConfig
from accelerate.utils.launch import prepare_multi_gpu_env
from torch.distributed import checkpoint as distributed_checkpoint
from transformers import AutoModelForCausalLM

from pipeline.errors import ConfigError
from tests.tiny_model import make_tiny_model
from tests.unit.trainer.groups import make_run, tiny_config
from trainer.arguments import grpo_config
from trainer.sharding import PARTS, SETTINGS, check_layout, fsdp_arguments, load_parts, prepare

SHIPPED = sorted(path.name for path in SETTINGS.parent.iterdir())


def plugin(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> FullyShardedDataParallelPlugin:
    """What `accelerate launch --config_file` makes of the shipped file; `settings` are changes to its fsdp_config."""
    arguments = launch_command_parser().parse_args(["--config_file", str(SETTINGS), "script.py"])
    arguments, *_ = _validate_launch_command(arguments)
    vars(arguments).update(settings)
    for name, value in prepare_multi_gpu_env(arguments).items():
        if name.startswith(("FSDP_", "ACCELERATE_")):
            monkeypatch.setenv(name, value)
    return FullyShardedDataParallelPlugin()


def under(kind: DistributedType, fsdp_plugin: FullyShardedDataParallelPlugin | None = None) -> Any:
    """What `prepare` looks at of an accelerator."""
    return SimpleNamespace(distributed_type=kind, state=SimpleNamespace(fsdp_plugin=fsdp_plugin))


def filled(settings: dict[str, Any]) -> dict[str, Any]:
    """`settings` as the Trainer completes them: values for what is "auto"."""
    values = {"enabled": False, "gradient_clipping": 1.0, "gradient_accumulation_steps": 2}
    values |= {"train_batch_size": 8, "train_micro_batch_size_per_gpu": 4}
    return {
        name: filled(value) if isinstance(value, dict) else values.get(name, 1000) if value == "auto" else value
        for name, value in settings.items()
    }


def test_every_shipped_file_is_tested_here() -> None:
    assert SHIPPED == ["fsdp2.yaml", "zero2.json", "zero3.json"]


def test_accelerate_reads_the_fsdp_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config_from_file(str(SETTINGS))
    assert config.distributed_type == DistributedType.FSDP
    assert config.num_processes == 2 and config.mixed_precision == "no"
    found = plugin(monkeypatch)
    assert found.fsdp_version == 2
    assert found.reshard_after_forward is True
    assert found.state_dict_type.name == "SHARDED_STATE_DICT"
    assert found.auto_wrap_policy.__name__ == "transformer_auto_wrap_policy"


def test_the_setting_means_what_the_file_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = make_run(tmp_path, num_processes=2, sharding="fsdp2")
    by_setting = FullyShardedDataParallelPlugin(**grpo_config(run.config(), run).fsdp_plugin_args)
    by_file = plugin(monkeypatch)
    for name in (
        "fsdp_version",
        "reshard_after_forward",
        "cpu_offload",
        "state_dict_type",
        "auto_wrap_policy",
        "cpu_ram_efficient_loading",
        "activation_checkpointing",
    ):
        assert getattr(by_setting, name) == getattr(by_file, name), name
    assert fsdp_arguments()["fsdp"] is True


@pytest.mark.parametrize("stage", [2, 3])
def test_accelerate_reads_the_deepspeed_settings(stage: int) -> None:
    config = HfDeepSpeedConfig(str(SETTINGS.parent / f"zero{stage}.json"))
    assert config.config["zero_optimization"]["stage"] == stage
    assert config.is_zero2() == (stage == 2) and config.is_zero3() == (stage == 3)


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_reads_its_settings(stage: int) -> None:
    pytest.importorskip("deepspeed", reason="DeepSpeed is no part of the environment")
    from accelerate.utils import DeepSpeedPlugin
    from deepspeed.runtime.config import DeepSpeedConfig
    from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig

    file = SETTINGS.parent / f"zero{stage}.json"
    assert DeepSpeedPlugin(hf_ds_config=str(file)).zero_stage == stage
    assert HfTrainerDeepSpeedConfig(str(file)).is_zero3() == (stage == 3)
    config = DeepSpeedConfig(filled(json.loads(file.read_text(encoding="utf-8"))))
    assert config.zero_optimization_stage == stage and config.gradient_clipping == 1.0


def test_whole_models_are_left_alone() -> None:
    for kind in (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
        prepare(under(kind), asked=False, bf16=True)


def test_one_process_cannot_divide_a_model() -> None:
    with pytest.raises(ConfigError, match="--num_processes"):
        prepare(under(DistributedType.NO), asked=True, bf16=False)


@pytest.mark.parametrize("engine", ["DEEPSPEED", "MEGATRON_LM"])
def test_other_engines_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: str) -> None:
    remedy = rf"{engine}.*learner\.sharding = \"fsdp2\""
    with pytest.raises(ConfigError, match=remedy):
        prepare(under(DistributedType[engine]), asked=False, bf16=False)
    run = make_run(tmp_path)
    monkeypatch.setenv(f"ACCELERATE_USE_{engine}", "true")
    with pytest.raises(ConfigError, match=remedy):
        grpo_config(run.config(), run)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (
            {"fsdp_version": 1, "fsdp_reshard_after_forward": "FULL_SHARD", "fsdp_sync_module_states": False},
            "fsdp_version: 2",
        ),
        ({"fsdp_state_dict_type": "FULL_STATE_DICT"}, "SHARDED_STATE_DICT"),
        ({"fsdp_cpu_ram_efficient_loading": True, "fsdp_sync_module_states": True}, "fsdp_cpu_ram_efficient_loading"),
    ],
)
def test_settings_that_the_learner_cannot_do_are_refused(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], named: str
) -> None:
    prepare(under(DistributedType.FSDP, plugin(monkeypatch)), asked=True, bf16=False)
    with pytest.raises(ConfigError, match=named):
        prepare(under(DistributedType.FSDP, plugin(monkeypatch, **settings)), asked=True, bf16=False)


@pytest.mark.parametrize(("bf16", "parameters"), [(True, torch.bfloat16), (False, None)])
def test_log_probabilities_and_sums_of_gradients_are_not_rounded(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, parameters: torch.dtype | None
) -> None:
    found = plugin(monkeypatch)
    found.set_mixed_precision("bf16")  # accelerate's, which would round both
    assert found.mixed_precision_policy.output_dtype == torch.bfloat16
    prepare(under(DistributedType.FSDP, found), asked=True, bf16=bf16)
    policy = found.mixed_precision_policy
    assert (policy.param_dtype, policy.reduce_dtype, policy.output_dtype) == (parameters, torch.float32, None)


def test_a_divided_model_needs_processes_and_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"learner\.num_processes"):
        tiny_config(tmp_path, sharding="fsdp2")
    with pytest.raises(ValueError, match=r"learner\.transfer = 'filesystem'"):
        tiny_config(tmp_path, sharding="fsdp2", num_processes=2, transfer="nccl")


def test_parts_of_a_checkpoint_fit_together_and_only_where_they_belong(tmp_path: Path) -> None:
    trained = AutoModelForCausalLM.from_pretrained(make_tiny_model(tmp_path / "trained", seed=1))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    distributed_checkpoint.save({"model": trained.state_dict()}, checkpoint_id=parts / PARTS, no_dist=True)
    model = AutoModelForCausalLM.from_pretrained(make_tiny_model(tmp_path / "start", seed=0))
    loaded = load_parts(model, parts, adapter=None)
    for name, weight in trained.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name
    check_layout(parts, divided=True)
    check_layout(whole, divided=False)
    with pytest.raises(ConfigError, match=r"go on with learner\.sharding = 'fsdp2'"):
        check_layout(parts, divided=False)
    with pytest.raises(ConfigError, match=r"go on with learner\.sharding = 'none'"):
        check_layout(whole, divided=True)
