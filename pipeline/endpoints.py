"""The pool of OpenAI-compatible endpoints: choice, limits, retries, usage.

Invariants: a request goes to the least loaded endpoint that is fit; one retry policy holds (full jitter, total
deadline, Retry-After as a floor, final errors at once), and a retry may go to another endpoint; an endpoint that
samples with weights this run did not publish, or that cannot be reached, gets no requests until `repair` returned for
it.

| waits            | for                                     | woken by                           |
|------------------|-----------------------------------------|------------------------------------|
| a request        | a place at a fit endpoint               | a request that ends; a repair      |
| the repair task  | the endpoint, then `repair` (reload)    | its own back-off (0.5 s to 5 s)    |
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from pipeline import wire
from pipeline.config import EndpointSettings, RolloutSection, SamplingSection
from pipeline.errors import (
    EndpointError,
    MalformedReplyError,
    RetryableEndpointError,
)
from pipeline.records import Message
from pipeline.weights import ServerAddress

Json = dict[str, Any]


class Usage:
    """Requests, retries, tokens and failures by stage, for cost accounting."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def add(self, stage: str, name: str, amount: int = 1) -> None:
        self.counts[(stage, name)] += amount

    def total(self, name: str, stage: str | None = None) -> int:
        return sum(n for (s, key), n in self.counts.items() if key == name and stage in (None, s))

    def by_stage(self) -> dict[str, dict[str, int]]:
        table: dict[str, dict[str, int]] = {}
        for (stage, name), amount in sorted(self.counts.items()):
            table.setdefault(stage, {})[name] = amount
        return table


class Endpoint:
    """One base URL. `num_in_flight` counts what it is working on; `fit` says whether it may be given more."""

    def __init__(self, settings: EndpointSettings, model: str) -> None:
        self.settings = settings
        self.url = settings.url.rstrip("/").removesuffix("/v1")
        self.model = settings.model or model
        self.max_model_len: int | None = None
        self.has_token_route = False
        self.num_in_flight = 0
        self.fit = True

    @property
    def address(self) -> ServerAddress:
        return ServerAddress(
            url=self.url,
            model=self.model,
            api_key_env=self.settings.api_key_env,
            packs_weights=self.settings.packs_weights,
        )


