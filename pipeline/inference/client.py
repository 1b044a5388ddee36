"""The client of a pool of OpenAI-compatible endpoints: chat, render, generate, sample, embed.

Invariants: every request goes the same way (`pipeline.inference.requests`); an endpoint whose breaker opened gets
nothing but probes until it was repaired and has answered one; nothing that a reply lacks reaches the caller as an
answer; where a run's weights are adapters, a request names the one that its endpoint was verified for, and what it
samples bears that version and no other."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from operator import attrgetter
from types import TracebackType
from typing import Any, NamedTuple, Self, Unpack

from pipeline.config import Config
from pipeline.config.endpoints import EndpointSettings, RequestsSection
from pipeline.config.rollout import SamplingSection
from pipeline.errors import EndpointError, FinalEndpointError, RetryableEndpointError
from pipeline.inference import protocol, token_protocol
from pipeline.inference.dialect import FORMAT
from pipeline.inference.endpoint import Endpoint
from pipeline.inference.health import Health, Repair
from pipeline.inference.http import HttpAttempt, Transport
from pipeline.inference.patience import Patience
from pipeline.inference.requests import RequestRunner
from pipeline.inference.router import Router
from pipeline.inference.structured_output import described
from pipeline.inference.trouble import TroubleWatch
from pipeline.inference.usage import Prices, Usage
from pipeline.runtime.watchdog import Watchdog
from pipeline.types import Message, WeightVersion
from pipeline.weights.publishing import REFERENCE

logger = logging.getLogger(__name__)
Json = dict[str, Any]
CHAT, RENDER, GENERATE = "/v1/chat/completions", "/v1/chat/completions/render", "/inference/v1/generate"
EMBEDDINGS, MODELS = "/v1/embeddings", "/v1/models"
PROBE = (Message(role="user", content="Hi"),)
VERDICT_POLL_S = 0.05


class ServedModel(NamedTuple):
    """The name under which a request gets a model, and the weights that are served by it; None where the server's label
    tells."""

    model: str
    version: WeightVersion | None = None


class InferenceClient:
    """Async context manager; owns the connections and the endpoints' health.

    `repair` brings an endpoint to the weights of the run before it (re)joins; with it, the endpoints are training
    endpoints, and are looked at every `requests.check_every_s`. Until `has_weights()`, the run has none that they could
    lack. With `adapters` its weights are adapters, each a model of its own by the name of its version. `on_trouble`
    gets what the user should read of endpoints that fail again and again, or say nothing."""

    def __init__(
        self,
        endpoints: tuple[EndpointSettings, ...],
        model: str,
        requests: RequestsSection,
        *,
        chat_template_kwargs: Json | None = None,
        seeded: bool = False,
        repair: Repair | None = None,
        has_weights: Callable[[], bool] = lambda: True,
        adapters: bool = False,
        watchdog: Watchdog | None = None,
        on_trouble: Callable[[str], None] | None = None,
    ) -> None:
        self.endpoints = [Endpoint(settings, model, requests) for settings in endpoints]
        self.usage = Usage(Prices(endpoints))
        self.trouble = TroubleWatch(self.usage, requests.max_outage_s, on_trouble)
        self.transport = Transport()
        self._requests = requests
        self._chat_template_kwargs = chat_template_kwargs or {}
        self._seeded = seeded
        self._has_weights = has_weights
        self._adapters = adapters
        self._watchdog = watchdog or Watchdog()
        self._router = Router(self.endpoints, affinity=requests.affinity, max_outage_s=requests.max_outage_s)
        self._health = Health(
            self.endpoints,
            self._router,
            self.usage,
            repair,
            has_weights,
            self.probe,
            self._weight_version,
            requests.check_every_s,
        )
        self._runner = RequestRunner(
            requests,
            self.transport,
            self._router,
            self._health,
            self.usage,
            self.trouble,
            self._watchdog,
            several=len(endpoints) > 1,
        )

    async def __aenter__(self) -> Self:
        await self.transport.__aenter__()
        self._health.start()
        self.trouble.silence.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._health.close()
        self.trouble.close()
        self._router.close()
        await self.transport.__aexit__(kind, error, trace)

    @property
    def max_model_len(self) -> int | None:
        """The shortest limit among the endpoints, tokens; None when none of them tells."""
        return min((e.max_model_len for e in self.endpoints if e.max_model_len), default=None)

    @property
    def has_token_route(self) -> bool:
        """Whether every endpoint takes and returns token ids (vLLM's render and generate routes)."""
        return all(endpoint.has_token_route for endpoint in self.endpoints)

    @property
    def token_limit(self) -> float | None:
        """Most tokens of a prompt and its completion, infinite where no endpoint tells; None where a prompt's length is
        not known before it is answered, since not every endpoint has the token route."""
        return (self.max_model_len or math.inf) if self.has_token_route else None

    @property
    def num_waiting(self) -> int:
        """Requests that wait for a slot."""
        return self._router.num_waiting

    @property
    def all_unavailable(self) -> bool:
        """Whether no endpoint is available at present."""
        return self._router.all_unavailable

    @property
    def failing_s(self) -> float:
        """For how long no endpoint has given a usable answer although all were asked; 0 while one of them does."""
        return self.trouble.failing_s(endpoint.url for endpoint in self.endpoints)

    def stop(self, error: EndpointError) -> None:
        """From now on no request begins: those that wait for a slot, or for their next attempt, fail with `error`. What
        is on the wire is answered."""
        self._router.stop(error)

    # Requests. Those of a rollout and of its lesson are the runner's own coroutines: no frame of this file waits above.

    def chat(
        self,
        messages: tuple[Message, ...],
        *,
        max_tokens: int,
        temperature: float,
        stage: str,
        schema: Json | None = None,
        seed: int | None = None,
        top_p: float = 1.0,
        priority: int = 0,
        affinity: str = "",
        stream: bool = False,
        patience: Patience | None = None,
    ) -> Coroutine[Any, Any, protocol.Reply]:
        """One text answer of any OpenAI-compatible endpoint; streamed, it tells the time to the first token. Its time
        limits are those of `patience`, where given.

        An endpoint that refuses `schema` gets it in the text of the last message, now and from then on. Raises
        EndpointError."""
        parameters: Json = {
            "max_tokens": max_tokens,
            "temperature": temperature,
            "seed": seed if self._seeded else None,
            "top_p": top_p,
        }

        async def send(attempt: HttpAttempt) -> protocol.Reply:
            endpoint, chat = attempt.endpoint, self._streamed if stream else _answered
            async with self._served_model(endpoint) as served:
                while True:
                    as_text = schema is not None and FORMAT in endpoint.dialect.dropped
                    shown = described(messages, schema) if schema is not None and as_text else messages
                    body = self.chat_body(endpoint, shown, **parameters, schema=None if as_text else schema)
                    try:
                        return await chat(attempt, body | {"model": served.model})
                    except FinalEndpointError as error:
                        if not endpoint.dialect.learn(error, body):
                            raise
                        logger.warning("requests to %s have another form from now on: %s", endpoint.url, error)

        return self._runner.run(send, _num_tokens, stage=stage, priority=priority, affinity=affinity, patience=patience)

    def render(self, messages: tuple[Message, ...], *, priority: int = 0) -> Coroutine[Any, Any, tuple[int, ...]]:
        """The prompt's token ids (P,) as the chat template renders it; needs `has_token_route`. Raises
        EndpointError."""

        async def send(attempt: HttpAttempt) -> tuple[int, ...]:
            return token_protocol.parse_render(await attempt.post(RENDER, self.chat_body(attempt.endpoint, messages)))

        return self._runner.run(send, stage="render", priority=priority)

    def generate(
        self,
        prompt_ids: tuple[int, ...],
        sampling: SamplingSection,
        num_samples: int,
        **request: Unpack[token_protocol.SamplingRequest],
    ) -> Coroutine[Any, Any, token_protocol.Samples]:
        """`num_samples` completions of a rendered prompt, with log-probabilities and weight versions; needs
        `has_token_route`. Raises EndpointError."""
        parameters = self._parameters(sampling, num_samples, request)

        async def send(attempt: HttpAttempt) -> token_protocol.Samples:
            async with self._served_model(attempt.endpoint) as served:
                reply = await attempt.post(GENERATE, token_protocol.generate_body(served.model, prompt_ids, parameters))
            samples = token_protocol.parse_generate(reply, prompt_ids, num_samples, served.version)
            return await _accepted(samples, request.get("accept"), attempt)

        return self._runner.run(send, _num_tokens, **_routing(request))

    async def sample(
        self,
        messages: tuple[Message, ...],
        sampling: SamplingSection,
        num_samples: int,
        **request: Unpack[token_protocol.SamplingRequest],
    ) -> token_protocol.Samples:
        """As `generate`, from messages: by the token routes where there are, else by the chat route with token ids,
        bracketed by the server's weight version before and after. Raises EndpointError."""
        if self.has_token_route:
            prompt_ids = await self.render(messages, priority=request.get("priority", 0))
            return await self.generate(prompt_ids, sampling, num_samples, **request)
        parameters = self._parameters(sampling, num_samples, request)

        async def send(attempt: HttpAttempt) -> token_protocol.Samples:
            body = {
                **self.chat_body(attempt.endpoint, messages),
                **parameters,
                "logprobs": True,
                "return_token_ids": True,
            }
            before = token_protocol.parse_weight_version(await attempt.get("/weight_info"))
            async with self._served_model(attempt.endpoint) as served:
                reply = await attempt.post(CHAT, {**body, "model": served.model})
            after = token_protocol.parse_weight_version(await attempt.get("/weight_info"))
            samples = token_protocol.parse_chat_samples(reply, num_samples, before, after, served.version)
            return await _accepted(samples, request.get("accept"), attempt)

        return await self._runner.run(send, _num_tokens, **_routing(request))

    async def embed(self, texts: list[str], *, stage: str = "embed", priority: int = 0) -> list[list[float]]:
        """One embedding for each text, by any endpoint's `/v1/embeddings`. Raises EndpointError."""

        async def send(attempt: HttpAttempt) -> list[list[float]]:
            body = {"model": attempt.endpoint.model, "input": texts, "encoding_format": "float"}
            return protocol.parse_embeddings(await attempt.post(EMBEDDINGS, body), len(texts))

        return await self._runner.run(send, stage=stage, priority=priority)

    def _parameters(self, sampling: SamplingSection, num_samples: int, request: token_protocol.SamplingRequest) -> Json:
        return token_protocol.sampling_body(
            sampling, request["max_tokens"], num_samples, request["seed"] if self._seeded else None
        )

    def chat_body(self, endpoint: Endpoint, messages: tuple[Message, ...], **kwargs: Any) -> Json:
        """Body of a chat request to `endpoint` with the run's template arguments; `kwargs` as for
        `protocol.chat_body`."""
        arguments = {"max_tokens": 1, "temperature": 0.0, **kwargs}
        body = protocol.chat_body(
            endpoint.model, messages, chat_template_kwargs=self._chat_template_kwargs, **arguments
        )
        return endpoint.dialect.spoken(body)

    async def get(self, endpoint: Endpoint, path: str, timeout_s: float = 30.0) -> Any:
        """One GET, one attempt, outside of slots and breaker; the parsed JSON. Raises EndpointError."""
        with self.trouble.silence.asking(endpoint.url, path):
            return await self._control("GET", endpoint, path, None, timeout_s)

    async def post(self, endpoint: Endpoint, path: str, body: Json, timeout_s: float) -> Any:
        """One POST, one attempt, outside of slots and breaker; the parsed JSON. Raises EndpointError."""
        return await self._control("POST", endpoint, path, body, timeout_s)

    async def _control(self, method: str, endpoint: Endpoint, path: str, body: Json | None, timeout_s: float) -> Any:
        try:
            async with asyncio.timeout(timeout_s):
                return await self.transport.request(method, endpoint.at(path), endpoint.headers, body)
        except TimeoutError as error:
            raise RetryableEndpointError("timeout", f"{endpoint.url}{path}: no answer in {timeout_s:g} s") from error

    async def _streamed(self, attempt: HttpAttempt, body: Json) -> protocol.Reply:
        loop = asyncio.get_running_loop()
        # Not the loop's clock, which stands still within a turn of the loop: a first token would come after the last.
        begin_s, first_s, events = time.monotonic(), None, []
        body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        async for event in self.transport.stream(attempt.endpoint.at(CHAT), attempt.headers, body):
            self.trouble.silence.heard(attempt.endpoint.url, loop.time())
            if first_s is None and protocol.has_content(event):
                first_s = time.monotonic() - begin_s
            events.append(event)
        return protocol.parse_stream(events, first_s, attempt.endpoint.url)

    async def probe(self, endpoint: Endpoint) -> None:
        """Request one token from the endpoint: /health is 200 on a wedged server. Raises EndpointError."""
        with self._watchdog.watch(self._requests.probe_timeout_s, "probe to", endpoint.url):
            async with self._served_model(endpoint) as served:
                body = self.chat_body(endpoint, PROBE) | {"model": served.model}
                try:
                    protocol.check_probe(await self.post(endpoint, CHAT, body, self._requests.probe_timeout_s))
                except EndpointError as error:
                    self.trouble.record(endpoint, error)
                    raise

    @asynccontextmanager
    async def _served_model(self, endpoint: Endpoint) -> AsyncIterator[ServedModel]:
        """The name under which the endpoint serves the weights that it was verified for. Raises EndpointError where
        there are none, or, from within the block, where the endpoint answers that it has them no longer: it started
        anew."""
        if not self._adapters or not self._has_weights():
            yield ServedModel(endpoint.model)
            return
        version = token_protocol.version_of(
            token_protocol.parse_weight_version(await self.get(endpoint, "/weight_info")), verified=True
        )
        if version == REFERENCE:
            yield ServedModel(endpoint.model, version)
            return
        try:
            yield ServedModel(version.label, version)
        except FinalEndpointError as error:
            if error.kind != "http_404":
                raise
            raise RetryableEndpointError(
                "missing_adapter", f"{endpoint.url} has lost {version.label}: {error}"
            ) from error

    async def _weight_version(self, endpoint: Endpoint) -> str:
        return token_protocol.parse_weight_version(
            await self.get(endpoint, "/weight_info", self._requests.check_every_s)
        )


def client_of(config: Config, endpoints: tuple[EndpointSettings, ...], **parts: Any) -> InferenceClient:
    """The client that `config` describes, over `endpoints`; `parts` are `repair`, `has_weights`, `adapters`,
    `watchdog` and `on_trouble`."""
    return InferenceClient(
        endpoints,
        config.model.name,
        config.requests,
        chat_template_kwargs=config.rollout.chat_template_kwargs,
        seeded=config.rollout.sampling.seeded,
        **parts,
    )


def _routing(request: token_protocol.SamplingRequest) -> Json:
    return {key: request[key] for key in ("stage", "priority", "affinity") if key in request}


async def _answered(attempt: HttpAttempt, body: Json) -> protocol.Reply:
    return protocol.parse_chat(await attempt.post(CHAT, body), attempt.endpoint.url)


async def _accepted(
    samples: token_protocol.Samples, accept: Callable[[WeightVersion], bool] | None, attempt: HttpAttempt
) -> token_protocol.Samples:
    """`samples`, if their weights are fresh enough and have passed their canary. Raises EndpointError."""
    if samples.under_check:
        # Another process gives it; this ends with the canary's request, or with this attempt's time.
        while token_protocol.is_under_check(  # noqa: ASYNC110 - the event is in the server
            label := token_protocol.parse_weight_version(await attempt.get("/weight_info"))
        ):
            await asyncio.sleep(VERDICT_POLL_S)
        token_protocol.version_of(label)
    if accept is None:
        return samples
    # Nearly always one version, which is then judged once.
    for oldest in {completion.oldest_version for completion in samples.completions}:
        if oldest is None or not accept(oldest):
            label = oldest.label if oldest else "nothing"
            raise RetryableEndpointError(
                "stale_weights", f"the server sampled with {label}, which is too old to be trained"
            )
    return samples


_num_tokens = attrgetter("num_prompt_tokens", "num_completion_tokens", "num_cached_prompt_tokens")
