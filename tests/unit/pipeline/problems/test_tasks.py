"""Rows as tasks: programs, templates, and what a broken row is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.problems import ProblemsSection
from pipeline.errors import DataError
from pipeline.problems.benchmark_items import find_benchmark, tasks_of
from pipeline.problems.dataset import load_problems
from pipeline.problems.rows import Row
from pipeline.problems.tasks import RowFormat, parse_row
from pipeline.types import Task

OURS = {"question": "Write f(x), twice x.", "tests": "assert f(2) == 4", "entry_point": "f"}
HUMAN_EVAL = {
    "task_id": "HumanEval/0",
    "prompt": (
        'import math\n\ndef area(r: float) -> float:\n    """Area of a circle.\n    >>> area(0)\n    0\n    """\n'
    ),
    "canonical_solution": "    return math.pi * r * r\n",
    "test": "def check(candidate):\n    assert candidate(0) == 0\n",
    "entry_point": "area",
}
MBPP: dict[str, Any] = {
    "task_id": 601,
    "text": "Write a function to find shared elements.",
    "code": "def similar(a, b):\n  return SECRET",
    "test_setup_code": "pair = (1, 2)",
    "test_list": ["assert set(similar(pair, (2, 3))) == set((2,))", "assert len(similar((1,), (2,))) == 0"],
}


def task(values: dict[str, Any]) -> Task:
    parsed = parse_row(Row("file, line 3", values))
    return parsed.task(parsed.own_id or "none", "train")


def test_our_own_row() -> None:
    read = task(OURS)
    assert (read.problem.text, read.problem.form) == (OURS["question"], "code")
    assert (read.problem.id, read.label.problem_id) == ("none", "none")
    assert (read.label.answer, read.label.entry) == ("", {"prompt": "", "tests": OURS["tests"], "entry_point": "f"})
    assert task({**OURS, "setup": "x = 1", "id": "mine"}).label.entry["setup"] == "x = 1"
    assert task({**OURS, "question": "Twice x."}).problem.text == "Twice x.\nThe function is called `f`."
    assert task({**OURS, "tests": ["assert f(2) == 4", "assert f(3) == 6"]}).label.entry["tests"].count("\n") == 1


def test_a_row_of_human_eval() -> None:
    read = task(HUMAN_EVAL)
    assert (read.problem.id, read.problem.form) == ("HumanEval/0", "code")
    assert HUMAN_EVAL["prompt"].strip() in read.problem.text
    assert read.label.entry == {"tests": HUMAN_EVAL["test"], "entry_point": "area", "prompt": HUMAN_EVAL["prompt"]}
    assert "math.pi" not in json.dumps([read.problem.model_dump(), read.label.model_dump()])


def test_a_row_of_mbpp() -> None:
    read = task(MBPP)
    assert read.problem.id == "601"
    assert read.problem.text == "Write a function to find shared elements.\nThe function is called `similar`."
    assert read.label.entry == {
        "prompt": "",
        "tests": "\n".join(MBPP["test_list"]),
        "entry_point": "similar",
        "setup": "pair = (1, 2)",
    }
    assert "SECRET" not in json.dumps([read.problem.model_dump(), read.label.model_dump()])
    sanitized = {"prompt": "Write it.", "test_imports": ["import math"], "test_list": ["assert math.sqrt(f(4)) == 2"]}
    assert task(sanitized).label.entry == {
        "prompt": "",
        "tests": "assert math.sqrt(f(4)) == 2",
        "entry_point": "f",
        "setup": "import math",
    }


def test_the_function_is_the_outermost_that_all_assertions_call() -> None:
    def entry_point(*tests: str, setup: str = "") -> str:
        found: str = task({"text": "T", "test_list": [*tests], "test_setup_code": setup}).label.entry["entry_point"]
        return found

    assert entry_point("assert outer(inner(1)) == 2", "assert outer(2) == 3") == "outer"
    assert entry_point("assert sorted(f([2, 1])) == [1, 2]") == "f"
    assert entry_point("assert f(Node(1)) == 1", "assert f(Node(2)) == 2", setup="class Node:\n    pass") == "f"
    assert entry_point("assert not f(1)", "x = g(1)", "assert f(2)") == "f"
    assert entry_point("from fractions import Fraction\nassert f(1) == Fraction(1, 2)") == "f"
    assert entry_point("@f\ndef g(x): return x", "assert g(1) == 2") == "f"
    assert entry_point("add, get = f(1)", "add(2)", "assert get() == 3") == "f"
    assert entry_point("x = [1]", "f(x)", "assert x == [1]") == "f"
    assert entry_point("async def main(): return await f(1)", "assert asyncio.run(main()) == 2") == "f"
    assert entry_point("from solution import f, g", "def test_g(): assert g(f(1)) == 2") == "f"
    assert entry_point("s = Stack()", "s.push(1)", "assert s.pop() == 1") == "Stack"
    assert entry_point("try:\n    f(1)\nexcept ValueError as e:\n    assert str(e)") == "f"


def test_a_method_under_test_as_leetcode_names_it() -> None:
    row = {
        "question": "Q",
        "tests": "def check(candidate):\n    assert candidate(1) == 2",
        "entry_point": "Solution().f",
    }
    entry = task(row).label.entry
    names: dict[str, object] = {}
    exec(entry["tests"], names)
    for found, right in (("x + 1", True), ("x", False)):
        exec(f"class Solution:\n    def f(self, x): return {found}", names)
        try:
            exec("check(Solution)", names)
            assert right
        except AssertionError:
            assert not right
    assert entry["entry_point"] == "Solution"


def test_a_solution_helps_to_find_the_function_and_may_be_broken() -> None:
    tests = ["assert near(area(2), 12.6)", "assert near(area(0), 0)"]
    row = {"text": "T", "test_list": tests, "test_setup_code": "def near(a, b):\n    return abs(a - b) < 1"}
    assert task(row).label.entry["entry_point"] == "area"
    assert task({**row, "test_setup_code": None}).label.entry["entry_point"] == "near"
    solved = {**row, "test_setup_code": None, "code": "def area(r):\n    return 3.14 * r * r"}
    assert task(solved).label.entry["entry_point"] == "area"
    assert task({**row, "code": "def area(:"}).label.entry["entry_point"] == "area"


def test_a_template_shows_what_it_says_and_names_the_function_only_where_it_does_not() -> None:
    def text(prompt: str, values: dict[str, Any]) -> str:
        return parse_row(Row("row", values), RowFormat(prompt=prompt, form="code")).text

    assert text("Do: {{question}}", MBPP).endswith("elements.\nThe function is called `similar`.")
    shown = text("{{question}}\nTests:\n{{tests}}", MBPP)
    assert shown == MBPP["text"] + "\nTests:\n" + "\n".join(MBPP["test_list"])
    assert text("Go on:\n{{question}}", HUMAN_EVAL) == f"Go on:\n{HUMAN_EVAL['prompt']}".strip()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({**OURS, "entry_point": "a b"}, "entry_point = 'a b'; give the name"),
        ({**OURS, "entry_point": "g"}, "the tests neither call 'g' nor define check"),
        ({**OURS, "tests": ""}, "tests = '' holds no tests"),
        ({**OURS, "tests": [1]}, "tests = [1] is no code, neither a text nor a list of texts"),
        ({**OURS, "tests": "assert f(1"}, "tests is not Python"),
        ({**OURS, "setup": "def"}, "setup is not Python"),
        ({**OURS, "question": " "}, "question = ' ' is no text"),
        ({**OURS, "id": 1.5}, "id = 1.5"),
        ({"tests": "assert f(1)", "entry_point": "f"}, "has none of the keys question, problem, prompt, text"),
        ({**HUMAN_EVAL, "entry_point": "volume", "test": "assert volume(1)"}, "begins area, but not 'volume'"),
        ({**HUMAN_EVAL, "task_id": []}, "task_id = []"),
        ({**MBPP, "test_list": []}, "test_list = [] holds no tests"),
        (
            {**MBPP, "code": None, "test_list": ["assert f(1)", "assert g(1)"]},
            "that all call one function; give its name",
        ),
        ({**MBPP, "text": None}, "has none of the keys question, problem, prompt, text"),
    ],
)
def test_a_broken_row_is_named(values: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError) as caught:
        task(values)
    assert str(caught.value).startswith("file, line 3: ")
    assert words in str(caught.value)


def test_a_file_may_mix_programs_and_answers(tmp_path: Path) -> None:
    lines = [OURS, HUMAN_EVAL, MBPP, {"question": "2 + 2?", "answer": "4"}]
    path = tmp_path / "mixed.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    problems = load_problems(ProblemsSection(source="jsonl", train_file=str(path), num_heldout=1), 0)
    assert [task.problem.form for task in problems.train] == ["code"] * 3
    assert problems.heldout[0].problem.form == "boxed"
    forms = [task.problem.form for task in tasks_of(find_benchmark(str(path)))]
    assert forms == ["code"] * 3 + ["boxed"]
