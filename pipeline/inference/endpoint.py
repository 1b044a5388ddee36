"""One OpenAI-compatible endpoint: its base URL, and the state that the client keeps of it."""

from __future__ import annotations

import os
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from yarl import URL

from pipeline.config.endpoints import EndpointSettings, RequestsSection
from pipeline.inference.circuit_breaker import CircuitBreaker
from pipeline.inference.concurrency_limit import AdaptiveLimit
from pipeline.inference.dialect import Dialect
from pipeline.weights.sync import ServerAddress


class Endpoint:
    """State only; the client decides. `num_in_flight` counts the requests that it is working on."""

    def __init__(self, settings: EndpointSettings, model: str, requests: RequestsSection) -> None:
        self.settings = settings
        self.url = settings.base_url
        self.model = settings.model or model
        self.card: dict[str, Any] = {}
        """The model's entry in /v1/models, once the endpoint was checked."""
        key = os.environ.get(settings.api_key_env, "") if settings.api_key_env else ""
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.dialect = Dialect()
        self.max_model_len: int | None = None
        self.has_token_route = False
        self.num_in_flight = 0
        self.not_before_s = 0.0
        """On the loop's clock: the endpoint asked (Retry-After) to be left alone until then."""
        self.last_failure = ""
        """Kind and message of the last attempt that failed, for the user."""
        self.limit = AdaptiveLimit(settings.max_concurrency, adaptive=requests.adaptive)
        self.breaker = CircuitBreaker(requests.breaker_failures, requests.probe_after_s, requests.max_probe_after_s)
        self.at = cache(lambda path: URL(settings.at(path)))
        """The URL of a path, parsed once."""

    @property
    def address(self) -> ServerAddress:
        return ServerAddress(
            url=self.url,
            model=self.model,
            api_key_env=self.settings.api_key_env,
            packs_weights=self.settings.packs_weights,
        )

    @property
    def host_and_port(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def available(self) -> bool:
        return self.breaker.state == "closed"
