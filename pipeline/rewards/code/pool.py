"""Sandboxes that stand already when a program comes.

Invariants: a sandbox holds one program (or the tests of one) in its life and is killed after it, so that nothing of one
program reaches another; one that waits holds nothing but the guest, and waits for its first frame. Closing leaves no
process. A sandbox that waited and died is replaced unnoticed.

| waits | for | woken by |
|---|---|---|
| `sandbox` | a sandbox of its role, started ahead or anew; the end of all but a few that were killed | their pipes |
| a sandbox ahead | its program | whoever takes it |
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Self

from pipeline.errors import ProcessEndedError
from pipeline.rewards.code.bundle import Role
from pipeline.rewards.code.sandbox import Sandbox, started

MAX_ENDING = 4
"""Sandboxes that are killed and not yet gone: bounds the processes, and waits for no kernel that is tidying up."""


class SandboxPool:
    """`num_ahead` sandboxes of each role that was asked for stand ahead of their programs; 0: each is started when it
    is asked for. Belongs to one event loop."""

    def __init__(self, timeout_s: float, packages: tuple[str, ...] = (), *, num_ahead: int = 0) -> None:
        self._timeout_s = timeout_s
        self._packages = packages
        self._num_ahead = num_ahead
        self._ahead: dict[Role, deque[asyncio.Task[Sandbox]]] = defaultdict(deque)
        self._ending: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        starts = [start for waiting in self._ahead.values() for start in waiting]
        self._ahead.clear()
        for found in await asyncio.gather(*starts, return_exceptions=True):
            if isinstance(found, Sandbox):
                self._end(found)
        await self._ended()

    @asynccontextmanager
    async def sandbox(self, role: Role) -> AsyncIterator[Sandbox]:
        """A sandbox that stands, killed at the end of the context. Raises IsolationError, ProcessEndedError."""
        while len(self._ending) > MAX_ENDING:
            await asyncio.wait(self._ending, return_when=asyncio.FIRST_COMPLETED)
        sandbox = await self._taken(role)
        try:
            yield sandbox
        finally:
            self._end(sandbox)
            if not self._num_ahead:
                await asyncio.shield(self._ended())

    async def _taken(self, role: Role) -> Sandbox:
        waiting = self._ahead[role]
        start = waiting.popleft() if waiting else self._start(role)
        while len(waiting) < self._num_ahead:
            waiting.append(self._start(role))
        with suppress(ProcessEndedError):
            sandbox = await start
            if sandbox.process.returncode is None:
                return sandbox
            self._end(sandbox)
        return await self._start(role)  # that one died as it waited

    def _start(self, role: Role) -> asyncio.Task[Sandbox]:
        return asyncio.create_task(self._standing(role))

    async def _standing(self, role: Role) -> Sandbox:
        sandbox = await started(role, self._timeout_s, self._packages)
        try:
            await sandbox.ready()
        except BaseException:
            await sandbox.end()
            raise
        return sandbox

    def _end(self, sandbox: Sandbox) -> None:
        """Kill it now; that it is gone is awaited later."""
        sandbox.kill()
        ending = asyncio.create_task(sandbox.end())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def _ended(self) -> None:
        if self._ending:
            await asyncio.wait(self._ending)
