"""The verifiers side of `benchmarks.rollouts`; runs in the peers' environment (benchmarks/peers.txt).

SingleTurnEnv and Rubric as they come, with our scorer as the reward function; the transport `aiohttp` gives the OpenAI
client the one that its makers offer for concurrency, with limits that fit (they silently become 100 otherwise)."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, cast


def run(url: str, num_rollouts: int, num_in_flight: int, transport: str) -> float:
    """Rollouts/s."""
    logging.disable(logging.WARNING)
    return asyncio.run(_run(url, num_rollouts, num_in_flight, transport))


async def _run(url: str, num_rollouts: int, num_in_flight: int, transport: str) -> float:
    import verifiers as vf  # type: ignore[import-not-found]
    from datasets import Dataset
    from verifiers.legacy.clients.openai_chat_completions_client import (  # type: ignore[import-not-found]
        OpenAIChatCompletionsClient,
    )
    from verifiers.types import ClientConfig  # type: ignore[import-not-found]

    from pipeline.config.rollout import RewardSection
    from pipeline.rewards.scorers import make_scorer
    from pipeline.types import Label

    score = make_scorer("math", RewardSection())

    def reward(completion: Any, answer: str, **_: Any) -> float:
        message = completion[-1]
        text = message["content"] if isinstance(message, dict) else message.content
        return float(score(text, Label(problem_id="", answer=answer)).correct)

    rows = [{"question": "What is 12 + 35?", "answer": "47"}] * num_rollouts
    env = vf.SingleTurnEnv(
        dataset=Dataset.from_list(rows), rubric=vf.Rubric(funcs=[reward]), system_prompt="You solve problems."
    )
    client: Any = ClientConfig(
        client_type="openai_chat_completions",
        api_base_url=f"{url}/v1",
        api_key_var="NONE",
        max_connections=num_in_flight,
        max_keepalive_connections=num_in_flight,
    )
    if transport == "aiohttp":
        import httpx
        from openai import AsyncOpenAI, DefaultAioHttpClient

        limits = httpx.Limits(max_connections=num_in_flight, max_keepalive_connections=num_in_flight)
        http_client: Any = DefaultAioHttpClient(limits=cast("Any", limits), timeout=600)
        openai = AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, http_client=http_client)
        client = OpenAIChatCompletionsClient(openai)
    inputs = env.get_dataset(n=num_rollouts)
    sampling = {"max_tokens": 64, "temperature": 1.0, "logprobs": True, "extra_body": {"return_token_ids": True}}
    begin_s = time.perf_counter()
    found = await env.generate(inputs, client, "policy", sampling, max_concurrent=num_in_flight)
    seconds = time.perf_counter() - begin_s
    if transport == "aiohttp":
        await openai.close()
    outputs = found["outputs"]
    num_correct = sum(output["reward"] == 1.0 for output in outputs)
    if num_correct != num_rollouts:
        raise RuntimeError(f"{num_correct} of {num_rollouts} rollouts were scored 1.0: {str(outputs[0])[:2000]}")
    return num_rollouts / seconds
