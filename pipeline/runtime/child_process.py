"""Child processes: started in a session of their own, logged to a file, ended with everything that they started.

A child gets no terminal signal (Ctrl-C reaches the orchestrator alone, which then ends its children in order).
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import warnings
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import ProcessEndedError

# LanceDB warns at every fork. A child that runs another program at once has nothing of it.
warnings.filterwarnings("ignore", message="lancedb fork support is experimental", category=RuntimeWarning)
# Learner and servers share the cores of a small machine: a thread that waits at a barrier must not burn what the other needs.
PASSIVE_WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}


# Tells a child who started it, so that it notices even an owner that died before the child could ask the kernel.
PARENT_PID = "LANPO_PARENT_PID"


def parent_is_gone() -> bool:
    """Whether the process that started this one as a `Child` is no longer its parent."""
    return os.getppid() != int(os.environ.get(PARENT_PID) or os.getppid())


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


class Child:
    """One process. Create it with `start`; call `stop` in a `finally`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @classmethod
    async def start(
        cls, name: str, command: Sequence[str], log: Path, *, env: dict[str, str] | None = None, stdin: bool = False
    ) -> Child:
        """Start `command` with both outputs appended to `log`; with `stdin` a pipe is held open until `close_stdin`."""
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, **(env or {}), PARENT_PID: str(os.getpid())},
                start_new_session=True,
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

    def close_stdin(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, then after `grace_s` SIGKILL to the whole session. Returns when the process is gone."""
        if self.returncode is None:
            self._signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(grace_s):
                    await self.wait()
            except TimeoutError:
                pass
        self._signal(signal.SIGKILL)
        await self.wait()

    def _signal(self, number: signal.Signals) -> None:
        """SIGTERM goes to the process, which ends its own children; SIGKILL to its whole process group."""
        try:
            if number == signal.SIGKILL:
                os.killpg(self.pid, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            pass
