"""Programming problems through the real sandbox: references pass and mutants do not, and the loop is paid by tests.

Where bubblewrap cannot be had, what needs it is skipped, and the refusal is tested all the same."""

import ast
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.problems import FamilySettings, ProblemsSection
from pipeline.config.rollout import RewardSection
from pipeline.errors import ConfigError
from pipeline.problems.benchmark_items import find_benchmark, tasks_of
from pipeline.problems.code_families import FAMILIES, Exercise
from pipeline.problems.dataset import load_problems
from pipeline.problems.procedural_code import generate
from pipeline.problems.rows import Row
from pipeline.problems.tasks import parse_row
from pipeline.rewards.code import sandbox
from pipeline.rewards.code.test_runner import run_tests
from pipeline.rewards.verifier import Verifier
from pipeline.types import Task
from tests.builders import task_with
from tests.integration.conftest import StartMock
from tests.integration.wired_loop import make_loop

needs_isolation = pytest.mark.skipif(bool(sandbox.isolation_problem()), reason=str(sandbox.isolation_problem()))
NUM_PER_FAMILY = 2


def exercises(name: str) -> Iterator[tuple[Task, Exercise]]:
    """A few tasks of a family, each with the exercise it was made from, found by drawing as the source draws."""
    section = ProblemsSection(
        source="procedural_code", families=(FamilySettings(name=name),), num_train=NUM_PER_FAMILY, num_heldout=1
    )
    _, train = generate(section, 0)
    rng = random.Random(f"code:train:0:{name}")
    drawn = {exercise.question: exercise for exercise in (FAMILIES[name](rng) for _ in range(50))}
    for task in train:
        yield task, drawn[task.problem.text]


class Shifted(ast.NodeTransformer):
    """Moves every number by one; where there is none, every result is another one."""

    def visit_Return(self, node: ast.Return) -> ast.AST:
        before = ast.unparse(node)
        self.generic_visit(node)
        if ast.unparse(node) == before and node.value is not None:
            node.value = ast.Tuple([node.value], ast.Load())
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant(node.value + 1) if type(node.value) is int else node


def mutants(reference: str, name: str) -> dict[str, str]:
    head = reference.partition("\n")[0]
    return {
        "off by one": ast.unparse(ast.fix_missing_locations(Shifted().visit(ast.parse(reference)))),
        "nothing": f"{head}\n    pass",
        "a constant": f"{head}\n    return 0",
        "True": f"{head}\n    return True",
        "an empty text": f"{head}\n    return ''",
        "its argument": f"{head}\n    return {head.partition('(')[2].partition(')')[0].partition(',')[0]}",
        "another name": reference.replace(f"def {name}(", f"def other_{name}("),
    }


@needs_isolation
@pytest.mark.parametrize("name", FAMILIES)
async def test_references_pass_in_the_sandbox_and_mutants_do_not(name: str) -> None:
    for number, (task, exercise) in enumerate(exercises(name)):
        tests = task.label.entry["tests"]
        outcome = await run_tests(exercise.reference, tests, exercise.name, timeout_s=30.0)
        assert outcome.kind == "passed", (exercise.reference, outcome)
        broken = mutants(exercise.reference, exercise.name)
        for which, program in broken.items() if not number else [("off by one", broken["off by one"])]:
            outcome = await run_tests(program, tests, exercise.name, timeout_s=30.0)
            assert outcome.kind == "failed", (which, program, outcome)


