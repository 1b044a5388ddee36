"""The verdict on an answer that is a program: the program in its text, run on the tests or cases of its label."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import cached_property
from typing import Any

from pipeline.config.rollout import RewardSection
from pipeline.rewards.code.case_runner import Case, Rules, run_cases
from pipeline.rewards.code.extraction import as_program, extract_code, with_usual_names
from pipeline.rewards.code.pool import SandboxPool
from pipeline.rewards.code.test_runner import ProgramResult, run_tests
from pipeline.types import MAX_ANSWER_CHARS, Label, Verdict


class ProgramScorer:
    """Scores one answer at a time, with sandboxes that stand ahead of it. `close` leaves none of them."""

    def __init__(self, settings: RewardSection) -> None:
        self._settings = settings
        self._limit_s = 0.8 * settings.timeout_s  # within the parent's, which would cost a new worker
        self._runner = asyncio.Runner()

    @cached_property
    def _pool(self) -> SandboxPool:
        code = self._settings.code
        return SandboxPool(self._limit_s, code.packages, num_ahead=code.num_ahead)

    def __call__(self, text: str, label: Label, settings: RewardSection, problem: str = "") -> Verdict:
        """By `label.entry`: `tests`, which are code or cases, `entry_point` (empty for a program that reads and prints)
        and, optionally, a `prompt` that the code completes, `setup`, which only the tests see, and `rules`.

        Raises ValueError when the tests cannot be run, IsolationError when nothing can.
        """
        entry = label.entry
        code = extract_code(text, entry["entry_point"])
        if code is None:
            return Verdict(kind="no_answer")
        outcome = self._runner.run(self._outcome(code, entry))
        if outcome.kind == "error":
            raise ValueError(outcome.reason)
        if outcome.kind == "timeout":
            return Verdict(kind="timeout", text=f"the tests were not done in time: {outcome.reason}")
        if outcome.kind == "missing_module":
            return Verdict(kind="missing_module", text=_lacks(outcome.reason))
        passed = outcome.kind == "passed"
        score = 1.0 if passed else outcome.share * settings.code.partial
        # A program may say anything, half a character (a lone surrogate) too.
        reason = " ".join(outcome.reason.encode(errors="replace").decode().split())
        said = f"a test failed: {reason}" if reason and not passed else ""
        return Verdict(kind="scored", score=score, correct=passed, answer=code[:MAX_ANSWER_CHARS], text=said)

    def close(self) -> None:
        if "_pool" in vars(self):
            self._runner.run(self._pool.__aexit__(None, None, None))
        self._runner.close()

    def _outcome(self, code: str, entry: dict[str, Any]) -> Coroutine[Any, Any, ProgramResult]:
        tests, entry_point, prompt = entry["tests"], entry["entry_point"], entry.get("prompt", "")
        partial = self._settings.code.partial
        if not isinstance(tests, str):
            cases, rules = [Case.model_validate(case) for case in tests], Rules.model_validate(entry.get("rules", {}))
            return run_cases(code, cases, rules, timeout_s=self._limit_s, partial=partial, pool=self._pool)
        setup = "\n".join(part for part in (prompt, entry.get("setup", "")) if part)
        program = as_program(code, prompt, entry_point)
        if entry_point == "Solution":
            program = with_usual_names(program)
        return run_tests(
            program, tests, entry_point, setup=setup, timeout_s=self._limit_s, partial=partial, pool=self._pool
        )


def _lacks(module: str) -> str:
    return (
        f"a program imports {module}, which its sandbox lacks; name it in reward.code.packages, or say in the problems "
        "what may be imported"
    )
