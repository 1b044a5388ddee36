"""No wait is silent (docs/promises.md: 25): an endpoint that answers and is of no use is named on the terminal, with
the reason and what to do, a signal ends what only waits, and what is kept is reported."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.integration.command_line import Command
from tests.integration.odd_endpoint import HANGING, KINDS, MODEL, SILENT, OddEndpoints
from tests.scripted_endpoint import serving

REASON_S, STOP_S = 10.0, 5.0
# The others take the same way; all of them: -m slow.
FEW = ("error_200", "finish_null", "html", "content_null", "daily_limit")
NUM_QUESTIONS = 3


class Endpoints(NamedTuple):
    url: str
    asked: asyncio.Event

    def at(self, kind: str) -> str:
        return f"{self.url}/{kind}"


@pytest.fixture
async def endpoints() -> AsyncIterator[Endpoints]:
    odd = OddEndpoints()
    async with serving(odd.application()) as url:
        yield Endpoints(url, odd.asked)


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    rows = [{"question": f"What is {n} + 3?", "answer": str(n + 3)} for n in range(NUM_QUESTIONS)]
    file = tmp_path / "sums.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


class Terminal:
    """What a command prints, as it is printed. `begin_s` is when its first request came."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.err: list[str] = []
        self.out: list[str] = []
        self._news = asyncio.Condition()
        self._readers = [
            asyncio.create_task(self._read(stream, lines))
            for stream, lines in ((process.stderr, self.err), (process.stdout, self.out))
        ]

    async def _read(self, stream: asyncio.StreamReader | None, lines: list[str]) -> None:
        assert stream is not None
        while line := await stream.readline():
            lines.append(line.decode())
            async with self._news:
                self._news.notify_all()

    async def until(self, found: Callable[[], bool], within_s: float) -> float:
        """Seconds until `found()`. Raises TimeoutError."""
        begin_s = time.monotonic()
        async with self._news, asyncio.timeout(within_s):
            await self._news.wait_for(found)
        return time.monotonic() - begin_s

    async def end(self, within_s: float) -> tuple[int, float]:
        """The exit status, and the seconds until the process was gone. Raises TimeoutError."""
        begin_s = time.monotonic()
        async with asyncio.timeout(within_s):
            status = await self.process.wait()
        seconds = time.monotonic() - begin_s
        await asyncio.gather(*self._readers)
        return status, seconds

    @property
    def errors(self) -> str:
        return "".join(self.err)

    @property
    def text(self) -> str:
        return "".join(self.out) + self.errors


def eval_of(url: str, tmp_path: Path, repository: Path, questions: Path, *more: str) -> Command:
    arguments = ("--endpoint", url, "--benchmark", str(questions), "--out", str(tmp_path / "e"), *more)
    return Command(tmp_path, repository, "eval", *arguments)


def kinds() -> list[Any]:
    return [kind if kind in FEW else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]


@pytest.mark.parametrize("kind", kinds())
async def test_the_reason_is_on_the_terminal_and_a_signal_ends_the_wait(
    tmp_path: Path, repository: Path, endpoints: Endpoints, questions: Path, kind: str
) -> None:
    url, begin_s = endpoints.at(kind), time.monotonic()
    terminal = Terminal(await eval_of(url, tmp_path, repository, questions).start())
    async with asyncio.timeout(60):
        await endpoints.asked.wait()
    start_s = time.monotonic() - begin_s

    def named() -> bool:
        return url in terminal.errors and KINDS[kind].reason in terminal.errors and "What to do: " in terminal.errors

    reason_s = await terminal.until(named, REASON_S)
    waits = terminal.process.returncode is None
    if waits:
        terminal.process.send_signal(signal.SIGINT)
    status, stop_s = await terminal.end(STOP_S)
    print(f"\n| {kind} | {start_s:.1f} | {reason_s:.1f} | {f'{stop_s:.1f}' if waits else 'by itself'} | {status} |")
    assert "Traceback" not in terminal.text
    # One that is hopeless ends the command, at that moment or a little later.
    assert status == 130 or (status == 1 and "failed: " in terminal.errors)
    assert f"0 of {NUM_QUESTIONS} answers are kept in {tmp_path / 'e'}; the same command goes on there" in terminal.text


@pytest.mark.parametrize("kind", ["error_200", "finish_null"])
async def test_an_evaluation_gives_up_after_its_own_patience_and_goes_on_later(
    tmp_path: Path, repository: Path, questions: Path, kind: str
) -> None:
    odd = {kind: KINDS[kind]}
    async with serving(OddEndpoints(odd).application()) as url:
        command = eval_of(f"{url}/{kind}", tmp_path, repository, questions, "--eval.max_outage_s", "2")
        begin_s = time.monotonic()
        status, _, err = await command.run()
        assert status == 1, err
        assert time.monotonic() - begin_s < 60
        assert "Traceback" not in err
        assert f"failed: no endpoint was fit for 2 s: {url}/{kind} (" in err
        assert KINDS[kind].reason in err.splitlines()[-1]
        assert f"0 of {NUM_QUESTIONS} answers are kept" in err
        odd.clear()
        status, out, err = await command.run()
        assert status == 0, err
    assert f"| sums | zero-shot | {NUM_QUESTIONS} | 1 |" in out


