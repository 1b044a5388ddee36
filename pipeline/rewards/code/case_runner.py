"""Runs a program that reads its standard input and prints, on the cases of a problem, and compares what it printed.

The program has one sandbox for all its cases, in which the expected output never is; the comparison is made here
(`outputs`), or by the problem's own checker in a sandbox of its own.

| waits | for | woken by |
|---|---|---|
| `run_cases` | what the program printed, what the checker says of it | their pipes; the clock, of a case and of all |
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from pydantic import Field

from pipeline.config.base import Section
from pipeline.errors import ProcessEndedError
from pipeline.rewards.code.bundle import Role
from pipeline.rewards.code.outputs import Whitespace, same_output
from pipeline.rewards.code.pool import SandboxPool
from pipeline.rewards.code.sandbox import Sandbox
from pipeline.rewards.code.test_runner import TIMEOUT_S, ProgramResult, described, using, watched

PICKY = {"ValueError", "LookupError", "TypeError", "AssertionError", "EOFError", "ArithmeticError", "StopIteration"}
"""What a checker may raise of an output that it cannot read."""


class Case(Section):
    input: str
    output: str


class Rules(Section):
    """When an output is right."""

    checker: str = Field("", description="Program that decides (`pipeline.rewards.code.checker`).")
    whitespace: Whitespace = "lines"
    tolerance: float | None = None
    time_limit_s: float | None = Field(None, description="Of one case.")


class CheckerError(Exception):
    """The checker does not accept what is expected either."""


async def run_cases(
    program: str,
    cases: Sequence[Case],
    rules: Rules = Rules(),  # noqa: B008 - frozen
    *,
    timeout_s: float = TIMEOUT_S,
    partial: bool = False,
    pool: SandboxPool | None = None,
) -> ProgramResult:
    """Run `program` on each of `cases`, until one fails; `partial`: on all. Raises IsolationError."""
    async with using(pool, timeout_s) as sandboxes:
        run = _Run(program, rules, sandboxes)
        try:
            async with asyncio.timeout(timeout_s):
                return await run.verdict(cases, partial)
        except TimeoutError:
            return ProgramResult("timeout", f"not done after {timeout_s:g} s")
        except (ProcessEndedError, CheckerError) as error:
            return ProgramResult("error", str(error))
        finally:
            await asyncio.shield(run.close())


class _Run:
    """One program, with the sandboxes that its cases use."""

    def __init__(self, program: str, rules: Rules, pool: SandboxPool) -> None:
        self._program, self._rules, self._pool = program, rules, pool
        self._open: dict[Role, tuple[Sandbox, AsyncExitStack]] = {}

    async def verdict(self, cases: Sequence[Case], partial: bool) -> ProgramResult:
        num_passed, first = 0, ""
        for number, case in enumerate(cases, start=1):
            fault = await self._fault(case)
            if isinstance(fault, ProgramResult):
                return fault
            num_passed += fault is None
            first = first or (f"case {number}: {fault}" if fault else "")
            if first and not partial:
                break
        share = num_passed / len(cases)
        return ProgramResult("failed", first, share) if first else ProgramResult("passed", "", 1.0)

    async def close(self) -> None:
        for _, stack in self._open.values():
            await stack.aclose()

    async def _fault(self, case: Case) -> str | ProgramResult | None:
        """What is wrong with the program's output; None where it is right."""
        try:
            async with asyncio.timeout(self._rules.time_limit_s):
                reply = await self._printed(case.input)
        except (TimeoutError, ProcessEndedError) as error:
            if "printer" not in self._open:
                raise
            await self._open["printer"][1].aclose()
            del self._open["printer"]
            return f"not done after {self._rules.time_limit_s:g} s" if isinstance(error, TimeoutError) else str(error)
        if reply[0] == "missing":
            return ProgramResult("missing_module", str(reply[1][0]))
        if reply[0] != "printed":
            return described(reply)
        if self._rules.checker:
            return None if await self._accepts(case, reply[1]) else "the checker refuses its output"
        if same_output(case.output, reply[1], self._rules.whitespace, self._rules.tolerance):
            return None
        return f"another output than expected: {reply[1][:100]!r}"

    async def _printed(self, given: str) -> list[Any]:
        printer = await self._sandbox("printer", {"program": self._program})
        await printer.write(json.dumps({"input": given}).encode())
        return _reply(await printer.read())

    async def _accepts(self, case: Case, output: str) -> bool:
        said = await self._checked(case, output)
        if said[0] == "said":
            return bool(said[1] > 0)
        if PICKY.intersection(said[1]) and (await self._checked(case, case.output))[0] == "said":
            return False
        raise CheckerError(f"the problem's checker fails: {described(said)}")

    async def _checked(self, case: Case, output: str) -> list[Any]:
        checker = await self._sandbox("checker", {"checker": self._rules.checker})
        values = {"input": case.input, "expected": case.output, "output": output}
        await checker.write(json.dumps(values).encode())
        found: list[Any] = json.loads(await checker.read())
        return found

    async def _sandbox(self, role: Role, task: dict[str, str]) -> Sandbox:
        """The sandbox of `role`, which gets its `task` when it is opened."""
        if role not in self._open:
            stack = AsyncExitStack()
            sandbox = await stack.enter_async_context(self._pool.sandbox(role))
            self._open[role] = sandbox, stack
            if role == "printer":  # the one with code that nobody trusts
                await stack.enter_async_context(watched(sandbox))
            await sandbox.write(json.dumps(task).encode())
        return self._open[role][0]


def _reply(frame: bytes) -> list[Any]:
    """What a program's sandbox sent, which the program may have written itself."""
    try:
        found = json.loads(frame)
    except (ValueError, RecursionError):
        found = None
    match found:
        case ["printed", str()] | [str(), [str(), *_], str()] | ["ended", [], str()]:
            return found
    return ["ended", [], "what it sent is no reply"]
