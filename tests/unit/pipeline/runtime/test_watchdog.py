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


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def lasting(watchdog: Watchdog, clock: Clock, seconds: list[float], deadline_s: float, *what: object) -> None:
    """Waits that come to an end after so long each, looked at every 10 s."""
    for duration_s in seconds:
        end_s = clock.now_s + duration_s
        with watchdog.watch(deadline_s, *what):
            while clock.now_s < end_s:
                clock.now_s = min(end_s, clock.now_s + 10.0)
                watchdog.check(clock.now_s)


async def test_what_reaches_its_deadline_is_named_once_and_not_ended() -> None:
    reported: list[Stuck] = []
    clock = Clock()
    watchdog = Watchdog(reported.append, stuck_after_s=5.0, clock=clock)
    with watchdog.watch(60.0, "group", 7), watchdog.watch(4.0, "request", "a"):
        watchdog.check(clock.now_s + 3.9)
        assert reported == [], "nothing is known of how long they take"
        watchdog.check(clock.now_s + 4.0)
        assert [stuck.what for stuck in reported] == ["request a"]
        watchdog.check(clock.now_s + 59.0)
        assert len(reported) == 1
        watchdog.check(clock.now_s + 60.1)
        watchdog.check(clock.now_s + 100.0)
        assert [stuck.what for stuck in reported] == ["request a", "group 7"]
        assert watchdog.num_stuck == 2
    assert watchdog.num_stuck == 0
    assert "stuck for 4.0 s (deadline 4 s): request a" in str(reported[0])


@pytest.mark.parametrize(
    ("before", "then_s", "named_after_s"),
    [
        pytest.param([20.0, 150.0, 160.0, 140.0] * 4, 170.0, None, id="slow as ever"),
        pytest.param([300.0] * 5, 500.0, None, id="slower, within its history"),
        pytest.param([60.0] * 5, 300.0, 180.0, id="three times the longest"),
        pytest.param([10.0] * 5, 110.0, None, id="less than stuck_after_s"),
        pytest.param([10.0] * 5, 130.0, 120.0, id="stuck_after_s"),
        pytest.param([], 1700.0, None, id="the first"),
        pytest.param([60.0, 0.0, 0.0, 0.0], 400.0, None, id="what is there at once is no history"),
        pytest.param([1000.0] * 3, 1900.0, 1800.0, id="its deadline"),
        pytest.param([2000.0] * 4, 5000.0, None, id="all outlast a deadline that ends nothing"),
        pytest.param([2000.0] * 4, 6100.0, 6000.0, id="three times as long as those"),
        pytest.param([900.0, *[20.0] * 32], 130.0, 120.0, id="history is forgotten"),
    ],
)
async def test_slow_against_its_own_history_is_named_and_merely_slow_is_not(
    before: list[float], then_s: float, named_after_s: float | None
) -> None:
    reported: list[Stuck] = []
    clock = Clock()
    watchdog = Watchdog(reported.append, clock=clock)
    lasting(watchdog, clock, before, 1800.0, "weights of", 7, "updates")
    lasting(watchdog, clock, [5.0] * 5, 1800.0, "another kind")
    reported.clear()
    lasting(watchdog, clock, [then_s], 1800.0, "weights of", 8, "updates")
    assert [stuck.waited_s for stuck in reported] == ([] if named_after_s is None else [named_after_s])
    assert all(stuck.what == "weights of 8 updates" for stuck in reported)


async def test_a_limit_is_named_by_its_deadline_whatever_others_took() -> None:
    reported: list[Stuck] = []
    clock = Clock()
    watchdog = Watchdog(reported.append, clock=clock)
    lasting(watchdog, clock, [500.0] * 3, 600.0, "eval", "request")
    with watchdog.watch(300.0, "eval", "request"):
        clock.now_s += 299.0
        watchdog.check(clock.now_s)
    assert not reported, "slow as ever, and only watched"

    async def limited() -> None:
        with watchdog.limit(300.0, "eval", "request"):
            clock.now_s += 300.0
            watchdog.check(clock.now_s)
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await limited()
    (stuck,) = reported
    assert str(stuck) == "stuck for 300.0 s (deadline 300 s, others took 500.0 s at most): eval request"


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
