"""Child processes: started in a session of their own, with pipes or a log, and ended with all that they started.

Invariants: no child is forked (but for that of `servers/guard.py`, a process of one thread). Its parent has threads
(LanceDB's, the scorers') that may hold a lock at that moment, and hooks that reset libraries; `subprocess.Popen`
without `preexec_fn` runs neither hooks nor Python in the child (vfork), the `create_subprocess_exec` of uvloop does
both. A child gets no terminal signal: Ctrl-C reaches the orchestrator alone, which then ends its children in order.

| waits | for | woken by |
|---|---|---|
| `Process.wait` | its end | its pidfd; where there is none, a thread that waits for it |
| `stdout.read…()`, `stdin.drain()` | data; an empty pipe | the pipe |
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

from pipeline.errors import ProcessEndedError
from pipeline.runtime import libc
from pipeline.runtime.event_loop import to_the_end

# Tells a child who started it, so that it notices even an owner that died before the child could ask the kernel.
PARENT_PID = "LANPO_PARENT_PID"
PR_SET_PDEATHSIG = 1
PROGRESS, PROGRESS_S = "sft step", 20.0


def parent_is_gone() -> bool:
    """Whether the process that started this one as a `Child` is no longer its parent."""
    return os.getppid() != int(os.environ.get(PARENT_PID) or os.getppid())


def die_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Ask the kernel to send this process `number` when the thread that started it ends (Linux; elsewhere nothing
    happens)."""
    libc.call("prctl", PR_SET_PDEATHSIG, number, 0, 0, 0)


def end_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """The same, for a parent that is dead already too."""
    die_with_parent(number)
    if parent_is_gone():
        os.kill(os.getpid(), number)


def free_port(address: str = "127.0.0.1") -> int:
    """A port of this machine's `address` that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def tail(path: Path, num_lines: int = 12) -> str:
    """The last lines of a log, for an error message."""
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-num_lines:])
    except OSError:
        return ""


class Process:
    """A running child whose pipes are asyncio's streams. Create it with `start`; call `end` in a `finally`, or await
    `wait`."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self._ended = asyncio.Event()
        self._pipes: list[asyncio.BaseTransport] = []
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        _call_at_end(popen, self._ended.set)

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.PIPE,
        stderr: int | IO[bytes] = subprocess.PIPE,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        limit: int = 1 << 16,
    ) -> Self:
        """Start `command`; a line that is read from its pipes may have `limit` bytes. Raises OSError where it cannot be
        started."""
        # Not in a thread: Popen holds the interpreter's lock until the program is loaded, so that nothing would be won,
        # and a child that dies with the thread that started it must not depend on one of a pool.
        popen = subprocess.Popen(  # noqa: ASYNC220
            command,
            bufsize=0,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=env,
            pass_fds=pass_fds,
            start_new_session=True,
        )
        process = cls(popen)
        try:
            await to_the_end(process._connect(limit))
        except BaseException:
            await process.end()
            raise
        return process

    async def _connect(self, limit: int) -> None:
        loop = asyncio.get_running_loop()
        if self._popen.stdin is not None:
            # A writer's protocol is a reader's as well: it knows of backpressure, and of a pipe that broke.
            reader = asyncio.StreamReader(loop=loop)
            transport, protocol = await loop.connect_write_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), self._popen.stdin
            )
            self.stdin = asyncio.StreamWriter(transport, protocol, reader, loop)
            self._pipes.append(transport)
        self.stdout = await self._reader(self._popen.stdout, limit)
        self.stderr = await self._reader(self._popen.stderr, limit)

    async def _reader(self, pipe: IO[bytes] | None, limit: int) -> asyncio.StreamReader | None:
        if pipe is None:
            return None
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit, loop)
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        self._pipes.append(transport)
        return reader

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, -n for signal n; None while it runs."""
        return self._popen.poll()

    def terminate(self) -> None:
        """SIGTERM to the process alone. Nothing happens to one that is gone."""
        self._popen.terminate()

    def kill(self) -> None:
        """SIGKILL to the process alone. Nothing happens to one that is gone."""
        self._popen.kill()

    async def wait(self) -> int:
        """Its exit status, when it is gone and reaped."""
        await self._ended.wait()
        return self._popen.wait()

    async def end(self) -> None:
        """Kill it, and return when it is reaped and its pipes are closed, also when cancelled meanwhile."""
        self.kill()
        try:
            await to_the_end(self.wait())
        finally:
            for pipe in self._pipes:
                pipe.close()


def _call_at_end(popen: subprocess.Popen[bytes], call: Callable[[], None]) -> None:
    """Call `call` in the running loop when the process is gone and reaped."""
    loop = asyncio.get_running_loop()
    try:
        descriptor = os.pidfd_open(popen.pid)
    except (AttributeError, OSError):  # no Linux, an old kernel, a container that forbids it

        def wait() -> None:
            popen.wait()
            with suppress(RuntimeError):  # the loop is closed, and nobody waits
                loop.call_soon_threadsafe(call)

        threading.Thread(target=wait, daemon=True).start()
        return

    def reap() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        popen.wait()
        call()

    loop.add_reader(descriptor, reap)


class Child:
    """One process that appends its output to a log. Create it with `start`; call `stop` in a `finally`."""

    def __init__(self, name: str, process: Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @classmethod
    async def start(
        cls, name: str, command: Sequence[str], log: Path, *, env: dict[str, str] | None = None, stdin: bool = False
    ) -> Child:
        """Start `command` with both outputs appended to `log`; with `stdin` a pipe is held open until `close_stdin`."""
        with log.open("ab") as output:
            process = await Process.start(
                command,
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {}), PARENT_PID: str(os.getpid())},
            )
        return cls(name, process, log)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    def check(self) -> None:
        """Raise ProcessEndedError when the process is gone."""
        if self.returncode is not None:
            raise ProcessEndedError(
                f"the {self.name} ended with status {self.returncode}; its log {self.log} ends:\n{tail(self.log)}"
            )

    async def wait(self) -> int:
        return await self._process.wait()

    @classmethod
    async def run(
        cls,
        name: str,
        command: Sequence[str],
        file: Path,
        log: Callable[[str], None],
        *,
        env: dict[str, str] | None = None,
        grace_s: float = 10.0,
    ) -> int:
        """Run `command` to its end, its outputs appended to `file`, and return its exit status; `log` is given its
        latest line of progress (`sft step 3/35 …`) every 20 s. A cancelled one has `grace_s` to end by itself."""
        child = await cls.start(name, command, file, env=env)
        try:
            return await child._wait_with_progress(log)
        finally:
            await child.stop(grace_s)

    async def _wait_with_progress(self, log: Callable[[str], None]) -> int:
        ended, last = asyncio.ensure_future(self.wait()), ""
        try:
            while not ended.done():
                await asyncio.wait({ended}, timeout=PROGRESS_S)
                lines = [line[line.index(PROGRESS) :] for line in tail(self.log, 5).splitlines() if PROGRESS in line]
                if lines and lines[-1] != last and not ended.done():
                    last = lines[-1]
                    log(last)
            return ended.result()
        finally:
            ended.cancel()

    def close_stdin(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, then after `grace_s` SIGKILL to the whole session. Returns when the process is gone."""
        if self.returncode is None:
            with suppress(ProcessLookupError, TimeoutError):
                os.kill(self.pid, signal.SIGTERM)  # the process alone, which ends its own children
                async with asyncio.timeout(grace_s):
                    await self.wait()
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        await self._process.end()
