"""Streaks of failures: what is reported of them, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from pipeline.config.endpoints import EndpointSettings, RequestsSection
from pipeline.errors import EndpointError, FinalEndpointError, MalformedReplyError, RetryableEndpointError
from pipeline.inference import protocol, trouble
from pipeline.inference.endpoint import Endpoint
from pipeline.inference.router import Router
from pipeline.inference.trouble import TroubleWatch
from pipeline.inference.usage import Prices, Usage

LATE = RetryableEndpointError("timeout", "no answer in 150 s")
FINAL = FinalEndpointError("http_402", "HTTP 402: no credit")
PAUSE = RetryableEndpointError("http_429", "slow down", retry_after_s=60.0)


class Watched:
    """A watch over one endpoint, and what it reports."""

    def __init__(self) -> None:
        self.endpoint = Endpoint(EndpointSettings(url="http://e"), "m", RequestsSection())
        self.usage, self.reports = Usage(Prices()), list[str]()
        self.watch = TroubleWatch(self.usage, 300.0, self.reports.append)

    def fail(self, *errors: EndpointError) -> None:
        for error in errors:
            self.watch.record(self.endpoint, error)

    def succeed(self) -> None:
        self.usage.tallies["http://e", "eval"].num_succeeded += 1


@pytest.mark.parametrize(
    ("failures", "num_reports"),
    [((LATE,), 0), ((LATE, LATE), 0), ((LATE,) * 3, 1), ((LATE,) * 9, 1), ((LATE,) * 4 + (FINAL,), 2), ((PAUSE,), 1)],
)
async def test_a_streak_is_reported_once_for_each_reason(failures: Sequence[EndpointError], num_reports: int) -> None:
    watched = Watched()
    watched.fail(*failures)
    assert len(watched.reports) == num_reports
    for report in watched.reports:
        assert report.startswith("endpoint http://e gives no usable answer (")
        assert "What to do: " in report
    assert watched.endpoint.last_failure == f"{failures[-1].kind}: {failures[-1]}"
    watched.watch.close()


async def test_a_success_ends_a_streak() -> None:
    watched = Watched()
    watched.fail(LATE, LATE)
    assert watched.watch.failing_s(["http://e"]) > 0
    watched.succeed()
    assert watched.watch.failing_s(["http://e"]) == 0
    watched.fail(LATE, LATE)
    assert watched.reports == []
    assert watched.watch.failing_s(["http://e", "http://other"]) == 0, "one of them was never in trouble"
    watched.watch.close()


async def test_a_lone_failure_is_reported_when_no_answer_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trouble, "NOTICE_S", 0.01)
    watched, seen = Watched(), asyncio.Event()

    def report(text: str) -> None:
        watched.reports.append(text)
        seen.set()

    monkeypatch.setattr(watched.watch, "_report", report)
    watched.fail(LATE)
    await asyncio.wait_for(seen.wait(), 10)
    assert "(an attempt failed), timeout: no answer in 150 s" in watched.reports[0]
    seen.clear()
    watched.succeed()
    await asyncio.wait_for(seen.wait(), 10)
    assert watched.reports[1:] == ["http://e answers again"]


def _router() -> tuple[Router, Endpoint]:
    endpoint = Endpoint(EndpointSettings(url="http://e", max_concurrency=1), "m", RequestsSection())
    return Router([endpoint], affinity=False, max_outage_s=0.05), endpoint


async def test_stopping_ends_waits_and_pauses_and_lets_nothing_begin() -> None:
    router, endpoint = _router()
    assert await router.take() is endpoint
    waiting = [asyncio.ensure_future(router.take()), asyncio.ensure_future(router.pause(600.0))]
    await asyncio.sleep(0)
    router.stop(FinalEndpointError("stopped", "the evaluation was stopped"))
    for wait in waiting:
        with pytest.raises(FinalEndpointError, match="the evaluation was stopped"):
            await asyncio.wait_for(wait, 10)
    router.give_back(endpoint)
    assert router.try_first("") is None
    with pytest.raises(FinalEndpointError):
        await router.take()


async def test_a_retry_after_beyond_the_patience_is_an_outage() -> None:
    router, endpoint = _router()
    endpoint.not_before_s, endpoint.last_failure = asyncio.get_running_loop().time() + 3600, "http_429: daily limit"
    router.endpoint_changed(endpoint)
    with pytest.raises(FinalEndpointError, match=r"fit for 0\.05 s: http://e \(http_429: daily limit\)"):
        await asyncio.wait_for(router.take(), 10)
    router.close()


@pytest.mark.parametrize(
    ("reply", "kind", "text"),
    [
        ({"error": {"message": "upstream failed", "code": 502}}, "http_502", "upstream failed"),
        ({"error": {"message": "no credit", "code": "402"}}, "http_402", "no credit"),
        ({"error": {"message": "crashed", "code": "weird"}}, "error_body", "crashed"),
        ({"error": {"message": None, "type": "x"}}, "error_body", "'type': 'x'"),
        ({"error": "out of memory"}, "error_body", "out of memory"),
        ({"message": "model is loading"}, "error_body", "model is loading"),
        ({"detail": "Not Found", "status": 404}, "http_404", "Not Found"),
        ({"error": None, "choices": None}, "wrong_choices", "None"),
        ({"id": "x"}, "wrong_choices", "{'id': 'x'}"),
        ([], "wrong_choices", "[]"),
        (None, "wrong_choices", "None"),
    ],
)
def test_an_error_in_a_reply_of_http_200_is_read(reply: object, kind: str, text: str) -> None:
    with pytest.raises(EndpointError) as caught:
        protocol.parse_chat(reply)
    assert caught.value.kind == kind
    assert text in str(caught.value)
    assert isinstance(caught.value, MalformedReplyError) == (not kind.startswith("http_"))


@pytest.mark.parametrize(
    ("reply", "names"),
    [
        ({"data": [{"id": "m"}, {"id": "n"}]}, ["m", "n"]),
        ([{"id": "m"}], ["m"]),
        ({"data": None}, []),
        ({"data": ["m"]}, []),
        ({"data": [{"name": "m"}]}, []),
        ({"models": []}, []),
        ("html", []),
        (None, []),
    ],
)
def test_models_are_read_from_whatever_an_endpoint_lists(reply: object, names: list[str]) -> None:
    assert list(protocol.models_in(reply)) == names