@needs_isolation
async def test_auto_runs_programs_and_compares_answers() -> None:
    rows: list[dict[str, Any]] = [
        {"question": "Twice x.", "tests": "assert f(two) == 4", "entry_point": "f", "setup": "two = 2"},
        {
            "prompt": "import math\n\ndef half(x):\n    '''Half.'''\n",
            "test": "def check(candidate):\n    assert candidate(math.floor(4.5)) == 2\n",
            "entry_point": "half",
        },
        {"text": "Remove it.", "test_list": ["assert cut('aba', 'a') == 'b'", "assert cut('', 'a') == ''"]},
        {"question": "14 / 4?", "answer": "3.5"},
    ]
    tasks = [parse_row(Row("row", values)).task(f"row-{n}", "train") for n, values in enumerate(rows)]
    right = [
        "```python\ndef f(x):\n    return 2 * x\n```",
        "    return math.floor(x) // 2\n",
        "So:\n```python\ndef cut(text, letter):\n    return text.replace(letter, '')\n```\nIt is right.",
        "\\boxed{\\frac{7}{2}}",
    ]
    wrong = ["```python\ndef f(x):\n    return two\n```", "    return x\n", "```python\ncut = max\n```", "\\boxed{3}"]
    async with Verifier(RewardSection(timeout_s=30.0)) as verifier:
        for one, good, bad in zip(tasks, right, wrong, strict=True):
            verdicts = await verifier.verify_group([good, bad], one)
            assert [(verdict.kind, verdict.correct) for verdict in verdicts] == [("scored", True), ("scored", False)]


@needs_isolation
async def test_a_row_with_a_setup_is_judged_alike_in_training_and_in_evaluation(tmp_path: Path) -> None:
    row = {"question": "Add one.", "tests": "assert f(K) == K + 1", "entry_point": "f", "setup": "K = 3"}
    file = tmp_path / "rows.jsonl"
    file.write_text(f'{json.dumps(row)}\n{{"question": "2 + 2?", "answer": "4"}}\n', encoding="utf-8")
    trained = load_problems(ProblemsSection(source="jsonl", train_file=str(file), num_heldout=1), 0).train[0]
    evaluated = tasks_of(find_benchmark(str(file)))[0]
    assert trained.problem.text == evaluated.problem.text == "Add one.\nThe function is called `f`."
    programs = [f"```python\ndef f(x):\n    return {value}\n```" for value in ("x + 1", "x + 2", "K + 1")]
    async with Verifier(RewardSection(timeout_s=30.0)) as verifier:
        for one in (trained, evaluated):
            verdicts = await verifier.verify_group(programs, one)
            # The third one uses a name of the setup, which only the tests have.
            assert [(one.kind, one.correct) for one in verdicts] == [
                ("scored", True),
                ("scored", False),
                ("scored", False),
            ]


async def test_without_isolation_answers_are_scored_and_programs_end_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    program = task_with("", "twice", tests="assert f(2) == 4", entry_point="f")
    async with Verifier(RewardSection(timeout_s=30.0)) as verifier:
        assert (await verifier.verify("\\boxed{7}", task_with("7"))).correct
        with pytest.raises(
            ConfigError, match=r"problem 'twice' asks for a program, but .*no `bwrap`; install bubblewrap"
        ):
            await verifier.verify_group(["def f(x): return 2 * x"] * 3, program)
        assert (await verifier.verify("\\boxed{7}", task_with("7"))).correct


@needs_isolation
async def test_the_loop_is_paid_by_the_tests(tmp_path: Path, start_mock: StartMock) -> None:
    """The mock answers with programs, half of them wrong."""
    problems = {"source": "procedural_code", "families": [{"name": "formula"}, {"name": "formula_of_two"}]}
    sections: dict[str, Any] = {
        "reward": {"timeout_s": 30.0},
        "feedback": {"similarity_threshold": 0.5},
        "learner": {"num_steps": 3},
    }
    async with make_loop(
        tmp_path, start_mock, problems={"num_train": 40, "num_heldout": 16, **problems}, **sections
    ) as loop:
        await loop.bring_servers_to(99)
        await loop.scheduler().run(0)
        groups = loop.groups(3)
    assert len(groups) == 12
    rewards = set()
    for group in groups:
        assert group.problem.form == "code"
        for rollout in group.rollouts:
            if group.context.kind == "scratch":
                assert rollout.verdict.kind == "scored"
                assert rollout.reward == float(" + 1\n```" not in rollout.text)
                rewards.add(rollout.reward)
    assert rewards == {0.0, 1.0}
