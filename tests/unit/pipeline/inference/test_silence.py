"""Endpoints that say nothing: after how long it is said, how often, and when it is not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pipeline.errors import RetryableEndpointError
from pipeline.inference.silence import REPEAT_S, SILENT_S, OpenRequests, SilenceWatch

URL = "http://e"
LATE = RetryableEndpointError("timeout", "no answer in 600 s")
CUT = RetryableEndpointError("connection", "cut")
Event = tuple[float, str]


def said(events: Sequence[Event], until_s: float, failing: bool = False) -> list[tuple[int, str]]:
    """What is reported, second by second, of one request after another: 'ask', 'answer', 'cut', 'late', 'part'."""
    reports: list[tuple[int, str]] = []
    now_s, begin_s = 0, 0.0
    watch = SilenceWatch(lambda text: reports.append((now_s, text)), lambda url: failing)
    asked: OpenRequests | None = None
    for now_s in range(int(until_s) + 1):
        for _, event in (one for one in events if now_s <= one[0] < now_s + 1):
            if event == "ask":
                asked, begin_s = watch.begin(URL, "eval", float(now_s)), float(now_s)
                continue
            assert asked is not None
            match event:
                case "answer":
                    watch.answered(asked, begin_s, float(now_s))
                case "cut" | "late":
                    watch.failed(URL, CUT if event == "cut" else LATE, float(now_s))
                case "part":
                    watch.heard(URL, float(now_s))
                    continue
            asked.num_open -= 1
        watch.check(float(now_s))
    watch.close()
    return reports


def slow(num: int, took_s: int) -> list[Event]:
    """One request after the other, each of which takes as long."""
    return [event for i in range(num) for event in ((i * took_s, "ask"), ((i + 1) * took_s - 0.5, "answer"))]


@pytest.mark.parametrize(
    ("events", "until_s", "at_s"),
    [
        ([(0, "ask")], SILENT_S - 1, []),
        ([(0, "ask")], 9, [7]),
        ([(0, "ask")], 130, [7, 67, 127]),
        ([(0, "ask"), (5, "answer")], 100, []),
        ([(0, "ask"), (5, "part"), (10, "part"), (15, "part"), (20, "answer")], 100, []),
        ([(0, "ask"), (5, "cut"), (6, "ask")], 14, [13]),
        ([(0, "ask"), (5, "late"), (5, "ask")], 13, [12]),
        ([], 100, []),
        # One that is slow is named once, until it is much slower than it was.
        (slow(9, 40), 360, [7, 39]),
        ([*slow(3, 40), (120, "ask")], 120 + 3 * 40 + 1, [7, 39, 120 + 3 * 39]),
        (slow(60, 5), 300, []),
    ],
)
async def test_silence_is_said_within_seconds_again_now_and_then_and_never_of_what_is_merely_slow(
    events: list[Event], until_s: float, at_s: list[int]
) -> None:
    reports = said(events, until_s)
    assert [second for second, _ in reports] == at_s
    assert max(SILENT_S, REPEAT_S / 10) < 10
    for _, text in reports:
        assert text == f"endpoint {URL} answers again" or text.startswith(f"endpoint {URL} has said nothing for ")
        assert "answers again" in text or "What to do: " in text


async def test_what_is_reported_as_failing_is_not_reported_as_silent() -> None:
    assert said([(0, "ask")], 100, failing=True) == []


async def test_one_that_answers_other_requests_is_not_silent_and_an_answer_of_another_kind_is_no_measure() -> None:
    reports: list[str] = []
    watch = SilenceWatch(reports.append)
    watch.begin(URL, "eval", 0.0)
    for now_s in (3.0, 6.0, 9.0, 12.0):
        watch.answered(watch.begin(URL, "render", now_s - 1), now_s - 1, now_s)
        watch.check(now_s)
    assert reports == []
    watch.check(20.0)
    assert any("(eval: a request waits, no answer yet)" in text for text in reports)
    watch.close()
