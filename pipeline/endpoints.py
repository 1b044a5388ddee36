"""The pool of OpenAI-compatible endpoints: what a request goes through from its first attempt to its answer.

Invariants: one retry policy holds for every request (`pipeline.retries`); at most `requests.max_attempts` attempts reach the wire,
hedges included; an endpoint whose breaker opened gets nothing but the pool's own probe until it was repaired and has answered a
canary; every failure is counted by endpoint, stage and kind; nothing that a reply lacks reaches the caller as an answer.

| waits              | for                                              | woken by                                   |
|--------------------|--------------------------------------------------|--------------------------------------------|
| a request          | a place (`pipeline.places`); an answer; a back-off | another request's end; the wire; the clock |
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from pipeline import wire
from pipeline.config import Config, EndpointSettings, RequestsSection, SamplingSection
from pipeline.endpoint import Endpoint
from pipeline.errors import EndpointError, RetryableEndpointError
from pipeline.health import Health, Repair
from pipeline.places import Places
from pipeline.records import Message, WeightVersion
from pipeline.retries import RetryPolicy
from pipeline.semconv import request_fields
from pipeline.transport import Transport
from pipeline.usage import Tally, Usage
from pipeline.watchdog import Watchdog

logger = logging.getLogger(__name__)
Json = dict[str, Any]
T = TypeVar("T")
CHAT, RENDER, GENERATE = "/v1/chat/completions", "/v1/chat/completions/render", "/inference/v1/generate"
CANARY = (Message(role="user", content="Hi"),)

# The endpoint is asked for less, and not suspected of being broken.
OVERLOAD = frozenset({"http_429", "http_503", "http_529", "timeout"})
# Several in a row mean that the endpoint is broken; a kind of AT_ONCE is proof enough by itself.
BROKEN = frozenset(
    {"connection", "timeout", "broken_json", "wrong_choices", "aborted"}
    | {f"http_{status}" for status in (500, 502, 503, 504, 529)}
)
AT_ONCE = frozenset({"refused", "unverified_weights", "stale_weights"})


class _Request:
    """One logical request over all its attempts. `id` goes over the wire with the number of the attempt.

    `deadline_s`, on the loop's clock, is set when the first attempt begins: time spent queueing for a place does not count."""

    __slots__ = ("affinity", "deadline_s", "id", "num_attempts", "priority", "stage")
    _ids = itertools.count()
    _process = secrets.token_hex(4)

    def __init__(self, stage: str, priority: int = 0, affinity: str = "") -> None:
        self.stage = stage
        self.priority = priority
        self.affinity = affinity
        self.id = f"{self._process}{next(self._ids):08x}"
        self.num_attempts = 0
        self.deadline_s = float("inf")


class Attempt(NamedTuple):
    """One attempt at one endpoint: what an asker needs to speak to it."""

    transport: Transport
    endpoint: Endpoint
    headers: dict[str, str]

    def post(self, path: str, body: Json) -> Awaitable[Any]:
        return self.transport.request("POST", self.endpoint.at(path), self.headers, body)

    def get(self, path: str) -> Awaitable[Any]:
        return self.transport.request("GET", self.endpoint.at(path), self.headers)


Asker = Callable[[Attempt], Awaitable[T]]


