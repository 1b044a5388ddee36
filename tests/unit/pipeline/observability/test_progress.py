"""What is told of long work where there is no terminal."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.observability import progress


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)


def test_every_tenth_has_a_line_and_what_was_done_before_none(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress("answers", 40, lambda: ", cost 1") as tell:
        for done in range(20, 41):
            tell(done)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["21/40", "24/40", "28/40", "32/40", "36/40", "40/40"]
    assert all(line.endswith(", cost 1") for line in lines)


def test_a_while_without_a_tenth_has_a_line_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now_s)
    with progress.progress("answers", 100_000) as tell:
        for done in range(100):
            tell(done)
            now_s += 1.0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["30/100000", "60/100000", "90/100000"]


async def test_silence_is_broken_while_nothing_gets_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.01)
    reported = asyncio.Event()
    with progress.progress("answers", 10, lambda: reported.set() or "") as tell:  # type: ignore[func-returns-value]
        tell(0)
        await asyncio.wait_for(reported.wait(), 10)
    assert "0/10 answers after" in capsys.readouterr().out


@pytest.mark.parametrize(("least", "num_lines"), [(21, 0), (20, 10)])
def test_items_pass_by_and_are_counted_where_they_are_many(
    least: int, num_lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(progress.counted(range(20), "entries", 20, least=least)) == list(range(20))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == num_lines
    assert not lines or lines[-1].startswith("20/20 entries after")
