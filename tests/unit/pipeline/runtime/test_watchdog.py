"""What waits too long is reported, with one alert for one cause; a limit behaves as asyncio.timeout does."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.runtime.watchdog import QUIET_S, Stuck, StuckAlerts, Watchdog


async def test_what_is_quick_passes_and_leaves_nothing() -> None:
    watchdog = Watchdog()
    with watchdog.limit(10.0):
        await asyncio.sleep(0)
    assert not watchdog._open


async def test_what_takes_too_long_times_out_and_the_task_goes_on() -> None:
    watchdog = Watchdog()
    for _ in range(2):
        with pytest.raises(TimeoutError), watchdog.limit(0.0):
            await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_of_many_blocks_only_the_late_ones_end() -> None:
    watchdog = Watchdog()

    async def wait(seconds: float) -> str:
        try:
            with watchdog.limit(seconds):
                await asyncio.Event().wait()
        except TimeoutError:
            return "late"
        raise AssertionError

    late = [asyncio.ensure_future(wait(0.0)) for _ in range(20)]
    patient = [asyncio.ensure_future(wait(100.0)) for _ in range(20)]
    assert await asyncio.gather(*late) == ["late"] * 20
    assert not any(task.done() for task in patient)
    for task in patient:
        task.cancel()
    assert all(isinstance(r, asyncio.CancelledError) for r in await asyncio.gather(*patient, return_exceptions=True))


async def test_a_cancellation_from_elsewhere_stays_a_cancellation() -> None:
    watchdog, begun = Watchdog(), asyncio.Event()

    async def work() -> None:
        with watchdog.limit(0.0):
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()  # a second reason to end, beside the deadline

    with pytest.raises(asyncio.CancelledError):
        await asyncio.ensure_future(work())


async def test_an_error_of_the_block_passes_through() -> None:
    with pytest.raises(ValueError, match="inside"), Watchdog().limit(5.0):
        raise ValueError("inside")


async def test_what_waits_too_long_is_named_once_and_not_ended() -> None:
    reported: list[Stuck] = []
    watchdog = Watchdog(reported.append, stuck_after_s=5.0)
    now_s = asyncio.get_running_loop().time()
    with watchdog.watch(60.0, "group", 7), watchdog.watch(4.0, "request", "a"):
        watchdog.check(now_s + 1.0)
        assert reported == []
        watchdog.check(now_s + 3.0)
        assert [stuck.what for stuck in reported] == ["request a"], "half of its deadline of 4 s"
        watchdog.check(now_s + 6.0)
        watchdog.check(now_s + 100.0)
        assert [stuck.what for stuck in reported] == ["request a", "group 7"]
        assert watchdog.num_stuck == 2
    assert watchdog.num_stuck == 0
    assert "stuck for 3.0 s (deadline 4 s): request a" in str(reported[0])


def test_of_a_kind_the_first_is_reported_and_the_others_are_counted() -> None:
    alerts: list[str] = []
    now_s = 0.0
    on_stuck = StuckAlerts(alerts.append, lambda: now_s)
    for number in range(300):
        on_stuck(Stuck(f"request {number}", 75.0, 150.0))
    on_stuck(Stuck("commit 7", 30.0, 60.0))
    assert len(alerts) == 2, "a commit is another kind than a request"
    assert "request 0" in alerts[0] and "commit 7" in alerts[1]
    now_s = QUIET_S
    on_stuck(Stuck("request 300", 75.0, 150.0))
    assert "request 300" in alerts[2] and "and 299 more" in alerts[2]
    now_s = 2 * QUIET_S
    on_stuck(Stuck("request 301", 75.0, 150.0))
    assert "more" not in alerts[3], "what was reported is not reported again"