class EndpointPool:
    """Async context manager; owns the connections and the endpoints' health.

    `repair` brings an endpoint to the weights of the run before it (re)joins; with it, the endpoints are training endpoints,
    and are looked at every `requests.check_every_s`."""

    def __init__(
        self,
        endpoints: tuple[EndpointSettings, ...],
        model: str,
        requests: RequestsSection,
        *,
        chat_template_kwargs: Json | None = None,
        seeded: bool = False,
        repair: Repair | None = None,
        watchdog: Watchdog | None = None,
    ) -> None:
        self.endpoints = [Endpoint(settings, model, requests) for settings in endpoints]
        self.usage = Usage({e.url: (e.settings.prompt_price, e.settings.completion_price) for e in self.endpoints})
        self.transport = Transport()
        self._requests = requests
        self._chat_template_kwargs = chat_template_kwargs or {}
        self._seeded = seeded
        self._watchdog = watchdog or Watchdog()
        self._retries = RetryPolicy(requests)
        self._places = Places(self.endpoints, affinity=requests.affinity, max_outage_s=requests.max_outage_s)
        self._health = Health(
            self.endpoints,
            self._places,
            self.usage,
            repair,
            self.canary,
            self._weight_version,
            requests.check_every_s,
        )

    async def __aenter__(self) -> Self:
        await self.transport.__aenter__()
        self._health.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._health.close()
        self._places.close()
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
    def num_waiting(self) -> int:
        """Requests that wait for a place."""
        return self._places.num_waiting

    @property
    def dark(self) -> bool:
        """Whether no endpoint is fit at present."""
        return self._places.dark

    # What can be asked

    async def chat(
        self,
        messages: tuple[Message, ...],
        *,
        max_tokens: int,
        temperature: float,
        stage: str,
        schema: Json | None = None,
        seed: int | None = None,
        priority: int = 0,
        affinity: str = "",
        stream: bool = False,
    ) -> wire.Reply:
        """One text answer of any OpenAI-compatible endpoint; streamed, it tells the time to the first token.

        Raises EndpointError."""
        wanted: Json = {
            "max_tokens": max_tokens,
            "temperature": temperature,
            "schema": schema,
            "seed": seed if self._seeded else None,
        }

        async def ask(attempt: Attempt) -> wire.Reply:
            body = self.chat_body(attempt.endpoint, messages, **wanted)
            if stream:
                return await self._streamed(attempt, body)
            return wire.parse_chat(await attempt.post(CHAT, body))

        return await self._ask(_Request(stage, priority, affinity), ask, _tokens_of_reply)

    async def render(self, messages: tuple[Message, ...], *, priority: int = 0) -> tuple[int, ...]:
        """The prompt's token ids (P,) as the chat template renders it; needs `has_token_route`. Raises EndpointError."""

        async def ask(attempt: Attempt) -> tuple[int, ...]:
            return wire.parse_render(await attempt.post(RENDER, self.chat_body(attempt.endpoint, messages)))

        return await self._ask(_Request("render", priority), ask)

    async def generate(
        self,
        prompt_ids: tuple[int, ...],
        sampling: SamplingSection,
        num_samples: int,
        *,
        max_tokens: int,
        seed: int,
        stage: str,
        priority: int = 0,
        affinity: str = "",
        accept: Callable[[WeightVersion], bool] | None = None,
    ) -> wire.Samples:
        """`num_samples` completions of a rendered prompt, with log-probabilities and weight versions; needs
        `has_token_route`. What was sampled by weights that `accept` refuses is not returned. Raises EndpointError."""
        parameters = wire.sampling_body(sampling, max_tokens, num_samples, seed if self._seeded else None)

        async def ask(attempt: Attempt) -> wire.Samples:
            body = wire.generate_body(attempt.endpoint.model, prompt_ids, parameters)
            samples = wire.parse_generate(await attempt.post(GENERATE, body), prompt_ids, num_samples)
            return _accepted(samples, accept)

        return await self._ask(_Request(stage, priority, affinity), ask, _tokens_of_samples)

    async def sample(
        self,
        messages: tuple[Message, ...],
        sampling: SamplingSection,
        num_samples: int,
        *,
        max_tokens: int,
        seed: int,
        stage: str,
        priority: int = 0,
        affinity: str = "",
        accept: Callable[[WeightVersion], bool] | None = None,
    ) -> wire.Samples:
        """As `generate`, from messages: by the token routes where there are, else by the chat route with token ids,
        bracketed by the server's weight version before and after. Raises EndpointError."""
        if self.has_token_route:
            prompt_ids = await self.render(messages, priority=priority)
            return await self.generate(
                prompt_ids, sampling, num_samples, max_tokens=max_tokens, seed=seed, stage=stage,
                priority=priority, affinity=affinity, accept=accept,
            )  # fmt: skip
        parameters = wire.sampling_body(sampling, max_tokens, num_samples, seed if self._seeded else None)

        async def ask(attempt: Attempt) -> wire.Samples:
            body = {**self.chat_body(attempt.endpoint, messages), **parameters}
            before = wire.parse_weight_version(await attempt.get("/weight_info"))
            reply = await attempt.post(CHAT, {**body, "logprobs": True, "return_token_ids": True})
            after = wire.parse_weight_version(await attempt.get("/weight_info"))
            return _accepted(wire.parse_chat_samples(reply, num_samples, before, after), accept)

        return await self._ask(_Request(stage, priority, affinity), ask, _tokens_of_samples)

    def chat_body(self, endpoint: Endpoint, messages: tuple[Message, ...], **kwargs: Any) -> Json:
        """Body of a chat request to `endpoint` with the run's template arguments; `kwargs` as for `wire.chat_body`."""
        arguments = {"max_tokens": 1, "temperature": 0.0, **kwargs}
        return wire.chat_body(endpoint.model, messages, chat_template_kwargs=self._chat_template_kwargs, **arguments)

    async def get(self, endpoint: Endpoint, path: str, timeout_s: float = 30.0) -> Any:
        """One GET, one attempt, outside of places and breaker; the parsed JSON. Raises EndpointError."""
        return await self._control("GET", endpoint, path, None, timeout_s)

    async def post(self, endpoint: Endpoint, path: str, body: Json, timeout_s: float) -> Any:
        """One POST, one attempt, outside of places and breaker; the parsed JSON. Raises EndpointError."""
        return await self._control("POST", endpoint, path, body, timeout_s)

    async def _control(self, method: str, endpoint: Endpoint, path: str, body: Json | None, timeout_s: float) -> Any:
        try:
            async with asyncio.timeout(timeout_s):
                return await self.transport.request(method, endpoint.at(path), endpoint.headers, body)
        except TimeoutError as error:
            raise RetryableEndpointError("timeout", f"{endpoint.url}{path}: no answer in {timeout_s:g} s") from error

    async def _streamed(self, attempt: Attempt, body: Json) -> wire.Reply:
        loop = asyncio.get_running_loop()
        begin_s, first_s, events = loop.time(), None, []
        body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        async for event in self.transport.stream(attempt.endpoint.at(CHAT), attempt.headers, body):
            if first_s is None and wire.has_content(event):
                first_s = loop.time() - begin_s
            events.append(event)
        return wire.parse_stream(events, first_s)

    # From the first attempt to the answer

    async def _ask(
        self, request: _Request, ask: Asker[T], tokens: Callable[[T], tuple[int, int, int]] | None = None
    ) -> T:
        # The first attempt nearly always finds a place and an answer; only what fails pays for the machinery of retries.
        endpoint = self._places.try_first(request.affinity) or await self._places.take(
            request.priority, request.affinity
        )
        request.deadline_s = asyncio.get_running_loop().time() + self._requests.timeout_s
        try:
            answer, endpoint = await self._at(endpoint, request, ask)
        except RetryableEndpointError as error:
            answer, endpoint = await self._retries.run(
                error,
                lambda: self._again(request, ask),
                num_attempts=lambda: request.num_attempts,
                deadline_s=request.deadline_s,
            )
        if tokens is not None:
            num_prompt, num_completion, num_cached = tokens(answer)
            tally = self.usage.at(endpoint.url, request.stage)
            tally.num_prompt_tokens += num_prompt
            tally.num_completion_tokens += num_completion
            tally.num_cached_prompt_tokens += num_cached
        return answer

    async def _again(self, request: _Request, ask: Asker[T]) -> tuple[T, Endpoint]:
        """A further attempt, at a place that is waited for no longer than the request's deadline."""
        self.usage.at("", request.stage).others["retries"] += 1
        try:
            async with asyncio.timeout_at(request.deadline_s):
                endpoint = await self._places.take(request.priority, request.affinity)
        except TimeoutError:
            self.usage.at("", request.stage).others["failed_deadline"] += 1
            raise RetryableEndpointError(
                "deadline", f"request {request.id}: no endpoint was free within {self._requests.timeout_s:g} s"
            ) from None
        return await self._at(endpoint, request, ask)

    async def _at(self, endpoint: Endpoint, request: _Request, ask: Asker[T]) -> tuple[T, Endpoint]:
        """An answer from `endpoint`, where the request has a place that is given back, or from its hedge; and from which."""
        if self._requests.hedge_after_s and len(self.endpoints) > 1:
            return await self._hedged(endpoint, request, ask)
        try:
            return await self._on(endpoint, request, ask), endpoint
        finally:
            self._places.give_back(endpoint)

    async def _on(self, endpoint: Endpoint, request: _Request, ask: Asker[T]) -> T:
        """One attempt at an endpoint where the request has a place."""
        now = asyncio.get_running_loop().time
        begin_s = now()
        timeout_s = min(self._requests.attempt_timeout_s, request.deadline_s - begin_s)
        name = f"{request.id}-{request.num_attempts}"
        request.num_attempts += 1
        tally = self.usage.at(endpoint.url, request.stage)
        tally.num_requests += 1
        try:
            with self._watchdog.limit(timeout_s, request.stage, "request", name, "to", endpoint.url):
                answer = await ask(Attempt(self.transport, endpoint, {**endpoint.headers, "X-Request-Id": name}))
            latency_s = now() - begin_s
            endpoint.breaker.num_failures = 0
            endpoint.limit.on_success(latency_s, endpoint.num_in_flight)
            tally.latency.add(latency_s)
            tally.num_succeeded += 1
            return answer
        except TimeoutError:
            error = RetryableEndpointError(
                "timeout", f"request {name} ({request.stage}) to {endpoint.url}: no answer in {timeout_s:g} s"
            )
            self._judge(endpoint, request, tally, error)
            raise error from None
        except EndpointError as error:
            self._judge(endpoint, request, tally, error)
            raise

    async def _hedged(self, endpoint: Endpoint, request: _Request, ask: Asker[T]) -> tuple[T, Endpoint]:
        """Ask `endpoint`; when it takes long, a second one as well. The first answer counts, the other attempt is dropped."""
        askers: dict[asyncio.Task[T], Endpoint] = {}

        def begin(at: Endpoint) -> None:
            task = asyncio.create_task(self._on(at, request, ask))
            # Not within `_on`: a task that is cancelled before its first turn never gets there.
            task.add_done_callback(lambda _: self._places.give_back(at))
            askers[task] = at

        begin(endpoint)
        try:
            done, _ = await asyncio.wait(askers, timeout=self._requests.hedge_after_s)
            if not done and request.num_attempts < self._requests.max_attempts:
                other = self._places.try_take(other_than=endpoint)
                if other is not None:
                    self.usage.at(other.url, request.stage).others["hedges"] += 1
                    begin(other)
            failed: EndpointError | None = None
            waiting = set(askers)
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    try:
                        return task.result(), askers[task]
                    except EndpointError as error:
                        failed = error
            assert failed is not None
            raise failed
        finally:
            for task in askers:
                task.cancel()
            await asyncio.gather(*askers, return_exceptions=True)

    def _judge(self, endpoint: Endpoint, request: _Request, tally: Tally, error: EndpointError) -> None:
        """What a failure says of the endpoint: less at once, nothing for a while, or nothing until it is repaired."""
        tally.others[f"failed_{error.kind}"] += 1
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s", error, extra=request_fields(endpoint, request.stage, request.id, error=error))
        now_s = asyncio.get_running_loop().time()
        if error.kind in OVERLOAD:
            endpoint.limit.on_overload(now_s)
        if error.retry_after_s:
            endpoint.not_before_s = max(endpoint.not_before_s, now_s + error.retry_after_s)
            self._places.endpoint_changed(endpoint)
        # A training server that drops a connection may have died, and come back with other weights.
        at_once = error.kind in AT_ONCE or (error.kind == "connection" and self._health.serves_training)
        if at_once or error.kind in BROKEN:
            self._health.suspect(endpoint, at_once=at_once)

    async def canary(self, endpoint: Endpoint) -> None:
        """One token from the endpoint: /health is 200 on a wedged server. Raises EndpointError."""
        body = self.chat_body(endpoint, CANARY)
        with self._watchdog.watch(self._requests.canary_timeout_s, "canary to", endpoint.url):
            wire.check_canary(await self.post(endpoint, CHAT, body, self._requests.canary_timeout_s))

    async def _weight_version(self, endpoint: Endpoint) -> str:
        return wire.parse_weight_version(await self.get(endpoint, "/weight_info", self._requests.check_every_s))


def pool_of(config: Config, endpoints: tuple[EndpointSettings, ...], **parts: Any) -> EndpointPool:
    """The pool that `config` describes, over `endpoints`; `parts` are `repair` and `watchdog`."""
    return EndpointPool(
        endpoints,
        config.model.name,
        config.requests,
        chat_template_kwargs=config.rollout.chat_template_kwargs,
        seeded=config.rollout.sampling.seeded,
        **parts,
    )


def _accepted(samples: wire.Samples, accept: Callable[[WeightVersion], bool] | None) -> wire.Samples:
    for completion in samples.completions:
        oldest = completion.oldest_version
        if accept is not None and (oldest is None or not accept(oldest)):
            label = oldest.label if oldest else "nothing"
            raise RetryableEndpointError(
                "stale_weights", f"the server sampled with {label}, which is too old to be trained"
            )
    return samples


def _tokens_of_reply(reply: wire.Reply) -> tuple[int, int, int]:
    return reply.num_prompt_tokens, reply.num_completion_tokens, reply.num_cached_prompt_tokens


def _tokens_of_samples(samples: wire.Samples) -> tuple[int, int, int]:
    return len(samples.prompt_ids), sum(len(completion.token_ids) for completion in samples.completions), 0
