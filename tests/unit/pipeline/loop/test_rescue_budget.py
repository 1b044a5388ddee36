"""Who of a step may sample a group again does not depend on who ends first, nor on a resume."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.loop.rescue_budget import RescueBudget

NUM_SLOTS = 6


async def decided(budget: RescueBudget, order: list[int], asking: set[int]) -> set[int]:
    """The slots that have a rescue, where slots end in this `order` and those `asking` want one."""
    claims = {}
    for slot in order:
        if slot in asking:
            claims[slot] = asyncio.create_task(budget.claim(slot))
        else:
            budget.settle(slot)
        await asyncio.sleep(0)
    return {slot for slot, claim in claims.items() if await asyncio.wait_for(claim, 60)}


@given(st.sets(st.integers(0, NUM_SLOTS - 1)), st.one_of(st.none(), st.integers(1, 7)), st.integers(0, 10**6))
def test_the_lowest_slots_have_the_rescues_in_whatever_order_they_end(
    asking: set[int], most: int | None, seed: int
) -> None:
    order = random.Random(seed).sample(range(NUM_SLOTS), NUM_SLOTS)
    budget = RescueBudget(NUM_SLOTS, most)
    expected = set(sorted(asking)[: NUM_SLOTS if most is None else most])
    assert asyncio.run(decided(budget, order, asking)) == expected
    assert {slot for slot in range(NUM_SLOTS) if budget.has_used(slot)} == expected
    assert not any(map(budget.may_ask, range(NUM_SLOTS))), "each slot asks once"


@given(st.sets(st.integers(0, NUM_SLOTS - 1)), st.integers(1, 4), st.sets(st.integers(0, NUM_SLOTS - 1)))
def test_a_resumed_step_decides_as_an_unbroken_one(asking: set[int], most: int, kept: set[int]) -> None:
    expected = set(sorted(asking)[:most])
    resumed = RescueBudget(NUM_SLOTS, most, used=kept & expected, done=kept)
    left = [slot for slot in range(NUM_SLOTS) if slot not in kept]
    assert asyncio.run(decided(resumed, left, asking - kept)) == expected - kept


async def test_nobody_waits_who_need_not() -> None:
    budget = RescueBudget(NUM_SLOTS, 2)
    assert await budget.claim(1), "of the slots below only one is open"
    waiting = asyncio.create_task(budget.claim(4))
    await asyncio.sleep(0)
    assert not waiting.done(), "slots 0, 2 and 3 may take the second one"
    budget.settle(0)
    budget.settle(2)
    assert await budget.claim(3)
    assert not await waiting


@pytest.mark.parametrize("most", [None, NUM_SLOTS])
async def test_without_a_bound_nobody_waits(most: int | None) -> None:
    budget = RescueBudget(NUM_SLOTS, most)
    assert await budget.claim(NUM_SLOTS - 1)
