"""vLLM's command line and environment follow from the configuration."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config
from pipeline.errors import ConfigError, ServerStartError
from servers.command import Machine, check_port, server_command, server_environment, split_cores
from tests.tiny_model import make_tiny_model

CPU = Machine("cpu", (0, 1, 2, 3))
GPU = Machine("gpu", (0, 1, 2, 3))


def config(**servers: Any) -> Config:
    return Config.model_validate({"servers": servers, "run": {"seed": 5}})


def options(command: list[str]) -> dict[str, str]:
    """Options with their values; those without one have ''."""
    following = [*command[1:], "--"]
    return {
        word: "" if after.startswith("--") else after
        for word, after in zip(command, following, strict=True)
        if word.startswith("--")
    }


def test_the_command_line_carries_every_setting_and_binds_to_loopback() -> None:
    settings = config(
        num_servers=2, dtype="bfloat16", max_model_len=512, max_num_seqs=7, kv_cache_gib=0.5, enforce_eager=False
    )
    command = server_command(settings, 1, 8123, Path("/models/m"), CPU)
    assert command[1:3] == ["-m", "vllm.entrypoints.openai.api_server"]
    found = options(command)
    assert found["--model"] == "/models/m"
    assert found["--served-model-name"] == "policy"
    assert (found["--host"], found["--port"]) == ("127.0.0.1", "8123")
    assert found["--dtype"] == "bfloat16"
    assert (found["--max-model-len"], found["--max-num-seqs"]) == ("512", "7")
    assert found["--kv-cache-memory-bytes"] == str(2**29)
    assert found["--seed"] == "6", "two servers must not draw the same samples"
    assert "--enforce-eager" not in found


def test_the_reported_log_probabilities_are_those_of_the_sampled_distribution() -> None:
    found = options(server_command(config(), 0, 8123, Path("m"), CPU))
    assert found["--logprobs-mode"] == "processed_logprobs"
    assert found["--generation-config"] == "vllm"
    assert "--enable-scale-out" in found
    assert "--enforce-eager" in found


def test_a_server_of_adapters_takes_as_many_as_are_in_flight_of_the_learners_rank_and_layers(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path)
    settings = {"learner": {"transfer": "lora", "lora": {"rank": 9}}, "rollout": {"max_staleness": 3}}
    command = server_command(Config.model_validate(settings), 0, 1, model, CPU)
    found = options(command)
    assert "--enable-lora" in found
    assert (found["--max-loras"], found["--max-lora-rank"]) == ("5", "16")
    begin = command.index("--lora-target-modules") + 1
    layers = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert command[begin : begin + 8] == [*layers, "--enforce-eager"], "all linear ones but the head"
    environment = server_environment(Config.model_validate(settings), 0, CPU, {})
    assert environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in server_environment(config(), 0, CPU, {})
    assert "--enable-lora" not in server_command(config(), 0, 1, model, CPU)


def test_target_modules_that_vllm_cannot_adapt_are_refused(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path)

    def command_for(*modules: str) -> list[str]:
        lora = {"rank": 8, "target_modules": modules}
        return server_command(Config.model_validate({"learner": {"transfer": "lora", "lora": lora}}), 0, 1, model, CPU)

    assert "--lora-target-modules q_proj up_proj --" in " ".join(command_for("up_proj", "layers.0.self_attn.q_proj"))
    for module in ("embed_tokens", "query", "proj"):
        with pytest.raises(
            ConfigError, match=rf"target_modules names '{module}'.*it has down_proj, .*or set learner\.transfer"
        ):
            command_for("q_proj", module)


def test_a_gpu_server_takes_vllms_own_cache_and_block_size() -> None:
    found = options(server_command(config(tensor_parallel_size=2), 0, 8123, Path("m"), GPU))
    assert found["--tensor-parallel-size"] == "2"
    assert "--kv-cache-memory-bytes" not in found
    assert "--block-size" not in found


def test_extra_arguments_come_last_so_that_they_win() -> None:
    command = server_command(config(extra_args=["--max-num-batched-tokens", "256"]), 0, 1, Path("m"), CPU)
    assert command[-2:] == ["--max-num-batched-tokens", "256"]


@pytest.mark.parametrize(
    "argument", ["--host", "--host=0.0.0.0", "--served_model_name", "--logprobs-mode=raw_logprobs"]
)
def test_an_extra_argument_that_the_launcher_owns_is_refused(argument: str) -> None:
    with pytest.raises(ConfigError, match=r"servers\.extra_args: '--"):
        server_command(config(extra_args=[argument]), 0, 1, Path("m"), CPU)


def test_the_environment_opens_the_control_routes_and_drops_what_is_unsafe() -> None:
    inherited = {"HOME": "/h", "VLLM_ALLOW_INSECURE_SERIALIZATION": "1", "VLLM_CPU_KVCACHE_SPACE": "9"}
    environment = server_environment(config(), 0, CPU, inherited)
    assert environment["VLLM_SERVER_DEV_MODE"] == "1"
    assert environment["HOME"] == "/h"
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert "VLLM_ALLOW_INSECURE_SERIALIZATION" not in environment
    assert "VLLM_CPU_KVCACHE_SPACE" not in environment


def test_each_cpu_server_gets_its_share_of_the_cores() -> None:
    assert server_environment(config(), 0, CPU, {})["OMP_NUM_THREADS"] == "4"
    assert server_environment(config(num_servers=2), 1, CPU, {})["OMP_NUM_THREADS"] == "2"
    settings = config(num_servers=2, tensor_parallel_size=2)
    first, second = (server_environment(settings, index, CPU, {}) for index in (0, 1))
    assert (first["VLLM_CPU_OMP_THREADS_BIND"], second["VLLM_CPU_OMP_THREADS_BIND"]) == ("0|1", "2|3")


def test_a_single_cpu_worker_computes_in_the_engine_and_is_bound_to_no_core() -> None:
    uni = ["--distributed-executor-backend", "uni"]
    command = server_command(config(), 0, 1, Path("m"), CPU)
    assert command[command.index(uni[0]) + 1] == "uni"
    assert not {"VLLM_CPU_OMP_THREADS_BIND"} & server_environment(config(), 0, CPU, {}).keys()
    assert server_environment(config(), 0, CPU, {})["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    several = config(tensor_parallel_size=2)
    assert "uni" not in server_command(several, 0, 1, Path("m"), CPU)
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in server_environment(several, 0, CPU, {})
    assert "uni" not in server_command(config(), 0, 1, Path("m"), GPU)
    chosen = [*uni[:1], "mp"]
    assert server_command(config(extra_args=chosen), 0, 1, Path("m"), CPU)[-2:] == chosen


def test_only_an_eager_cpu_server_skips_the_compiler() -> None:
    assert server_environment(config(), 0, CPU, {})["TORCHDYNAMO_DISABLE"] == "1"
    assert "TORCHDYNAMO_DISABLE" not in server_environment(config(enforce_eager=False), 0, CPU, {})
    assert "TORCHDYNAMO_DISABLE" not in server_environment(config(), 0, GPU, {})


def test_gpus_are_assigned_by_index_and_a_missing_one_is_named() -> None:
    settings = config(num_servers=2, gpu_ids=["0,1"])
    assert server_environment(settings, 0, GPU, {})["CUDA_VISIBLE_DEVICES"] == "0,1"
    with pytest.raises(ConfigError, match=r"servers\.gpu_ids = \['0,1'\] names no GPUs for server 1"):
        server_environment(settings, 1, GPU, {})
    assert "CUDA_VISIBLE_DEVICES" not in server_environment(config(), 0, GPU, {})


@pytest.mark.parametrize(
    ("num_shares", "expected"),
    [(1, [(4, 5, 6)]), (2, [(4,), (5,)]), (3, [(4,), (5,), (6,)]), (4, [(4,), (5,), (6,), (4,)])],
)
def test_cores_are_split_without_overlap_as_long_as_they_last(num_shares: int, expected: list[tuple[int, ...]]) -> None:
    assert split_cores((4, 5, 6), num_shares) == expected


def test_a_port_in_use_is_named_with_its_setting() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ServerStartError, match=rf"servers\.port = {port}: .*in use.*choose another"):
            check_port(port)
    check_port(port)


def test_the_kind_of_vllm_is_found_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError

    installed: dict[str, str] = {}

    def version(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr("servers.command.version", version)
    with pytest.raises(ServerStartError, match="vLLM is not installed"):
        Machine.here()
    for distribution, number, kind in (
        ("vllm-cpu", "0.32.0", "cpu"),
        ("vllm", "0.32.0+cpu", "cpu"),
        ("vllm", "0.32.0", "gpu"),
    ):
        installed.clear()
        installed[distribution] = number
        assert Machine.here().kind == kind


def test_weights_over_nccl_need_gpus() -> None:
    settings = Config.model_validate({"learner": {"transfer": "nccl"}})
    found = options(server_command(settings, 0, 8123, Path("m"), GPU))
    assert json.loads(found["--weight-transfer-config"]) == {"backend": "nccl"}
    with pytest.raises(ConfigError, match=r"learner\.transfer = 'nccl' needs GPUs"):
        server_command(settings, 0, 8123, Path("m"), CPU)
