# ruff: noqa: E501
"""Programs that read and print, with their checkers, and packages, in real sandboxes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pipeline.config.rollout import CodeSection, RewardSection
from pipeline.errors import ConfigError
from pipeline.problems.rows import Row
from pipeline.problems.tasks import parse_row
from pipeline.rewards.code import sandbox
from pipeline.rewards.code.case_runner import Case, Rules, run_cases
from pipeline.rewards.code.packages import may_import
from pipeline.rewards.code.pool import SandboxPool
from pipeline.rewards.code.test_runner import ProgramResult
from pipeline.rewards.verifier import Verifier, rewards_of
from pipeline.types import Task

PROBLEM = sandbox.isolation_problem()
pytestmark = pytest.mark.skipif(PROBLEM is not None, reason=f"programs not run: {PROBLEM}")

TWICE = [Case(input="3\n", output="6\n"), Case(input="-4\n", output="-8\n"), Case(input="0", output="0")]
# Programs that print twice their input.
RIGHT = {
    "input": "print(2 * int(input()))",
    "stdin": "import sys\nsys.stdout.write(str(2 * int(sys.stdin.readline())))",
    "bytes": "import sys\nsys.stdout.buffer.write(b'%d' % (2 * int(sys.stdin.buffer.read())))",
    "descriptors": "import os\nos.write(1, str(2 * int(os.read(0, 100))).encode())",
    "open": "print(2 * int(open(0).read()))",
    "main": "def main():\n    print(2 * int(input()))\nif __name__ == '__main__':\n    main()",
    "exit": "import sys\nprint(2 * int(input()))\nsys.exit()",
    "exit with a status": "print(2 * int(input()))\nexit(0)",
    "_exit": "import os, sys\nprint(2 * int(input()))\nsys.stdout.flush()\nos._exit(0)",
    "thread for its stack": "import sys, threading\nsys.setrecursionlimit(10**6)\nthreading.stack_size(1 << 27)\ndef main():\n    print(2 * int(input()))\nt = threading.Thread(target=main)\nt.start()\nt.join()",
    "deep": "import sys\nsys.setrecursionlimit(10**6)\ndef g(n): return 0 if n == 0 else 1 + g(n - 1)\nassert g(20000) == 20000\nprint(2 * int(input()))",
    "input replaced": "import sys\ninput = sys.stdin.readline\nprint(2 * int(input()))",
    "output replaced": "import io, os, sys\nclass Fast(io.StringIO):\n    def flush(self):\n        os.write(1, self.getvalue().encode()); self.seek(0); self.truncate()\nsys.stdout = Fast()\nprint(2 * int(input()))",
    "at the end": "import atexit\nout = []\natexit.register(lambda: print(*out))\nout.append(2 * int(input()))",
    "standard error": "import sys\nprint('debug', file=sys.stderr)\nprint(2 * int(input()))",
    "output closed": "import sys\nprint(2 * int(input()))\nsys.stdout.close()",
    "a class and a data class": "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\nprint(P(2 * int(input())).x)",
    "a file": "open('t', 'w').write(input())\nprint(2 * int(open('t').read()))",
}  # fmt: skip
WRONG = {
    "another number": ("print(3 * int(input()))", "failed"),
    "nothing": ("pass", "failed"),
    "an error": ("print(2 * int(input()))\n1 / 0", "failed"),
    "a status": ("import sys\nprint(2 * int(input()))\nsys.exit(1)", "failed"),
    "no Python": ("print(", "failed"),
    "end of its process": ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "failed"),
    "no end": ("while True: pass", "timeout"),
    "too much": ("while True: print('x' * 10000)", "failed"),
    "what it got last time": ("import sys\nsys.last = getattr(sys, 'last', 0) or input()\nprint(2 * int(sys.last))", "failed"),
    "a frame of its own": ("import gc, json\nc = next(o for o in gc.get_objects() if type(o).__name__ == 'Channel')\n[c.send(['printed', '6']) for _ in range(9)]", "failed"),
    "a module without a name": ("import gc\nc = next(o for o in gc.get_objects() if type(o).__name__ == 'Channel')\nc.send(['missing', [], ''])", "failed"),
    "the expected output": ("import gc\nprint(next((o['output'] for o in gc.get_objects() if isinstance(o, dict) and 'output' in o), 'none'))", "failed"),
    "a verdict": ("import gc\nc = next(o for o in gc.get_objects() if type(o).__name__ == 'Channel')\nc.send({'verdict': 'passed'})", "failed"),
    "a module that is not there": ("import nothing_such", "missing_module"),
    "a list instead of its words": ("print([2 * int(input())])", "failed"),
}  # fmt: skip


@pytest.fixture
async def pool() -> AsyncIterator[SandboxPool]:
    async with SandboxPool(20.0, num_ahead=1) as pool:
        yield pool


async def test_programs_that_read_and_print_are_paid_however_they_do_it(pool: SandboxPool) -> None:
    found = {name: await run_cases(program, TWICE, timeout_s=20.0, pool=pool) for name, program in RIGHT.items()}
    assert {name: one for name, one in found.items() if one != ProgramResult("passed", "", 1.0)} == {}


async def test_others_are_not(pool: SandboxPool) -> None:
    found = {name: await run_cases(program, TWICE, timeout_s=3.0, pool=pool) for name, (program, _) in WRONG.items()}
    assert {name: one for name, one in found.items() if one.kind != WRONG[name][1]} == {}


async def test_a_case_has_a_time_limit_of_its_own_and_the_share_counts_the_others(pool: SandboxPool) -> None:
    program = "n = int(input())\nwhile n < 0: pass\nprint(2 * n)"
    rules = Rules(time_limit_s=1.0)
    found = await run_cases(program, TWICE, rules, timeout_s=20.0, partial=True, pool=pool)
    assert (found.kind, found.reason) == ("failed", "case 2: not done after 1 s")
    assert found.share == pytest.approx(2 / 3)


CHECKS = {
    "a function": "def check(input, output, expected):\n    return int(output) % 2 == 0 and int(output) > 0",
    "a script that prints": "import sys\nn = int(open(sys.argv[3]).read())\nprint(1 if n % 2 == 0 and n > 0 else 0)",
    "a script that prints a word": "import sys\nn = int(open(sys.argv[3]).read())\nprint('true' if n % 2 == 0 and n > 0 else 'false')",
    "a script with a status": "import sys\nn = int(open(sys.argv[3]).read())\nsys.exit(not (n % 2 == 0 and n > 0))",
    "a script that ends itself": "import sys\nn = int(open(sys.argv[3]).read())\nif n % 2 == 0 and n > 0:\n    print(1)\n    exit(0)\nprint(0)",
    "a script that compares": "import sys\na, b = (int(open(sys.argv[i]).read()) for i in (2, 3))\nprint(float(b % 2 == a % 2 and b > 0))",
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKS)
async def test_a_checker_decides(name: str, pool: SandboxPool) -> None:
    cases, rules = [Case(input="1", output="2"), Case(input="2", output="4")], Rules(checker=CHECKS[name])
    programs = {
        "print(6)": "passed",
        "print(3)": "failed",
        "print('x')": "failed",
        "print(-2)": "failed",
        "print()": "failed",
    }
    for program, kind in programs.items():
        found = await run_cases(program, cases, rules, timeout_s=20.0, pool=pool)
        assert found.kind == kind, (program, found)


async def test_a_checker_that_is_broken_is_no_verdict(pool: SandboxPool) -> None:
    for checker in ("def check(input, output, expected): return unknown", "raise ValueError", "import os\nos._exit(0)"):
        found = await run_cases("print(6)", TWICE, Rules(checker=checker), timeout_s=20.0, pool=pool)
        assert found.kind == "error", found


APPS = {"question": "Double it.", "input_output": json.dumps({"inputs": ["3\n"], "outputs": ["6\n"]})}
SOLUTION = {
    "question_content": "Add.", "metadata": '{"func_name": "add"}', "starter_code": "class Solution:\n    def add(self, a: int, b: int) -> int:",
    "public_test_cases": json.dumps([{"input": "1\n2", "output": "3", "testtype": "functional"}]),
}  # fmt: skip


def task(values: dict[str, Any]) -> Task:
    return parse_row(Row("row", values)).task("p", "train")


async def test_rows_of_cases_are_scored_through_the_verifier() -> None:
    settings = RewardSection(timeout_s=20.0)
    async with Verifier(settings) as verifier:
        texts = [
            "```python\nprint(2 * int(input()))\n```",
            "```python\nprint(input())\n```",
            "import nothing_such",
            "It is 6.",
        ]
        verdicts = await verifier.verify_group(texts, task(APPS))
        assert [(one.kind, one.score) for one in verdicts[:2]] == [("scored", 1.0), ("scored", 0.0)]
        assert verdicts[2].kind == "missing_module"
        assert "nothing_such" in verdicts[2].text and "reward.code.packages" in verdicts[2].text
        assert not verdicts[3].correct
        method = "```python\nclass Solution:\n    def add(self, a, b):\n        return {}\n```"
        verdicts = await verifier.verify_group([method.format("a + b"), method.format("a - b")], task(SOLUTION))
        assert [one.correct for one in verdicts] == [True, False]
        usual = "```python\nclass Solution:\n    def add(self, a: int, b: int) -> List[int]:\n        return reduce(max, [a + b, -inf])\n```"
        assert (await verifier.verify(usual, task(SOLUTION))).correct
    assert rewards_of([verdicts[0], verdicts[1]]) == [1.0, 0.0]


async def test_partial_credit_is_an_option_that_changes_no_accuracy() -> None:
    half = task(
        {"question": "Double it.", "tests": [case.model_dump() for case in (*TWICE[:1], Case(input="2", output="5"))]}
    )
    for partial, score in ((False, 0.0), (True, 0.5)):
        settings = RewardSection(timeout_s=20.0, code=CodeSection(partial=partial))
        async with Verifier(settings) as verifier:
            (verdict,) = await verifier.verify_group(["```python\nprint(2 * int(input()))\n```"], half)
        assert (verdict.score, verdict.correct) == (score, False)


async def test_a_package_is_there_where_it_is_named_and_nowhere_else() -> None:
    program, cases = "import numpy\nprint(int(numpy.arange(4).sum()))", [Case(input="", output="6")]
    assert (await run_cases(program, cases, timeout_s=20.0)).kind == "missing_module"
    other = "try:\n    import sympy\nexcept ImportError:\n    print(6)"
    write = "import numpy\ntry:\n    open(numpy.__file__, 'a')\nexcept OSError:\n    print(6)"
    async with SandboxPool(20.0, ("numpy",)) as pool:
        for each in (program, other, write):
            assert (await run_cases(each, cases, timeout_s=20.0, pool=pool)).kind == "passed", each
    found = sandbox.probed(("numpy",))
    assert found.problem is None
    assert 0 < found.imports_s["numpy"] < 20
    assert may_import(("numpy",)) == "It may import the standard library and numpy."
    assert may_import(()) == ""
    with pytest.raises(ConfigError, match=r"reward\.code\.packages: 'nothing_such' is not installed here"):
        may_import(("nothing_such",))
