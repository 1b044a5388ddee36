"""All-wrong scratch groups are sampled again under a context: what the slot takes, what is counted, and what a crash in
between changes (nothing)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import EndpointError
from pipeline.loop.rescue_budget import RescueBudget
from pipeline.loop.rollouts import GroupSampler
from pipeline.run.metrics_log import read_metrics
from pipeline.types import RolloutGroup
from tests.integration.conftest import StartMock
from tests.integration.test_scheduler import EVERY_SLOT, outcomes, slots
from tests.integration.wired_loop import SETTINGS, Loop, make_loop

# A quarter of the groups is all wrong.
ROLLOUT = {**SETTINGS["rollout"], "group_size": 2}
KINDS = {"reflect": "rescue_intra", "lesson": "rescue_inter"}


def feedback(mode: str, **more: Any) -> dict[str, Any]:
    return {"ratio": 0.0, "similarity_threshold": 0.3, "rescue": mode, **more}


async def whole_run(tmp_path: Path, start_mock: StartMock, **sections: Any) -> tuple[Loop, list[RolloutGroup], Any]:
    async with make_loop(tmp_path, start_mock, **{"rollout": ROLLOUT, **sections}) as loop:
        await loop.bring_servers_to(99)
        scheduler = loop.scheduler()
        await scheduler.run(0)
        return loop, loop.groups(6), scheduler


@pytest.mark.parametrize("mode", KINDS)
async def test_the_slot_takes_the_rescue_where_it_has_a_success_else_the_scratch_group(
    tmp_path: Path, start_mock: StartMock, mode: str
) -> None:
    loop, groups, scheduler = await whole_run(tmp_path, start_mock, feedback=feedback(mode))
    assert slots(groups) == EVERY_SLOT, "each slot once"
    rescued = [group for group in groups if group.rescued is not None]
    tried = [group for group in groups if group.tried_rescue]
    assert 0 < len(rescued) <= len(tried)
    for group in groups:
        assert group.context.drawn == "scratch"
        assert group.context.kind == (KINDS[mode] if group.rescued else "scratch")
    assert all(group.has_success and group.tried_rescue for group in rescued)
    assert all(group.rescued and group.rescued.rewards == (0.0, 0.0) for group in rescued)
    assert all(group.all_wrong for group in tried if group.rescued is None)
    if mode == "reflect":
        assert {group.tried_rescue for group in groups if group.all_wrong} <= {True}
        attempts = [group.context.attempt for group in rescued]
        assert all(attempt and (attempt.rollout_id, attempt.policy_step) == ("", 99) for attempt in attempts)
    else:
        assert all(group.context.lesson_ids for group in rescued)
    assert scheduler.outcomes["rescued"] == len(rescued)
    assert scheduler.outcomes["rescue_failed"] == len(tried) - len(rescued)
    assert scheduler.totals.as_dict()["rescues"] == {"tried": len(tried), KINDS[mode]: len(rescued)}
    assert loop.endpoints.usage.total("requests", "rescue") == len(tried), "its tokens have a line of their own"
    assert loop.endpoints.usage.total("completion_tokens", "rescue") > 0
    assert loop.clock.seconds["rescue"] > 0
    steps = [line for line in read_metrics(loop.run.metrics_file)[0] if line["event"] == "step"]
    assert sum(line["num_rescues_tried"] for line in steps) == len(tried)
    assert sum(line[f"num_{KINDS[mode]}"] for line in steps) == len(rescued)
    assert sum(line["num_intra"] + line["num_inter"] for line in steps) == 0


async def test_a_step_has_so_many_rescues_for_its_lowest_slots(tmp_path: Path, start_mock: StartMock) -> None:
    _, groups, _ = await whole_run(tmp_path, start_mock, feedback=feedback("reflect", max_rescues_per_step=1))
    for step in range(6):
        of_step = [group for group in groups if group.step == step]
        in_need = [group.slot for group in of_step if group.all_wrong or group.rescued]
        assert [group.slot for group in of_step if group.tried_rescue] == in_need[:1]
    assert any(group.all_wrong and not group.tried_rescue for group in groups)


async def test_a_slot_is_rescued_once_and_refilled_where_that_taught_nothing(
    tmp_path: Path, start_mock: StartMock
) -> None:
    refill = {**ROLLOUT, "refill_zero_variance": True}
    loop, groups, scheduler = await whole_run(tmp_path, start_mock, feedback=feedback("reflect"), rollout=refill)
    assert slots(groups) == EVERY_SLOT
    ends = [line for line in outcomes(loop) if line["kind"] in ("rescued", "rescue_failed")]
    tried = [(group.step, group.slot) for group in groups if group.tried_rescue]
    assert sorted((line["step"], line["slot"]) for line in ends) == tried
    assert scheduler.outcomes["zero_variance"] > 0
    assert any(group.tried_rescue and not group.rescued and group.has_success for group in groups), "refilled after it"


async def test_a_rescue_that_cannot_be_sampled_leaves_the_scratch_group(
    tmp_path: Path, start_mock: StartMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*arguments: Any) -> None:
        raise EndpointError("http_400", "the prompt is too long")

    monkeypatch.setattr(GroupSampler, "rescue", refused)
    loop, groups, _ = await whole_run(tmp_path, start_mock, feedback=feedback("reflect"))
    assert slots(groups) == EVERY_SLOT
    tried = [group for group in groups if group.tried_rescue]
    assert tried == [group for group in groups if group.all_wrong] != []
    assert [line["kind"] for line in outcomes(loop)] == ["failed"] * 3 * len(tried)


async def test_without_anything_to_show_nothing_is_sampled_again(tmp_path: Path, start_mock: StartMock) -> None:
    loop, groups, _ = await whole_run(tmp_path, start_mock, feedback=feedback("lesson"), abstraction={"enabled": False})
    num_wrong = sum(group.all_wrong for group in groups)
    assert loop.clock.counts["rescues_without_context"] == num_wrong > 0
    assert not any(group.tried_rescue for group in groups)


async def test_off_is_a_run_that_knows_no_rescues(tmp_path: Path, start_mock: StartMock) -> None:
    _, groups, scheduler = await whole_run(tmp_path, start_mock, feedback=feedback("off"))
    assert not any(group.tried_rescue or group.rescued for group in groups)
    assert any(group.all_wrong for group in groups)
    assert set(scheduler.outcomes) == {"journalled"}


def essence(groups: list[RolloutGroup]) -> list[dict[str, Any]]:
    return [group.model_dump(exclude={"created_s", "pool_version"}) for group in groups]


@pytest.mark.parametrize(
    ("owner", "method", "when"),
    [
        (GroupSampler, "rescue_context", "after"),
        (RescueBudget, "claim", "before"),
        (RescueBudget, "claim", "after"),
        (GroupSampler, "rescue", "after"),
    ],
)
@pytest.mark.parametrize("mode", KINDS)
async def test_a_crash_amid_a_rescue_changes_nothing(
    tmp_path: Path,
    start_mock: StartMock,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    owner: type,
    method: str,
    when: str,
) -> None:
    """Here the loop dies of an exception; the whole program, of SIGKILL at these points: test_crash.py."""
    sections: dict[str, Any] = {"feedback": feedback(mode, max_rescues_per_step=2), "rollout": ROLLOUT}
    _, unbroken, _ = await whole_run(tmp_path, start_mock, name="unbroken", **sections)
    function, num_calls = getattr(owner, method), 0

    async def dying(*arguments: Any) -> Any:
        nonlocal num_calls
        num_calls += 1
        is_second = num_calls == 2
        result = None if when == "before" and is_second else await function(*arguments)
        if is_second:
            raise RuntimeError("killed")
        return result

    async with make_loop(tmp_path, start_mock, name="broken", **sections) as loop:
        await loop.bring_servers_to(99)
        scheduler = loop.scheduler()
        with monkeypatch.context() as patch:
            patch.setattr(owner, method, dying)
            with pytest.raises(ExceptionGroup):
                await scheduler.run(0)
        await loop.scheduler().run(scheduler.step)
        resumed = loop.groups(6)
    assert essence(resumed) == essence(unbroken)
    assert any(group.rescued for group in resumed)
