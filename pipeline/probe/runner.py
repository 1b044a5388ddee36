"""Measures the skills, problem by problem, and hands each problem's answers on as soon as they are there.

Invariants: skills take turns, so that what is cut short has about as many problems of each; a problem whose answers
could not all be had is counted as a failure and noted in no table.

| waits | for | woken by |
|---|---|---|
| a worker | the replies to a problem's prompts | requests |
| `measure` | all workers | the last of them |
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from itertools import chain, zip_longest

from pipeline.errors import EndpointError
from pipeline.evaluation.requests import Stopped
from pipeline.probe.grounds import Ground, Operators
from pipeline.probe.policy import Policy
from pipeline.probe.skills import Amount, Answer, follow, ignore, inspect, summarise

Measured = Callable[[], Awaitable[list[Answer]]]
"""All that is measured of one skill at one problem. Raises EndpointError, Stopped."""


def measures(
    policy: Policy, operators: Operators | None, grounds: Sequence[Ground], max_tokens: int, *, brief: bool = False
) -> list[Measured]:
    """What there is to measure, skills in turn: on `operators` what only a lesson can help with, on each of `grounds`
    the rest."""
    found: list[list[Measured]] = []
    if operators is not None:
        amount = Amount(max_tokens, brief)
        numbers = range(len(operators.tasks))
        found += [[partial(skill, policy, operators, number, amount) for number in numbers] for skill in ON_OPERATORS]
    for ground in grounds:
        amount = Amount(ground.benchmark.max_tokens, brief)
        numbers = range(len(ground.benchmark.tasks))
        found += [[partial(skill, policy, ground, number, amount) for number in numbers] for skill in ON_GROUNDS]
    in_turn = chain.from_iterable(zip_longest(*found))
    return [one for one in in_turn if one is not None]


ON_OPERATORS = (follow, summarise)
ON_GROUNDS = (ignore, inspect)


async def measure(
    measured: Sequence[Measured],
    num_workers: int,
    note: Callable[[Sequence[Answer]], None],
    failed: Callable[[EndpointError], None],
    is_over: Callable[[], bool] = lambda: False,
) -> None:
    """Take all measures, `num_workers` at a time, until `is_over`. `note` gets the answers of each, `failed` why there
    are none."""

    async def work(left: Iterator[Measured]) -> None:
        for one in left:
            if is_over():
                return
            try:
                note(await one())
            except Stopped:
                return
            except EndpointError as error:
                failed(error)

    left = iter(measured)
    async with asyncio.TaskGroup() as workers:
        for _ in range(min(num_workers, len(measured))):
            workers.create_task(work(left))
