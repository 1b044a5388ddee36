"""`stress`, as a user runs it."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from pipeline.inference.load_test import StressReport, quantiles
from tests.integration.command_line import Command
from tests.integration.conftest import StartMock


async def run(*arguments: str, cwd: Path, repository: Path, stop_after: str = "") -> tuple[int, str, str]:
    """Exit status and both outputs; with `stop_after`, SIGINT when a line of stdout holds it."""
    process = await Command(cwd, repository, "stress", *arguments).start()
    seen = b""
    async with asyncio.timeout(60):
        if stop_after:
            assert process.stdout is not None
            while stop_after.encode() not in seen:
                line = await process.stdout.readline()
                assert line, seen
                seen += line
            process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, (seen + out).decode(), err.decode()


def report_of(folder: Path) -> StressReport:
    return StressReport.model_validate(json.loads((folder / "report.json").read_text()))


async def test_without_an_endpoint_the_mock_is_stressed_with_seeded_faults(tmp_path: Path, repository: Path) -> None:
    options = ("--requests", "400", "--concurrency", "64", "--faults", "7", "--latency", "fixed:0.01", "--out", "s")
    status, out, err = await run(
        *options, "--max-error-rate", "0", "--max-p99-s", "30", cwd=tmp_path, repository=repository
    )
    assert status == 0, out + err
    report = report_of(tmp_path / "s")
    assert (report.num_requests, report.num_answered, report.error_rate) == (400, 400, 0.0)
    assert report.num_attempts == 400 + report.num_retries > 400
    assert sum(report.attempts_failed.values()) == report.num_retries
    assert report.latency_s["p50"] <= report.latency_s["p99"] <= report.latency_s["max"]
    assert report.completion_tokens_per_s > 0
    assert (tmp_path / "s" / "latency.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert "400/400 requests after" in out


async def test_bounds_that_do_not_hold_are_the_exit_status(
    tmp_path: Path, repository: Path, start_mock: StartMock
) -> None:
    faults = [{"kind": "status", "code": 400, "count": 5}]
    url = (await start_mock(faults=faults, latency_s=0.02)).url
    options = (
        "--endpoint",
        f"{url}/v1",
        "--model",
        "policy",
        "--requests",
        "40",
        "--stream",
        "--plot",
        "png",
        "--out",
        "s",
    )
    bounds = ("--max-p99-s", "0.001", "--max-error-rate", "0.05")
    status, out, _ = await run(*options, *bounds, cwd=tmp_path, repository=repository)
    assert status == 1
    report = report_of(tmp_path / "s")
    assert report.errors == {"http_400": 5}
    assert report.error_rate == pytest.approx(5 / 40)
    assert report.first_token_s["p50"] <= report.latency_s["p50"]
    assert "BROKEN    --max-p99-s 0.001: the 99th percentile is 0." in out
    assert "BROKEN    --max-error-rate 0.05: it is 0.12500" in out
    assert (tmp_path / "s" / "latency.png").read_bytes().startswith(b"\x89PNG")


async def test_ctrl_c_reports_what_was_done(tmp_path: Path, repository: Path) -> None:
    options = ("--requests", "100000", "--concurrency", "8", "--latency", "fixed:0.001", "--out", "s")
    status, out, _ = await run(*options, cwd=tmp_path, repository=repository, stop_after="10000/100000")
    assert status == 130
    report = report_of(tmp_path / "s")
    assert 10_000 <= report.num_answered < 100_000
    assert "requests answered in" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--endpoint", "http://127.0.0.1:9"], "error: endpoint http://127.0.0.1:9 does not answer"),
        (["--requests", "0"], "error: --requests 0: give a number of 1 or more"),
        (["--timeout-s", "-1"], "error: --timeout-s -1.0: input should be greater than 0"),
        (["--prompts", "none.txt"], "error: --prompts none.txt: No such file or directory"),
        (["--endpoint", "http://127.0.0.1:9", "--faults", "3"], "error: --faults is for the mock endpoint"),
        (["--latency", "gamma:1"], "error: the mock endpoint did not start"),
    ],
)
async def test_what_cannot_be_done_is_said_with_its_remedy(
    tmp_path: Path, repository: Path, options: list[str], message: str
) -> None:
    status, _, err = await run(*options, cwd=tmp_path, repository=repository)
    assert status == 2
    assert message in err


async def test_a_wrong_model_is_named(tmp_path: Path, repository: Path, start_mock: StartMock) -> None:
    url = (await start_mock()).url
    status, _, err = await run("--endpoint", url, "--model", "other", cwd=tmp_path, repository=repository)
    assert status == 2
    assert "has no model 'other', it serves ['policy']" in err


def test_quantiles_are_values_that_were_seen() -> None:
    found: Any = quantiles([float(value) for value in range(1, 101)])
    assert (found["p50"], found["p99"], found["max"], found["mean"]) == (51.0, 100.0, 100.0, 50.5)
    assert quantiles([]) == {}
