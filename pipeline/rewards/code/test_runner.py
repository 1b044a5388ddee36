"""Runs the tests of a problem against a program, and gives the verdict on code that may try to get one it did not earn.

Two sandboxes: in one the program (the candidate), in the other the tests (the judge). The tests call a stand-in; its
arguments go to the candidate as data and the results come back as data, carried here without a look into them. The
verdict is a frame of the judge's alone.

| the candidate may | which gains nothing, because |
|---|---|
| exit with status 0, hook `exit` or `atexit`, kill itself | its status is not asked; a process that ends has failed |
| print or send a verdict | its output leads nowhere, and a frame of its own is read as a reply to a call |
| patch built-ins, `unittest`, the harness, frames, globals, the garbage collector | the tests run in another process |
| read what is expected | it is never in its process; nor are the tests, nor packages that hold them |
| return what equals everything, or changes later | results are rebuilt from plain data, or handles that equal none |
| raise what a test's shape swallows | that is noted where it is raised (`judge`) |
| change the arguments, so that the test compares nothing with nothing | they are copies where the result is used |
| redefine helpers that the tests use | the judge has them from the problem's own `setup` |
| hang, flood, fill memory | it is killed; nothing of it is a pass |

The tests are trusted to mean what they say: a weak test can be passed by a weak program, and one that keeps calling
while it swallows every exception decides for itself. Limits: a test that uses a result, and compares an argument that
the call changed with anything but a constant, calls an honest program wrong. One that does arithmetic of an object of
the program's with plain data, or compares two that differ and that the program calls equal, cannot be judged, and is an
'error'.

| waits | for | woken by |
|---|---|---|
| `run_tests` | the judge's next frame, the candidate's reply to it | their pipes; the clock |
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal, NamedTuple

from pipeline.errors import IsolationError, ProcessEndedError
from pipeline.rewards.code.pool import SandboxPool
from pipeline.rewards.code.sandbox import MAX_FILES_MADE, Sandbox

TIMEOUT_S = 5.0
COUNTED_EVERY_S = 0.05
"""Files in memory are counted: in this time, so many are made that the kernel's memory takes tens of MiB."""


class ProgramResult(NamedTuple):
    """'error' says that the tests could not be run or are at fault, 'missing_module' that the program imports what its
    sandbox lacks; all others are about the program. `share` of the tests passed."""

    kind: Literal["passed", "failed", "timeout", "error", "missing_module"]
    reason: str = ""
    share: float = 0.0


async def run_tests(
    program: str,
    tests: str,
    entry_point: str,
    *,
    setup: str = "",
    timeout_s: float = TIMEOUT_S,
    partial: bool = False,
    pool: SandboxPool | None = None,
) -> ProgramResult:
    """Run `tests` on the function or class `entry_point` of `program`; seconds include the start of the sandboxes.

    `tests` are assertions that call it by name, define `check(candidate)` as HumanEval does, or are functions and
    classes that pytest or unittest would collect; `setup` is trusted code that they need (HumanEval: the prompt).
    `partial`: go on after a test that failed. Raises IsolationError where code cannot be contained.
    """
    # json, not orjson: a model's answer may hold lone surrogates.
    task = json.dumps({"setup": setup, "tests": tests, "entry_point": entry_point, "partial": partial}).encode()
    try:
        async with (
            asyncio.timeout(timeout_s),
            using(pool, timeout_s) as sandboxes,
            sandboxes.sandbox("candidate") as candidate,
            sandboxes.sandbox("judge") as judge,
            watched(candidate),
        ):
            await judge.write(task)
            await candidate.write(json.dumps({"program": program, "entry_point": entry_point}).encode())
            return await _examined(candidate, judge)
    except TimeoutError:
        return ProgramResult("timeout", f"not done after {timeout_s:g} s")
    except ProcessEndedError as error:
        return ProgramResult("error", str(error))


async def _examined(candidate: Sandbox, judge: Sandbox) -> ProgramResult:
    while True:
        try:
            frame = await judge.read()
        except ProcessEndedError as error:
            return ProgramResult("error", f"the tests gave no verdict: {error}")
        if not frame.startswith(b'{"call": '):
            verdict = json.loads(frame)
            return ProgramResult(verdict["verdict"], verdict["reason"], verdict["share"])
        await candidate.write(frame[len(b'{"call": ') : -1])
        try:
            reply = await candidate.read()
        except ProcessEndedError as error:
            return ProgramResult("failed", f"the program gave no result: {error}")
        await judge.write(reply)


@asynccontextmanager
async def using(pool: SandboxPool | None, timeout_s: float) -> AsyncIterator[SandboxPool]:
    """`pool`, or one for this time, closed at the end of the context."""
    if pool is not None:
        yield pool
        return
    async with SandboxPool(timeout_s) as own:
        yield own


@asynccontextmanager
async def watched(sandbox: Sandbox) -> AsyncIterator[None]:
    """In this context, kill a sandbox that makes so many files that the kernel's memory for them counts."""
    loop = asyncio.get_running_loop()
    failures: list[IsolationError] = []
    timers: list[asyncio.TimerHandle] = []

    def count() -> None:
        try:
            if sandbox.num_files() <= MAX_FILES_MADE:
                timers[:] = [loop.call_later(COUNTED_EVERY_S, count)]
                return
        except IsolationError as error:
            failures.append(error)
        sandbox.kill()

    timers.append(loop.call_later(COUNTED_EVERY_S, count))
    try:
        yield
    finally:
        timers[0].cancel()
        if failures:
            raise failures[0]


def described(reply: list[Any]) -> str:
    """What a sandboxed process says it raised, in words."""
    return f"{reply[1][0] if reply[1] else 'it ended'}: {reply[2]}"
