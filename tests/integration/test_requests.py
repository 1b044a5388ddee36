"""What the pool does with requests when endpoints answer: hedges, order, homes, bounds, usage, streams."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.config.endpoints import RequestsSection
from pipeline.config.rollout import SamplingSection
from pipeline.types import Message
from tests.integration.conftest import StartMock
from tests.integration.test_faults import QUICK, generate, pool_over


async def test_the_first_answer_of_a_hedge_counts_and_the_other_attempt_is_dropped(start_mock: StartMock) -> None:
    slow, fast = await start_mock(latency_s=30.0), await start_mock()
    settings = QUICK.model_copy(update={"hedge_after_s": 0.05, "attempt_timeout_s": 20.0, "affinity": False})
    async with pool_over(slow, fast, requests=settings) as pool:
        answers = await asyncio.gather(*(generate(pool) for _ in range(6)))
        assert len(answers) == 6
        assert pool.usage.total("hedges") >= 1
        assert all(endpoint.num_in_flight == 0 for endpoint in pool.endpoints)


async def test_a_hedged_request_that_is_cancelled_at_once_leaves_no_place_taken(start_mock: StartMock) -> None:
    settings = QUICK.model_copy(update={"hedge_after_s": 0.05})
    async with pool_over(await start_mock(), await start_mock(), requests=settings) as pool:
        asking = asyncio.ensure_future(generate(pool))
        await asyncio.sleep(0)  # it has its place, and the attempt has not had its first turn
        assert sum(endpoint.num_in_flight for endpoint in pool.endpoints) == 1
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await asyncio.sleep(0)
        assert sum(endpoint.num_in_flight for endpoint in pool.endpoints) == 0


async def test_a_group_that_began_goes_before_a_later_one(start_mock: StartMock) -> None:
    one = (await start_mock(latency_s=0.02)).model_copy(update={"max_concurrency": 1})
    async with pool_over(one) as pool:
        order: list[int] = []

        async def ask(priority: int) -> None:
            await pool.generate((5,), SamplingSection(), 1, max_tokens=4, seed=0, stage="rollout", priority=priority)
            order.append(priority)

        first = asyncio.create_task(ask(99))  # it has the place when the others come
        await asyncio.sleep(0)
        await asyncio.gather(first, *(ask(priority) for priority in (5, 3, 4, 1, 2)))
    assert order == [99, 1, 2, 3, 4, 5]


async def test_prompts_of_one_problem_go_home_to_one_endpoint_while_it_is_not_busier(start_mock: StartMock) -> None:
    async with pool_over(await start_mock(), await start_mock(), await start_mock()) as pool:

        async def ask(problem: str) -> None:
            await pool.generate((5,), SamplingSection(), 1, max_tokens=4, seed=0, stage="rollout", affinity=problem)

        for _ in range(6):
            await ask("problem 1")
        assert sorted(tally.num_requests for tally in pool.usage.tallies.values() if tally.num_requests) == [6]
        await asyncio.gather(*(ask("problem 1") for _ in range(90)))
        assert len([tally for tally in pool.usage.tallies.values() if tally.num_requests > 10]) == 3, "not at any price"


async def test_the_bound_follows_what_the_endpoint_can_take(start_mock: StartMock) -> None:
    strict = (await start_mock(latency_s=0.01, max_concurrency=4)).model_copy(update={"max_concurrency": 32})
    async with pool_over(
        strict, requests=QUICK.model_copy(update={"max_attempts": 30, "attempt_timeout_s": 5.0})
    ) as pool:
        await asyncio.gather(*(generate(pool) for _ in range(200)))
        (endpoint,) = pool.endpoints
        assert 1 <= endpoint.limit.value < 16
        assert endpoint.available, "to be busy is not to be broken"


async def test_usage_and_cost_are_counted_by_endpoint_and_stage(start_mock: StartMock) -> None:
    priced = (await start_mock()).model_copy(update={"prompt_price": 1.0, "completion_price": 4.0})
    async with pool_over(priced, await start_mock(), requests=QUICK.model_copy(update={"affinity": False})) as pool:
        await asyncio.gather(*(generate(pool) for _ in range(10)))
        url = pool.endpoints[0].url
        assert pool.usage.total("requests", endpoint=url) == pool.usage.total("requests") / 2
        num_prompt, num_completion = (
            pool.usage.total(f"{kind}_tokens", "rollout", url) for kind in ("prompt", "completion")
        )
        assert num_completion > num_prompt > 0
        assert pool.usage.cost() == pytest.approx((num_prompt + 4 * num_completion) / 1e6)
        assert pool.usage.cost("eval") == 0


async def test_a_streamed_answer_tells_when_its_first_token_came(start_mock: StartMock) -> None:
    message = (Message(role="user", content="What is 12 + 35 ="),)
    async with pool_over(await start_mock(s_per_token=0.002), requests=RequestsSection()) as pool:
        kinds = {"max_tokens": 64, "temperature": 0.0, "stage": "eval"}
        streamed = await pool.chat(message, stream=True, **kinds)  # type: ignore[arg-type]
        whole = await pool.chat(message, **kinds)  # type: ignore[arg-type]
    assert streamed.text == whole.text
    assert streamed.num_completion_tokens == whole.num_completion_tokens > 0
    assert streamed.time_to_first_token_s is not None
    assert 0 < streamed.time_to_first_token_s < 0.002 * streamed.num_completion_tokens
