"""What the scheduler owes each slot of a step when groups fail, hang, teach nothing, or no endpoint answers."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import EndpointError
from pipeline.loop.rollouts import GroupKey, GroupSampler
from pipeline.run.metrics_log import read_metrics
from pipeline.storage.journal import INDEXED
from pipeline.types import RolloutGroup
from servers.mock.faults import GENERATE
from tests.integration.conftest import StartMock
from tests.integration.test_faults import control
from tests.integration.wired_loop import SETTINGS, Loop, make_loop

ROLLOUT = SETTINGS["rollout"]
SCRATCH = {"ratio": 0.0}


def outcomes(loop: Loop) -> list[dict[str, Any]]:
    return [line for line in read_metrics(loop.run.metrics_file)[0] if line["event"] == "group_outcome"]


def slots(groups: list[RolloutGroup]) -> list[tuple[int, int]]:
    return [(group.step, group.slot) for group in groups]


EVERY_SLOT = [(step, slot) for step in range(6) for slot in range(4)]


async def test_a_group_without_spread_is_replaced_by_another_problem_and_the_last_one_stays(
    tmp_path: Path, start_mock: StartMock
) -> None:
    refill = {**ROLLOUT, "group_size": 2, "refill_zero_variance": True, "max_refills": 2}
    async with make_loop(tmp_path, start_mock, rollout=refill, feedback=SCRATCH) as loop:
        await loop.bring_servers_to(99)
        scheduler = loop.scheduler()
        await scheduler.run(0)
        groups, reported = loop.groups(6), outcomes(loop)
    assert slots(groups) == EVERY_SLOT, "each slot once"
    replaced = [line for line in reported if line["kind"] == "zero_variance"]
    assert len(replaced) == scheduler.outcomes["zero_variance"] > 4
    assert scheduler.outcomes["journalled"] == 24
    even = [group for group in groups if len(set(group.rewards)) == 1]
    assert len(even) < 12, "half of the groups would be even without refills"
    for group in even:
        of_slot = [line for line in replaced if (line["step"], line["slot"]) == (group.step, group.slot)]
        assert len(of_slot) == 2, "an even group stays only after all replacements"
    assert all(
        line["problem_id"]
        not in {group.problem.id for group in groups if (group.step, group.slot) == (line["step"], line["slot"])}
        for line in replaced
    )


async def test_a_problem_that_cannot_be_sampled_is_replaced_and_told_of(tmp_path: Path, start_mock: StartMock) -> None:
    async with make_loop(tmp_path, start_mock, feedback=SCRATCH) as loop:
        await loop.bring_servers_to(99)
        scheduler = loop.scheduler()
        sample, cursed = scheduler._sampler.sample, scheduler._problems.problem_at(5).problem.id

        async def sometimes(task: Any, key: GroupKey) -> RolloutGroup:
            if task.problem.id == cursed:
                raise EndpointError("http_400", "the prompt is too long")
            return await sample(task, key)

        scheduler._sampler.sample = sometimes  # type: ignore[method-assign]
        await scheduler.run(0)
        groups, reported = loop.groups(6), outcomes(loop)
    assert slots(groups) == EVERY_SLOT
    assert cursed not in {group.problem.id for group in groups}
    assert {(line["kind"], line["error_kind"], line["problem_id"]) for line in reported} == {
        ("failed", "http_400", cursed)
    }
    assert len(reported) % 3 == 0, "three attempts each time it was drawn"


async def test_nothing_waits_for_a_straggler_longer_than_its_deadline(tmp_path: Path, start_mock: StartMock) -> None:
    soon = {**ROLLOUT, "group_timeout_s": 0.5}
    async with make_loop(tmp_path, start_mock, rollout=soon, feedback=SCRATCH) as loop:
        await loop.bring_servers_to(99)
        await control(
            loop.endpoints.endpoints[0].url, "/_mock/faults", [{"route": GENERATE, "kind": "black_hole", "count": 2}]
        )
        async with asyncio.timeout(20):
            await loop.scheduler().run(0)
        assert slots(loop.groups(6)) == EVERY_SLOT
        reported = outcomes(loop)
    assert [line["kind"] for line in reported] == ["deadline", "deadline"]
    assert all("not sampled within 0.5 s" in line["detail"] for line in reported)


async def test_a_straggler_does_not_hold_up_the_next_step_when_staleness_allows_it(
    tmp_path: Path, start_mock: StartMock
) -> None:
    async with make_loop(tmp_path, start_mock, rollout={**ROLLOUT, "max_staleness": 1}, feedback=SCRATCH) as loop:
        await loop.bring_servers_to(99)
        scheduler, gate = loop.scheduler(), asyncio.Event()
        sample = scheduler._sampler.sample

        async def gated(task: Any, key: GroupKey) -> RolloutGroup:
            if (key.step, key.slot) == (0, 1):
                await gate.wait()
            return await sample(task, key)

        scheduler._sampler.sample = gated  # type: ignore[method-assign]
        running = asyncio.create_task(scheduler.run(0))
        while len(slots(loop.groups(2))) < 7:  # noqa: ASYNC110 - the journal is the evidence
            await asyncio.sleep(0.02)
        assert (0, 1) not in slots(loop.groups(2)), "step 1 is complete before step 0 is"
        assert not loop.groups(3)[7:], "step 2 waits for the lessons of step 0"
        gate.set()
        await running
        assert slots(loop.groups(6)) == EVERY_SLOT


@pytest.mark.parametrize("all_unavailable", [True, False])
async def test_an_outage_is_not_held_against_problems(
    tmp_path: Path, start_mock: StartMock, monkeypatch: pytest.MonkeyPatch, all_unavailable: bool
) -> None:
    strict = {**ROLLOUT, "max_group_attempts": 1, "max_failed_groups": 1}
    async with make_loop(tmp_path, start_mock, rollout=strict, feedback=SCRATCH) as loop:
        await loop.bring_servers_to(99)
        scheduler, num_refused = loop.scheduler(), 0
        sample = scheduler._sampler.sample
        monkeypatch.setattr(GroupSampler, "all_unavailable", all_unavailable)

        async def refused_at_first(task: Any, key: GroupKey) -> RolloutGroup:
            nonlocal num_refused
            if num_refused < 10:
                num_refused += 1
                raise EndpointError("refused", "nobody listens there")
            return await sample(task, key)

        scheduler._sampler.sample = refused_at_first  # type: ignore[method-assign]
        if all_unavailable:
            await scheduler.run(0)
            assert slots(loop.groups(6)) == EVERY_SLOT
            assert scheduler.outcomes["failed"] == 10
        else:
            with pytest.raises(ExceptionGroup) as caught:
                await scheduler.run(0)
            assert caught.group_contains(EndpointError, match="1 problems in a row could not be sampled")


async def test_an_evaluation_runs_beside_the_rollouts(tmp_path: Path, start_mock: StartMock) -> None:
    async with make_loop(tmp_path, start_mock, feedback=SCRATCH) as loop:
        await loop.bring_servers_to(99)
        scheduler, seen, finish = loop.scheduler(), [], asyncio.Event()

        async def evaluate(step: int) -> None:
            if step == 1:
                await finish.wait()
            seen.append(step)

        scheduler._evaluate = evaluate
        running = asyncio.create_task(scheduler.run(0))
        while len(loop.groups(6)) < 24:  # noqa: ASYNC110 - the journal is the evidence
            await asyncio.sleep(0.02)
        assert 5 in seen, "later steps did not wait for the evaluation at step 1"
        assert 1 not in seen
        assert not running.done(), "but the run does"
        finish.set()
        await running


async def test_at_most_so_many_groups_are_in_flight_and_earlier_steps_go_first(
    tmp_path: Path, start_mock: StartMock
) -> None:
    narrow = {**ROLLOUT, "max_groups_in_flight": 3, "max_staleness": 5}
    async with make_loop(tmp_path, start_mock, rollout=narrow, feedback=SCRATCH) as loop:
        await loop.bring_servers_to(99)
        scheduler, order, most = loop.scheduler(), [], 0
        sample = scheduler._sampler.sample

        async def watched(task: Any, key: GroupKey) -> RolloutGroup:
            nonlocal most
            most = max(most, scheduler.num_groups_in_flight)
            order.append(key.order)
            return await sample(task, key)

        scheduler._sampler.sample = watched  # type: ignore[method-assign]
        await scheduler.run(0)
    assert most == 3
    assert order == sorted(order) == list(range(24))


async def test_a_full_disk_ends_the_run_and_what_was_acknowledged_stays(
    tmp_path: Path, start_mock: StartMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.errors import DiskError

    async with make_loop(tmp_path, start_mock, feedback=SCRATCH) as loop:
        await loop.bring_servers_to(99)
        append, num = loop.journal.append, 0

        def full_after_two(groups: list[RolloutGroup]) -> None:
            nonlocal num
            num += 1
            if num > 2:
                raise DiskError("no space left")
            append(groups)

        monkeypatch.setattr(loop.journal, "append", full_after_two)
        with pytest.raises(ExceptionGroup) as caught:
            await loop.scheduler().run(0)
        assert caught.group_contains(DiskError)
        assert 0 < len(loop.groups(6)) < 24


async def test_the_journal_is_compacted_between_commits_and_reads_the_same(
    tmp_path: Path, start_mock: StartMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.loop.writers.MAINTAIN_JOURNAL_EVERY", 2)
    async with make_loop(tmp_path, start_mock, feedback=SCRATCH) as loop:
        await loop.bring_servers_to(99)
        await loop.scheduler().run(0)
        groups = loop.groups(6)
        assert slots(groups) == EVERY_SLOT
        assert loop.journal.num_groups() == 24
        indexed = {column for index in loop.journal._table.list_indices() for column in index.columns}
        assert indexed == set(INDEXED)
        attempt = loop.journal.attempt(groups[0].problem.id, loop.run.lineages(), random.Random(0))
    assert attempt and attempt.rollout_id in {rollout.id for group in groups for rollout in group.rollouts}


def test_every_attempt_draws_anew_and_every_place_the_same(tmp_path: Path) -> None:
    from pipeline.run.lineage import Lineage
    from tests.builders import version

    lineages = [Lineage(number=0, start_step=0), Lineage(number=1, start_step=4)]
    key = GroupKey(lineages, 7, 2, 0, 1, oldest_step=5, order=30)
    assert key.group_id == "l1-000007-0002"
    assert key.draw(3) == (3, 7, 2, 0)
    assert key.accepts(version(5, lineage=1))
    assert not key.accepts(version(4, lineage=1)), "too old for the bound"
    assert not key.accepts(version(6, lineage=0)), "of an abandoned lineage"
    early = GroupKey(lineages, 4, 0, 0, 1, oldest_step=3, order=16)
    assert early.accepts(version(4, lineage=0)), "the checkpoint's own weights still count"
