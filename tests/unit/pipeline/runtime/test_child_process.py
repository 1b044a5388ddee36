"""Children under both event loops: what crosses their pipes, how they end, and that they leave nothing."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from pipeline.errors import ProcessEndedError
from pipeline.runtime.child_process import Child, Process

ROOT = Path(__file__).resolve().parents[4]
Run = Callable[[Coroutine[Any, Any, None]], None]
ECHO = [sys.executable, "-c", "import shutil, sys; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)"]
SLEEP = ["sleep", "60"]


def no_pidfd(pid: int) -> int:
    raise OSError("not on this kernel")


@pytest.fixture(params=["uvloop", "asyncio", "without pidfd"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a coroutine to its end; afterwards no file is open, and no child there, that was not before."""
    if request.param == "without pidfd":
        monkeypatch.setattr("os.pidfd_open", no_pidfd)

    def to_the_end(work: Coroutine[Any, Any, None]) -> None:
        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.sleep(0))  # libuv keeps files of its own
        before, children = open_files(), children_of(os.getpid())
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(work)
        assert open_files() == before
        assert children_of(os.getpid()) == children

    return to_the_end


def open_files() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir() if path.exists())


def children_of(pid: int) -> set[str]:
    return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - nothing wakes us up for what another process does
        await asyncio.sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def write_until_it_fails(writer: asyncio.StreamWriter) -> None:
    for _ in range(100):
        writer.write(b"x" * (1 << 16))
        await writer.drain()


def test_what_is_written_comes_back_whole_and_a_full_pipe_makes_the_writer_wait(run: Run) -> None:
    content = os.urandom(1 << 22)

    async def work() -> None:
        process = await Process.start(ECHO, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdin is not None and process.stdout is not None and process.stderr is None
        process.stdin.write(content)
        written = asyncio.ensure_future(process.stdin.drain())
        await asyncio.sleep(0.3)
        assert not written.done(), "nobody reads"
        assert await process.stdout.readexactly(len(content)) == content
        await written
        process.stdin.close()
        assert await process.stdout.read() == b""
        assert await process.wait() == 0
        await process.end()

    run(work())


def test_several_wait_for_one_end_and_the_status_is_known_at_once(run: Run) -> None:
    async def work() -> None:
        process = await Process.start(["sh", "-c", "exit 3"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert [*await asyncio.gather(process.wait(), process.wait())] == [3, 3]
        assert process.returncode == 3
        process.kill()
        await process.end()
        assert process.returncode == 3

    run(work())


def test_a_pipe_that_broke_is_a_connection_error(run: Run) -> None:
    async def work() -> None:
        process = await Process.start(SLEEP, stdin=subprocess.PIPE)
        assert process.stdin is not None and process.stdout is not None
        process.kill()
        await process.wait()
        with pytest.raises(ConnectionError):
            await write_until_it_fails(process.stdin)
        assert await process.stdout.read() == b""
        await process.end()

    run(work())


def test_a_program_that_is_not_there_leaves_nothing(run: Run) -> None:
    async def work() -> None:
        with pytest.raises(FileNotFoundError):
            await Process.start(["/nowhere/program"], stdin=subprocess.PIPE)

    run(work())


def test_a_start_that_is_cancelled_leaves_no_process(run: Run) -> None:
    async def work() -> None:
        starting = asyncio.ensure_future(Process.start(SLEEP, stdin=subprocess.PIPE))
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    run(work())


def test_an_end_that_is_cancelled_is_an_end(run: Run) -> None:
    async def work() -> None:
        process = await Process.start(SLEEP, stdin=subprocess.PIPE)
        ending = asyncio.ensure_future(process.end())
        await asyncio.sleep(0)
        ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ending
        assert process.returncode == -signal.SIGKILL

    run(work())


def test_a_process_that_nobody_reads_from_can_be_ended(run: Run) -> None:
    async def work() -> None:
        process = await Process.start(["yes"], stdin=subprocess.PIPE)
        await asyncio.sleep(0.1)
        await process.end()

    run(work())


def test_a_child_logs_knows_its_parent_and_says_how_it_ended(run: Run, tmp_path: Path) -> None:
    async def work() -> None:
        log = tmp_path / "log"
        command = ["sh", "-c", 'echo "$LANPO_PARENT_PID $MORE"; echo wrong >&2; read line; exit 4']
        child = await Child.start("helper", command, log, env={"MORE": "more"}, stdin=True)
        child.check()
        child.close_stdin()
        assert await child.wait() == 4
        assert log.read_text() == f"{os.getpid()} more\nwrong\n"
        with pytest.raises(ProcessEndedError, match=r"the helper ended with status 4(.|\n)*wrong"):
            child.check()
        await child.stop(1.0)

    run(work())


@pytest.mark.parametrize("ignores", [False, True])
def test_stop_ends_the_child_and_what_it_started(run: Run, tmp_path: Path, ignores: bool) -> None:
    async def work() -> None:
        pids, trap = tmp_path / "pids", "trap '' TERM; " if ignores else ""
        child = await Child.start(
            "helper", ["sh", "-c", f"{trap}sleep 60 & echo $$ $! > {pids}; wait"], tmp_path / "log"
        )
        await until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
        own, below = map(int, pids.read_text().split())
        assert child.pid == own == os.getsid(own)
        begin_s = time.monotonic()
        await child.stop(0.3)
        assert (time.monotonic() - begin_s >= 0.3) == ignores
        assert child.returncode == -(signal.SIGKILL if ignores else signal.SIGTERM)
        await until(lambda: is_gone(below))

    run(work())


FORKS = re.compile(r"create_subprocess_|preexec_fn|os\.fork|multiprocessing|ProcessPoolExecutor")
# The guard has one thread and nothing of this project's libraries; the guest tries what its sandbox forbids.
MAY_FORK = {"servers/guard.py", "pipeline/rewards/code/guest.py"}


def test_nothing_of_the_program_starts_a_child_in_another_way() -> None:
    files = [path for top in ("pipeline", "servers", "trainer") for path in (ROOT / top).rglob("*.py")]
    found = {str(path.relative_to(ROOT)) for path in files if FORKS.search(path.read_text(encoding="utf-8"))}
    assert found - {"pipeline/runtime/child_process.py"} == MAY_FORK
