"""Settings of endpoints, and of requests to them."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, model_validator

from pipeline.config.base import Positive, Section

# Some providers have the protocol below /v1beta/openai, /api/paas/v4 and the like.
_OTHER_ROOT = re.compile(r"/(?:v(?!1$)\d\w*|openai)$")


class EndpointSettings(Section):
    url: str = Field(
        description="Base URL, with or without /v1, for example http://127.0.0.1:8000; one that ends in another "
        "version, or in /openai, has its routes right below it."
    )
    model: str = Field("", description="Model name there; empty: model.name.")
    api_key_env: str = Field("", description="Name of the environment variable that holds the key; empty: no key.")
    max_concurrency: Positive = Field(
        128, description="Most requests in flight to this endpoint; the adaptive bound moves below it."
    )
    prompt_price: Annotated[float, Field(ge=0)] = Field(0.0, description="Price of a million prompt tokens.")
    completion_price: Annotated[float, Field(ge=0)] = Field(0.0, description="Price of a million completion tokens.")
    packs_weights: bool = Field(
        False,
        description="vLLM on a CPU, served with --worker-extension-cls servers.packed_weights.PackedWeights: needed to "
        "reload tied heads.",
    )

    @property
    def base_url(self) -> str:
        return self.url.rstrip("/").removesuffix("/v1")

    def at(self, path: str) -> str:
        """The URL of a route of the protocol (`/v1/…`), or of another path of the server."""
        url = self.url.rstrip("/")
        return f"{url}{path.removeprefix('/v1')}" if _OTHER_ROOT.search(url) else f"{self.base_url}{path}"


class RequestsSection(Section):
    """How every endpoint is asked: by rollouts, reflection, abstraction, evaluation and stress alike."""

    timeout_s: Annotated[float, Field(gt=0)] = Field(
        300.0, description="Deadline of one request from its first attempt on, all attempts and pauses included."
    )
    attempt_timeout_s: Annotated[float, Field(gt=0)] = Field(
        150.0, description="Longest wait for one answer; then the request may go to another endpoint."
    )
    max_attempts: Positive = Field(5, description="Most attempts at one request on the wire, hedges included.")
    backoff_s: Annotated[float, Field(gt=0)] = Field(
        0.25, description="First pause is drawn from 0 to this (full jitter); it doubles with each attempt."
    )
    max_backoff_s: Annotated[float, Field(gt=0)] = Field(
        20.0, description="Longest such pause. Retry-After is a floor."
    )
    adaptive: bool = Field(
        True, description="Lower an endpoint's concurrency on 429, 503 and time-outs, raise it while latency holds."
    )
    affinity: bool = Field(
        True, description="Prompts that begin alike go to the same endpoint while it is not busier (prefix cache)."
    )
    hedge_after_s: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Ask a second endpoint when the first has not answered after this; 0: never."
    )
    breaker_failures: Positive = Field(
        5,
        description="Failures in a row that open an endpoint's circuit breaker (a refused connection opens it at "
        "once).",
    )
    probe_after_s: Annotated[float, Field(gt=0)] = Field(
        0.5, description="First pause before a half-open probe; doubles up to max_probe_after_s."
    )
    max_probe_after_s: Annotated[float, Field(gt=0)] = Field(
        10.0, description="Longest pause between probes: an endpoint that returns is noticed within it."
    )
    check_every_s: Annotated[float, Field(gt=0)] = Field(
        5.0, description="Training endpoints are looked at this often, so that a restarted one is noticed while idle."
    )
    max_outage_s: Annotated[float, Field(gt=0)] = Field(
        21600.0,
        description="Longest wait while no endpoint is fit; then what waits fails, and a run ends (it can be resumed).",
    )
    probe_timeout_s: Annotated[float, Field(gt=0)] = Field(
        30.0, description="Longest wait for the one-token probe that an endpoint must answer before it (re)joins."
    )

    @model_validator(mode="after")
    def _one_attempt_fits(self) -> RequestsSection:
        if self.attempt_timeout_s > self.timeout_s:
            raise ValueError(
                f"attempt_timeout_s = {self.attempt_timeout_s} exceeds timeout_s = {self.timeout_s}; "
                "raise requests.timeout_s, or lower requests.attempt_timeout_s"
            )
        return self
