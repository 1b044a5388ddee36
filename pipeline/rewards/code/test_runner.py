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
| return what equals everything, or changes later | results are rebuilt from plain data (`serialization`) |
| change the arguments, so that the test compares nothing with nothing | they are copies |
| redefine helpers that the tests use | the judge has them from the problem's own `setup` |
| hang, flood, fill memory | it is killed; nothing of it is a pass |

The tests are trusted to mean what they say: a weak test can be passed by a weak program, and one that keeps calling
while it swallows every exception decides for itself. Limits: a test that looks for a changed argument calls an honest
program wrong. One that passes a function, or wants more of a result than its items (an attribute, a method, the length
of an object of a class of the program's own) cannot be judged, and is an 'error'.

| waits | for | woken by |
|---|---|---|
| `run_tests` | the judge's next frame, the candidate's reply to it | their pipes; the clock |
"""

from __future__ import annotations

import asyncio
import json
from typing import Literal, NamedTuple

from pipeline.errors import ProcessEndedError
from pipeline.rewards.code.sandbox import Sandbox, sandboxed

TIMEOUT_S = 5.0


class ProgramResult(NamedTuple):
    """'error' says that the tests could not be run or are at fault; all others are about the program."""

    kind: Literal["passed", "failed", "timeout", "error"]
    reason: str = ""


async def run_tests(
    program: str, tests: str, entry_point: str, *, setup: str = "", timeout_s: float = TIMEOUT_S
) -> ProgramResult:
    """Run `tests` on the function `entry_point` of `program`; seconds include the start of the sandboxes.

    `tests` are assertions that call it by name, or define `check(candidate)` as HumanEval does; `setup` is trusted
    code that they need (HumanEval: the prompt). Raises IsolationError where code cannot be contained.
    """
    try:
        async with (
            asyncio.timeout(timeout_s),
            sandboxed("candidate", timeout_s) as candidate,
            sandboxed("judge", timeout_s) as judge,
        ):
            return await _examine(candidate, judge, program, tests, entry_point, setup)
    except TimeoutError:
        return ProgramResult("timeout", f"not done after {timeout_s:g} s")


async def _examine(
    candidate: Sandbox, judge: Sandbox, program: str, tests: str, entry_point: str, setup: str
) -> ProgramResult:
    try:
        await candidate.ready()
        await judge.ready()
    except ProcessEndedError as error:
        return ProgramResult("error", str(error))
    # json, not orjson: a model's answer may hold lone surrogates.
    await judge.write(json.dumps({"setup": setup, "tests": tests, "entry_point": entry_point}).encode())
    await candidate.write(json.dumps({"program": program, "entry_point": entry_point}).encode())
    while True:
        try:
            frame = await judge.read()
        except ProcessEndedError as error:
            return ProgramResult("error", f"the tests gave no verdict: {error}")
        if not frame.startswith(b'{"call": '):
            verdict = json.loads(frame)
            return ProgramResult(verdict["verdict"], verdict["reason"])
        await candidate.write(frame[len(b'{"call": ') : -1])
        try:
            reply = await candidate.read()
        except ProcessEndedError as error:
            return ProgramResult("failed", f"the program gave no result: {error}")
        await judge.write(reply)
