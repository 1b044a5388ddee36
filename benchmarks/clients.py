"""Clients that request the same thing in different ways; other benchmarks `run` each in a process of its own.

Found are requests/s, what was read from the answers (so that all are seen to parse the same), failures, and memory per
request in flight."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from pipeline.config.endpoints import EndpointSettings, RequestsSection
from pipeline.config.rollout import SamplingSection
from pipeline.inference.client import CHAT, GENERATE, InferenceClient
from pipeline.inference.token_protocol import generate_body, sampling_body
from pipeline.runtime import event_loop

PROMPT_IDS = tuple(range(40))
MESSAGES = [{"role": "user", "content": "What is 12 + 35?"}]
Read = tuple[str, int, float]
"""What a client reads from an answer: text, number of tokens, sum of log-probabilities."""
Ask = Callable[[], Awaitable[Read]]


async def lanpo(url: str, concurrency: int, stack: AsyncExitStack) -> Ask:
    """The pool with everything on (it is by default): places, retries, breaker, adaptive bound, usage, watchdog,
    records."""
    settings = EndpointSettings(url=url, max_concurrency=concurrency)
    pool = await stack.enter_async_context(InferenceClient((settings,), "policy", RequestsSection()))
    pool.endpoints[0].has_token_route = True
    sampling = SamplingSection()

    async def ask() -> Read:
        samples = await pool.generate(PROMPT_IDS, sampling, 1, max_tokens=64, seed=0, stage="rollout", affinity="p")
        completion = samples.completions[0]
        return completion.text, len(completion.token_ids), sum(completion.logprobs)

    return ask


def _generate_body() -> dict[str, Any]:
    return generate_body("policy", PROMPT_IDS, sampling_body(SamplingSection(), 64, 1, None))


def _read_generate(reply: Any) -> Read:
    choice = reply["choices"][0]
    logprobs = [item["logprob"] for item in choice["logprobs"]["content"]]
    assert choice["weight_versions"]
    return choice["text"], len(choice["token_ids"]), sum(logprobs)


async def bare(url: str, concurrency: int, stack: AsyncExitStack) -> Ask:
    """aiohttp and orjson with nothing around them."""
    connector = aiohttp.TCPConnector(limit=concurrency)
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
    headers = {"Content-Type": "application/json"}

    async def ask() -> Read:
        async with session.post(url + GENERATE, data=orjson.dumps(_generate_body()), headers=headers) as reply:
            assert reply.status == 200
            return _read_generate(orjson.loads(await reply.read()))

    return ask


async def chat(url: str, concurrency: int, stack: AsyncExitStack) -> Ask:
    """The same for the chat route, which evaluations ask."""
    connector = aiohttp.TCPConnector(limit=concurrency)
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
    headers = {"Content-Type": "application/json"}
    body = {"model": "policy", "messages": MESSAGES, "max_tokens": 96, "temperature": 1.0}

    async def ask() -> Read:
        async with session.post(url + CHAT, data=orjson.dumps(body), headers=headers) as reply:
            assert reply.status == 200
            answer = orjson.loads(await reply.read())
            return answer["choices"][0]["message"]["content"], answer["usage"]["completion_tokens"], 0.0

    return ask


async def trl(url: str, concurrency: int, stack: AsyncExitStack) -> Ask:
    """As `trl.experimental.async_grpo` posts: aiohttp, its json, a time-out object for each request."""
    connector = aiohttp.TCPConnector(limit=concurrency)
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))

    async def ask() -> Read:
        timeout = aiohttp.ClientTimeout(total=300)
        async with session.post(url + GENERATE, json=_generate_body(), timeout=timeout) as reply:
            reply.raise_for_status()
            return _read_generate(await reply.json())

    return ask


async def openai_default(url: str, concurrency: int, stack: AsyncExitStack) -> Ask:
    import httpx2
    from openai import DefaultAsyncHttpxClient

    limits = httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    return await _openai(url, stack, DefaultAsyncHttpxClient(limits=limits))


async def openai_aiohttp(url: str, concurrency: int, stack: AsyncExitStack) -> Ask:
    import httpx2
    from openai import DefaultAioHttpClient

    limits = httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    return await _openai(url, stack, DefaultAioHttpClient(limits=limits))


async def _openai(url: str, stack: AsyncExitStack, http_client: Any) -> Ask:
    from openai import AsyncOpenAI

    client = await stack.enter_async_context(
        AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, http_client=http_client, timeout=300)
    )

    async def ask() -> Read:
        reply: Any = await client.chat.completions.create(
            model="policy",
            messages=MESSAGES,  # type: ignore[arg-type]
            max_tokens=64,
            temperature=1.0,
            logprobs=True,
            extra_body={"return_token_ids": True},
        )
        choice = reply.choices[0]
        logprobs = [item.logprob for item in choice.logprobs.content]
        return choice.message.content, len(choice.token_ids), sum(logprobs)

    return ask


CLIENTS = {
    "lanpo": lanpo,
    "bare": bare,
    "chat": chat,
    "trl": trl,
    "openai": openai_default,
    "openai-aiohttp": openai_aiohttp,
}


async def closed_loop(ask: Ask, concurrency: int, num_requests: int) -> dict[str, Any]:
    """`concurrency` askers, each asking again when answered, until `num_requests` were answered."""
    left = num_requests
    failures: dict[str, int] = {}
    read: set[Read] = set()

    async def asker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            try:
                read.add(await ask())
            except Exception as error:  # noqa: BLE001 - the benchmark counts failures of any client by name
                name = getattr(error, "kind", type(error).__name__)
                failures[name] = failures.get(name, 0) + 1

    await ask()  # connections and imports are not what is measured
    begin = time.perf_counter()
    await asyncio.gather(*(asker() for _ in range(concurrency)))
    seconds = time.perf_counter() - begin
    answers = sorted((text, num, round(total, 6)) for text, num, total in read)
    return {"requests_per_s": num_requests / seconds, "seconds": seconds, "failures": failures, "answers": answers}


def resident_bytes() -> int:
    import resource

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


async def at_full_flight(ask: Ask, num_in_flight: int, seconds: float, settle_s: float) -> dict[str, Any]:
    """Keep `num_in_flight` requests out for `seconds` after all have been sent once; memory per request at that
    time."""
    num_answered = 0
    counting = stop = False
    failures: dict[str, int] = {}

    async def asker() -> None:
        nonlocal num_answered
        while not stop:
            try:
                await ask()
                num_answered += counting
            except Exception as error:  # noqa: BLE001 - as above
                name = getattr(error, "kind", type(error).__name__)
                failures[name] = failures.get(name, 0) + 1

    await ask()
    gc.collect()
    idle = resident_bytes()
    askers = [asyncio.ensure_future(asker()) for _ in range(num_in_flight)]
    # The first answers come in a burst whose connections had to be made: not the steady state.
    await asyncio.sleep(settle_s)
    flying = resident_bytes()
    counting, begin = True, time.perf_counter()
    await asyncio.sleep(seconds)
    elapsed, answered = time.perf_counter() - begin, num_answered
    stop = True
    await asyncio.gather(*askers)
    per_request = max(0, flying - idle) / num_in_flight
    return {"requests_per_s": answered / elapsed, "failures": failures, "bytes_per_request": per_request}


def run(
    client: str,
    url: str,
    concurrency: int,
    num_requests: int = 0,
    steady_s: float = 0.0,
    settle_s: float = 4.0,
    loop: str = "uvloop",
) -> dict[str, Any]:
    """Measure a client over `num_requests`, or for `steady_s` at full flight."""

    async def measured() -> dict[str, Any]:
        async with AsyncExitStack() as stack:
            ask = await CLIENTS[client](url, concurrency, stack)
            if steady_s:
                return await at_full_flight(ask, concurrency, steady_s, settle_s)
            return await closed_loop(ask, concurrency, num_requests)

    # The same for every client: what is compared is the client, not the interpreter it runs in.
    event_loop.tuned()
    factory = event_loop.loop_factory() if loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(measured())