class EndpointPool:
    """Async context manager; owns the HTTP session and the repair tasks."""

    def __init__(
        self,
        endpoints: tuple[EndpointSettings, ...],
        model: str,
        rollout: RolloutSection,
        repair: Callable[[Endpoint], Awaitable[None]] | None = None,
    ) -> None:
        self.endpoints = [Endpoint(settings, model) for settings in endpoints]
        self.usage = Usage()
        self._rollout = rollout
        self._repair = repair
        self._repairs: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        limit = sum(endpoint.settings.max_concurrency for endpoint in self.endpoints)
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=limit + 8))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._repairs:
            task.cancel()
        await asyncio.gather(*self._repairs, return_exceptions=True)
        if self._session:
            await self._session.close()

    @property
    def max_model_len(self) -> int | None:
        """The shortest limit among the endpoints, tokens; None when none of them tells."""
        return min((e.max_model_len for e in self.endpoints if e.max_model_len), default=None)

    async def sample(
        self,
        messages: tuple[Message, ...],
        sampling: SamplingSection,
        num_samples: int,
        *,
        max_tokens: int,
        seed: int,
        stage: str,
    ) -> wire.Samples:
        """`num_samples` completions with token ids, log-probabilities and weight versions. Raises EndpointError."""
        parameters = wire.sampling_body(sampling, max_tokens, num_samples, self._sent(seed))

        async def attempt(endpoint: Endpoint, timeout_s: float) -> wire.Samples:
            if endpoint.has_token_route:
                prompt_ids = await self.render(endpoint, messages, timeout_s)
                body = wire.generate_body(endpoint.model, prompt_ids, parameters)
                return wire.parse_generate(
                    await self.post(endpoint, "/inference/v1/generate", body, timeout_s), prompt_ids, num_samples
                )
            body = {**self.chat_body(endpoint, messages), **parameters, "logprobs": True, "return_token_ids": True}
            before = await self._version(endpoint, timeout_s)
            reply = await self.post(endpoint, "/v1/chat/completions", body, timeout_s)
            return wire.parse_chat_samples(reply, num_samples, before, await self._version(endpoint, timeout_s))

        samples = await self._with_retries(attempt, stage)
        self.usage.add(stage, "prompt_tokens", len(samples.prompt_ids))
        self.usage.add(stage, "completion_tokens", sum(len(c.token_ids) for c in samples.completions))
        return samples

    async def chat(
        self,
        messages: tuple[Message, ...],
        *,
        max_tokens: int,
        temperature: float,
        stage: str,
        schema: Json | None = None,
        seed: int | None = None,
    ) -> wire.Reply:
        """One text answer of any OpenAI-compatible endpoint. Raises EndpointError."""

        async def attempt(endpoint: Endpoint, timeout_s: float) -> wire.Reply:
            body = self.chat_body(
                endpoint, messages, max_tokens=max_tokens, temperature=temperature, schema=schema, seed=self._sent(seed)
            )
            return wire.parse_chat(await self.post(endpoint, "/v1/chat/completions", body, timeout_s))

        reply = await self._with_retries(attempt, stage)
        self.usage.add(stage, "prompt_tokens", reply.num_prompt_tokens)
        self.usage.add(stage, "completion_tokens", reply.num_completion_tokens)
        return reply

    async def num_prompt_tokens(self, messages: tuple[Message, ...]) -> int | None:
        """Length of the rendered prompt, tokens; None where no endpoint can render without sampling."""
        if not any(endpoint.has_token_route for endpoint in self.endpoints):
            return None

        async def attempt(endpoint: Endpoint, timeout_s: float) -> int:
            return len(await self.render(endpoint, messages, timeout_s))

        return await self._with_retries(attempt, "render")

    def _sent(self, seed: int | None) -> int | None:
        """The seed as it goes over the wire: vLLM's CPU workers die of seeded requests when a prompt is prefilled in chunks."""
        return seed if self._rollout.sampling.seeded else None

    def chat_body(self, endpoint: Endpoint, messages: tuple[Message, ...], **kwargs: Any) -> Json:
        """Body of a chat request to `endpoint` with the run's template arguments; `kwargs` as for `wire.chat_body`."""
        arguments = {"max_tokens": 1, "temperature": 0.0, **kwargs}
        return wire.chat_body(
            endpoint.model, messages, chat_template_kwargs=self._rollout.chat_template_kwargs, **arguments
        )

    async def render(self, endpoint: Endpoint, messages: tuple[Message, ...], timeout_s: float) -> tuple[int, ...]:
        """The prompt's token ids (P,) as the endpoint's chat template renders it. Raises EndpointError."""
        reply = await self.post(endpoint, "/v1/chat/completions/render", self.chat_body(endpoint, messages), timeout_s)
        token_ids = reply.get("token_ids") if isinstance(reply, dict) else None
        if not token_ids:
            raise MalformedReplyError("no_token_ids", "the render route returned no token_ids")
        return tuple(token_ids)

    async def _version(self, endpoint: Endpoint, timeout_s: float) -> str:
        return str((await self.get(endpoint, "/weight_info", timeout_s)).get("weight_version", ""))

    async def _with_retries(self, attempt: Callable[[Endpoint, float], Awaitable[Any]], stage: str) -> Any:
        deadline = asyncio.get_running_loop().time() + self._rollout.request_timeout_s
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(RetryableEndpointError),
            stop=stop_after_attempt(self._rollout.max_attempts),
            wait=_wait,
            reraise=True,
        )
        try:
            async with asyncio.timeout_at(deadline):
                async for retry in retrying:
                    with retry:
                        endpoint = await self._acquire()
                        try:
                            self.usage.add(stage, "requests")
                            return await attempt(endpoint, deadline - asyncio.get_running_loop().time())
                        except EndpointError as error:
                            self.usage.add(stage, f"failed_{error.kind}")
                            if error.kind in ("connection", "unverified_weights"):
                                self._set_aside(endpoint)
                            raise
                        finally:
                            await self._release(endpoint)
        except TimeoutError:
            self.usage.add(stage, "failed_deadline")
            raise RetryableEndpointError("deadline", f"no answer within {self._rollout.request_timeout_s} s") from None

    async def _acquire(self) -> Endpoint:
        async with self._changed:
            while True:
                free = [e for e in self.endpoints if e.fit and e.num_in_flight < e.settings.max_concurrency]
                if free:
                    endpoint = min(free, key=lambda e: e.num_in_flight / e.settings.max_concurrency)
                    endpoint.num_in_flight += 1
                    return endpoint
                await self._changed.wait()

    async def _release(self, endpoint: Endpoint) -> None:
        endpoint.num_in_flight -= 1
        async with self._changed:
            self._changed.notify()

    def _set_aside(self, endpoint: Endpoint) -> None:
        if self._repair is None or not endpoint.fit:
            return
        endpoint.fit = False
        task = asyncio.create_task(self._repair_until_fit(endpoint), name=f"repair {endpoint.url}")
        self._repairs.add(task)
        task.add_done_callback(self._repairs.discard)

    async def _repair_until_fit(self, endpoint: Endpoint) -> None:
        assert self._repair is not None
        pause_s = 0.5
        while True:
            try:
                await self._repair(endpoint)
                break
            except Exception:  # noqa: BLE001 - whatever the repair met, the endpoint stays set aside and is tried again
                self.usage.add("repair", "failed")
                await asyncio.sleep(pause_s)
                pause_s = min(5.0, pause_s * 2)
        self.usage.add("repair", "repaired")
        endpoint.fit = True
        async with self._changed:
            self._changed.notify_all()

    async def get(self, endpoint: Endpoint, path: str, timeout_s: float = 30.0) -> Any:
        """One GET, one attempt; the parsed JSON. Raises EndpointError."""
        return await self._request("GET", endpoint, path, None, timeout_s)

    async def post(self, endpoint: Endpoint, path: str, body: Json, timeout_s: float) -> Any:
        """One POST, one attempt; the parsed JSON. Raises EndpointError."""
        return await self._request("POST", endpoint, path, orjson.dumps(body), timeout_s)

    async def _request(self, method: str, endpoint: Endpoint, path: str, data: bytes | None, timeout_s: float) -> Any:
        assert self._session is not None, "EndpointPool is an async context manager"
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(endpoint.settings.api_key_env or "", ""):
            headers["Authorization"] = f"Bearer {key}"
        timeout = aiohttp.ClientTimeout(total=max(0.1, timeout_s), sock_connect=10)
        try:
            async with self._session.request(
                method, endpoint.url + path, data=data, headers=headers, timeout=timeout
            ) as reply:
                content = await reply.read()
                if reply.status != 200:
                    raise wire.error_of(
                        reply.status, content.decode(errors="replace"), reply.headers.get("Retry-After")
                    )
        except TimeoutError as error:
            raise RetryableEndpointError("timeout", f"{endpoint.url}{path}: no answer in time") from error
        except aiohttp.ClientError as error:
            raise RetryableEndpointError(
                "connection", f"{endpoint.url}{path}: {type(error).__name__}: {error}"
            ) from error
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise MalformedReplyError("broken_json", f"{endpoint.url}{path}: {error}") from error


_jitter = wait_random_exponential(multiplier=0.25, max=20.0)


def _wait(state: RetryCallState) -> float:
    """Full jitter, never less than the endpoint's Retry-After."""
    error = state.outcome.exception() if state.outcome else None
    floor = error.retry_after_s if isinstance(error, EndpointError) and error.retry_after_s else 0.0
    return max(floor, _jitter(state))
