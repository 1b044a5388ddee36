"""Pairs in the loop: G rollouts of a problem alone and G in a context, sampled, replaced and journalled as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from pipeline.errors import EndpointError, ProcessEndedError
from pipeline.experience.contexts import messages_in
from pipeline.inference.client import InferenceClient
from pipeline.loop.learner_link import LearnerLink, LearnerStatus
from pipeline.loop.rollouts import GroupKey
from pipeline.types import Context, RolloutGroup
from tests.integration.conftest import StartMock
from tests.integration.test_loop import loop_has_sampled
from tests.integration.test_scheduler import EVERY_SLOT, outcomes, slots
from tests.integration.wired_loop import SETTINGS, LiveChild, make_loop
from tests.unit.trainer.groups import with_rewards

PAIRED = {**SETTINGS["rollout"], "paired_groups": True}
ALWAYS = {"ratio": 1.0, "similarity_threshold": 0.0}


def pairs_of(groups: list[RolloutGroup]) -> list[tuple[RolloutGroup, RolloutGroup]]:
    return list(zip(groups[::2], groups[1::2], strict=True))


def assert_pairs(groups: list[RolloutGroup]) -> None:
    assert slots(groups) == EVERY_SLOT, "each slot once"
    for alone, in_context in pairs_of(groups):
        assert alone.pair == in_context.pair == alone.slot == in_context.slot - 1
        assert alone.problem == in_context.problem
        assert alone.context.drawn == alone.context.kind == "scratch"
        assert alone.versions == in_context.versions, "with S = 0 by the same weights"


async def test_each_problem_is_sampled_alone_and_in_a_context(tmp_path: Path, start_mock: StartMock) -> None:
    async with make_loop(tmp_path, start_mock, rollout=PAIRED, feedback=ALWAYS) as loop:
        for step in range(6):
            await loop.bring_servers_to(step)
        scheduler = loop.scheduler()
        await scheduler.run(0)
        groups = loop.groups(6)
    assert_pairs(groups)
    assert scheduler.outcomes["journalled"] == 24
    assert len({group.problem.id for group in groups}) == 12
    kinds = {in_context.context.kind for _, in_context in pairs_of(groups)}
    assert kinds == {"scratch", "inter", "intra"}, "scratch where nothing was found"
    assert all(in_context.context.drawn != "scratch" for _, in_context in pairs_of(groups))
    assert all(
        {rollout.token_ids for rollout in alone.rollouts} != {rollout.token_ids for rollout in in_context.rollouts}
        for alone, in_context in pairs_of(groups)
    ), "each half has draws of its own"


async def test_a_resumed_run_has_the_same_pairs_and_no_half_of_one(tmp_path: Path, start_mock: StartMock) -> None:
    async with make_loop(tmp_path, start_mock, name="unbroken", rollout=PAIRED, feedback=ALWAYS) as loop:
        await loop.bring_servers_to(99)
        await loop.scheduler().run(0)
        unbroken = loop.groups(6)
    async with make_loop(tmp_path, start_mock, name="broken", rollout=PAIRED, feedback=ALWAYS) as loop:
        await loop.bring_servers_to(99)
        append, num = loop.journal.append, 0

        def dies_in_step_1(groups: list[RolloutGroup]) -> None:
            nonlocal num
            num += len(groups)
            assert num % 2 == 0, "the rows of a pair share a commit"
            if num > 6:
                raise ProcessEndedError("killed")
            append(groups)

        loop.journal.append = dies_in_step_1  # type: ignore[method-assign]
        with pytest.raises(ExceptionGroup):
            await loop.scheduler().run(0)
        loop.journal.append = append  # type: ignore[method-assign]
        assert len(loop.groups(6)) in (4, 6), "whole pairs"

        class GoneAtTwo(LearnerLink):
            async def wait_for_step(self, step: int, lineage: int) -> LearnerStatus:
                if step == 2:
                    await loop_has_sampled(loop, 1)
                    raise ProcessEndedError("the learner is gone")
                return await super().wait_for_step(step, lineage)

        with pytest.raises(ExceptionGroup):
            await loop.scheduler(link=GoneAtTwo(loop.run, cast("Any", LiveChild()))).run(1)
        await loop.scheduler().run(1)
        resumed = loop.groups(6)

    def essence(groups: list[RolloutGroup]) -> list[dict[str, Any]]:
        return [group.model_dump(exclude={"created_s", "pool_version"}) for group in groups]

    assert_pairs(resumed)
    assert essence(resumed) == essence(unbroken)


async def test_a_pair_is_replaced_where_all_its_rewards_are_equal(tmp_path: Path, start_mock: StartMock) -> None:
    refill = {**PAIRED, "refill_zero_variance": True, "max_refills": 2}
    async with make_loop(tmp_path, start_mock, rollout=refill, feedback=ALWAYS) as loop:
        await loop.bring_servers_to(99)
        scheduler = loop.scheduler()
        sample = scheduler._sampler.sample

        async def graded(task: Any, key: GroupKey) -> RolloutGroup:
            """Slots 0 and 1: equal at first. Slots 2 and 3: each half even, and unlike the other."""
            equal = float(key.slot == 3) if key.slot > 1 else 0.0 if key.turn == 0 else None
            group = await sample(task, key)
            return with_rewards(group, range(4) if equal is None else [equal] * 4)

        scheduler._sampler.sample = graded  # type: ignore[method-assign]
        await scheduler.run(0)
        groups, reported = loop.groups(6), outcomes(loop)
    assert_pairs(groups)
    replaced = [(line["step"], line["slot"], line["kind"]) for line in reported]
    assert sorted(replaced) == [(step, 0, "zero_variance") for step in range(6)], "once a pair"
    for step, slot, _ in replaced:
        lost = next(line["problem_id"] for line in reported if (line["step"], line["slot"]) == (step, slot))
        assert lost != groups[4 * step].problem.id, "both halves are of another problem"


async def test_a_pair_of_which_a_half_fails_is_sampled_anew(tmp_path: Path, start_mock: StartMock) -> None:
    narrow = {**PAIRED, "max_groups_in_flight": 2}
    async with make_loop(tmp_path, start_mock, rollout=narrow, feedback=ALWAYS) as loop:
        await loop.bring_servers_to(99)
        scheduler, failed = loop.scheduler(), list[GroupKey]()
        sample = scheduler._sampler.sample

        async def fails_once(task: Any, key: GroupKey) -> RolloutGroup:
            if key.slot % 2 and not failed:
                failed.append(key)
                raise EndpointError("http_500", "a half is lost")
            return await sample(task, key)

        scheduler._sampler.sample = fails_once  # type: ignore[method-assign]
        await scheduler.run(0)
        groups = loop.groups(6)
        assert scheduler.num_groups_in_flight == 0
        assert [line["error_kind"] for line in outcomes(loop)] == ["http_500"]
    assert_pairs(groups)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("token_route", [True, False])
async def test_a_group_in_a_context_has_the_ids_of_the_problem_alone_where_it_is_trained_so(
    tmp_path: Path, start_mock: StartMock, monkeypatch: pytest.MonkeyPatch, paired: bool, token_route: bool
) -> None:
    monkeypatch.setattr(InferenceClient, "has_token_route", property(lambda self: token_route))
    sections: dict[str, Any] = {
        "rollout": {**PAIRED, "paired_groups": paired},
        "feedback": {**ALWAYS, "intra_share": 1.0},
    }
    async with make_loop(tmp_path, start_mock, **sections, learner={"num_steps": 6, "train_under": "scratch"}) as loop:
        await loop.bring_servers_to(99)
        await loop.scheduler().run(0)
        groups = loop.groups(6)
        for group in groups:
            if group.context.kind == "scratch":
                assert group.bare_prompt_ids == ()
            else:
                alone = messages_in(group.problem, Context(), loop.config)
                assert group.bare_prompt_ids == await loop.endpoints.render(alone) != group.prompt_ids
    assert sum(bool(group.bare_prompt_ids) for group in groups) == (12 if paired else 24)