async def test_grade_gives_a_lost_judge_up_after_the_patience_of_an_evaluation(
    tmp_path: Path, repository: Path
) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps({"response": "\\boxed{5}", "answer": "5", "question": "What is 2 + 3?"}) + "\n")
    async with serving(OddEndpoints({"error_200": KINDS["error_200"]}).application()) as url:
        judge = f"--reward.scorer judge --reward.judge.endpoint.url {url}/error_200"
        options = f"{judge} --reward.judge.endpoint.model {MODEL} --requests.max_attempts 1000 --eval.max_outage_s 1"
        async with asyncio.timeout(60):
            status, _, err = await Command(repository, repository, "grade", str(file), *options.split()).run()
    assert status == 1, err
    assert "failed: no endpoint was fit for 1 s" in err, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_second_signal_ends_at_once(
    tmp_path: Path, repository: Path, endpoints: Endpoints, questions: Path, number: signal.Signals
) -> None:
    """The first one waits for what is in flight."""
    terminal = Terminal(await eval_of(endpoints.at(HANGING), tmp_path, repository, questions).start())
    async with asyncio.timeout(60):
        await endpoints.asked.wait()
    terminal.process.send_signal(number)
    await terminal.until(lambda: "in flight are waited for and kept" in terminal.text, STOP_S)
    assert terminal.process.returncode is None
    terminal.process.send_signal(number)
    status, seconds = await terminal.end(2.0)
    assert (status, terminal.errors) == (130, ""), seconds


async def test_doctor_and_stress_name_the_reason_too(tmp_path: Path, repository: Path, endpoints: Endpoints) -> None:
    command, url = Command(tmp_path, repository), endpoints.at("error_200")
    summarizer = json.dumps({"url": url, "model": MODEL})
    doctor = Terminal(await command.start("doctor", "--abstraction.endpoint", summarizer))
    status, _ = await doctor.end(60)
    assert status == 2
    assert f"endpoint {url}: it gives no usable answer, http_502: HTTP 200, and in it an error" in doctor.text
    stress = Terminal(await command.start("stress", "--endpoint", url, "--model", MODEL, "--requests", "20"))
    async with asyncio.timeout(60):
        await endpoints.asked.wait()
    await stress.until(lambda: "upstream provider returned an error" in stress.errors, 60)
    stress.process.send_signal(signal.SIGTERM)
    status, _ = await stress.end(STOP_S)
    assert (status, "Traceback" in stress.text) == (130, False)
    assert stress.errors.count("gives no usable answer") == 1, stress.errors
    assert "Error" not in stress.errors, "the name of a class says nothing to a user"
    assert "errors    unknown: no request had come to its end" in stress.text
    assert "0.000%" not in stress.text


@pytest.mark.parametrize(
    ("name", "kind"), [("eval", HANGING), ("eval", SILENT), ("stress", HANGING), ("stress", SILENT), ("doctor", SILENT)]
)
async def test_an_endpoint_that_says_nothing_is_named_within_seconds(
    tmp_path: Path, repository: Path, endpoints: Endpoints, questions: Path, name: str, kind: str
) -> None:
    url, command = endpoints.at(kind), Command(tmp_path, repository)
    if name == "eval":
        process = await eval_of(url, tmp_path, repository, questions).start()
    elif name == "stress":
        process = await command.start("stress", "--endpoint", url, "--model", MODEL, "--requests", "20")
    else:
        summarizer = json.dumps({"url": url, "model": MODEL})
        process = await command.start("doctor", "--abstraction.endpoint", summarizer)
    terminal = Terminal(process)
    async with asyncio.timeout(60):
        await endpoints.asked.wait()
    said = f"endpoint {url} has said nothing for "
    seconds = await terminal.until(lambda: said in terminal.errors and "What to do: " in terminal.errors, REASON_S)
    print(f"\n| {name} | {kind} | {seconds:.1f} |")
    process.send_signal(signal.SIGINT)
    if (name, kind) == ("eval", HANGING):
        await terminal.until(lambda: "in flight are waited for and kept" in terminal.text, STOP_S)
        process.send_signal(signal.SIGINT)
    status, _ = await terminal.end(STOP_S)
    assert (status, "Traceback" in terminal.text, terminal.errors.count(said)) == (130, False, 1)


async def test_a_teacher_of_no_use_is_named(tmp_path: Path, repository: Path, endpoints: Endpoints) -> None:
    command, url = Command(tmp_path, repository), endpoints.at("error_200")
    words = ("--teacher", url, "--teacher-model", MODEL, "--n", "4", "--run.root", str(tmp_path / "runs"))
    terminal = Terminal(await command.start("sft", *words, "--model.path", str(_model(tmp_path))))
    async with asyncio.timeout(60):
        await endpoints.asked.wait()
    await terminal.until(lambda: "upstream provider returned an error" in terminal.text, REASON_S)
    terminal.process.send_signal(signal.SIGTERM)
    status, _ = await terminal.end(STOP_S)
    assert (status, "Traceback" in terminal.text) == (130, False)
    assert "teacher: 0 of 4 pairs are kept in " in terminal.text


def _model(tmp_path: Path) -> Path:
    from tests.tiny_model import make_tiny_model

    return make_tiny_model(tmp_path / "model")
