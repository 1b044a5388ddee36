"""How a mock endpoint behaves."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

from servers.mock.faults import Fault, FaultRate, Flap
from servers.mock.latency import Latency

MAX_MODEL_LEN = 32768


class Settings(BaseModel):
    """How the endpoint behaves."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str = "policy"
    seed: int = 0
    latency_s: float = Field(0.0, ge=0, description="Seconds before every answer; short for latency = fixed:SECONDS.")
    latency: str = Field(
        "",
        description="A distribution of them: fixed:S, uniform:LEAST,MOST, exponential:MEAN, lognormal:MEDIAN,SIGMA, "
        "pareto:LEAST,SHAPE.",
    )
    s_per_token: float = Field(0.0, ge=0, description="Seconds that each token takes.")
    num_tokens: int = Field(0, ge=0, description="Length of each answer, tokens; 0: as long as it happens to be.")
    accuracy: float = Field(0.5, ge=0, le=1, description="Probability of a right answer to a sum.")
    token_ids: bool = Field(True, description="False: a plain OpenAI endpoint, without token ids and vLLM's routes.")
    hide_token_ids: bool = Field(False, description="vLLM's routes are there, but chat answers carry no token ids.")
    raw_logprobs: bool = Field(False, description="Log-probabilities that ignore the temperature, as vLLM's default.")
    max_model_len: int = Field(MAX_MODEL_LEN, ge=1)
    api_key: str = Field("", description="Asked for on /v1 and /inference, as vLLM does; not on the control routes.")
    max_lora_rank: int = Field(0, ge=0, description="Greatest rank of adapters; 0: no routes to load them.")
    refused: tuple[str, ...] = Field((), description="Parameters that are answered 400, in OpenAI's words.")
    root: str = Field("", description="Where the model's weights are, as vLLM's /v1/models tells; empty: untold.")
    max_concurrency: int = Field(0, ge=0, description="More generations at once are answered 429; 0: no limit.")
    faults: list[Fault] = Field(default_factory=list)
    fault_rate: FaultRate | None = None
    flap: Flap | None = None

    @field_validator("latency")
    @classmethod
    def _known(cls, spec: str) -> str:
        if spec:
            Latency(spec, 0)
        return spec
