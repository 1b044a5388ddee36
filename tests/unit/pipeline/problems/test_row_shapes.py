"""Shapes of rows: each is read, or refused, alike for training and for evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.problems import ProblemsSection
from pipeline.errors import DataError
from pipeline.evaluation.plan import task_hash
from pipeline.problems.benchmark_items import find_benchmark, tasks_of
from pipeline.problems.dataset import load_problems
from pipeline.types import Task
from tests.unit.pipeline.problems.test_tasks import HUMAN_EVAL, MBPP, OURS

HEAD = 'def twice(x: int) -> int:\n    """Twice x."""\n'


CHECK = "def check(candidate):\n    assert candidate(2) == 4\n"


WRAPPED = f"Complete the Python function `twice`:\n```python\n{HEAD.strip()}\n```"


QUESTIONS: list[tuple[dict[str, Any], str, str]] = [
    ({"question": "2 + 2?", "answer": "4"}, "2 + 2?", "4"),
    ({"question": " 2 + 2?\n", "answer": " 4 "}, "2 + 2?", "4"),
    ({"problem": "2 + 2?", "answer": 4}, "2 + 2?", "4"),
    ({"prompt": "2 + 2?", "answer": 4.0}, "2 + 2?", "4.0"),
    ({"question": "A?", "problem": "B?", "prompt": "C?", "answer": "x"}, "A?", "x"),
    ({"question": None, "problem": "B?", "answer": "x"}, "B?", "x"),
    ({"question": "How many?", "answer": "1,000 + 72 is it.\n#### 1,072"}, "How many?", "1072"),
    ({"question": "How many?", "answer": "#### -1,000.5"}, "How many?", "-1000.5"),
    ({"question": "Find.", "answer": "\\boxed{\\frac{3}{4}}"}, "Find.", "\\frac{3}{4}"),
    ({"question": "Find.", "answer": "$7$"}, "Find.", "7"),
    ({"question": "Find.", "answer": "so $x = 7$ #### $7$"}, "Find.", "7"),
    ({"question": "Price?", "answer": "$7"}, "Price?", "$7"),
    ({"question": "Price?", "answer": "\\$7$"}, "Price?", "\\$7$"),
    ({"question": "Find.", "answer": ["$-1$,$7$"]}, "Find.", "-1,7"),
    ({"question": "Wie groß ist π?", "answer": "≈ 3,14"}, "Wie groß ist π?", "≈ 3,14"),
    ({"question": "什么？", "answer": "十"}, "什么？", "十"),
    ({"question": "What are {{question}} and {{tests}}?", "answer": "x"}, "What are {{question}} and {{tests}}?", "x"),
    ({"question": "2?", "answer": "2", "test": "a column", "code": 3, "nested": {"answer": ["3"]}}, "2?", "2"),
    ({"question": "2?", "answer": "2", "tests": None, "test_list": None, "entry_point": None}, "2?", "2"),
    ({"question": "2?", "answer": 10**30}, "2?", "1" + "0" * 30),
]


"""Rows that ask for an answer, the prompt and the gold answer that are read from them."""


PROGRAMS: list[tuple[dict[str, Any], str, dict[str, str]]] = [
    (OURS, OURS["question"], {"prompt": "", "tests": "assert f(2) == 4", "entry_point": "f"}),
    (
        {**OURS, "question": "Twice x."},
        "Twice x.\nThe function is called `f`.",
        {"prompt": "", "tests": "assert f(2) == 4", "entry_point": "f"},
    ),
    (
        {"question": "Twice x.", "tests": "assert f(2) == 4"},
        "Twice x.\nThe function is called `f`.",
        {"prompt": "", "tests": "assert f(2) == 4", "entry_point": "f"},
    ),
    (
        {
            "problem": "Add K.",
            "tests": ["assert f(2) == 2 + K", "assert f(0) == K"],
            "entry_point": "f",
            "setup": "K = 3",
        },
        "Add K.\nThe function is called `f`.",
        {"prompt": "", "tests": "assert f(2) == 2 + K\nassert f(0) == K", "entry_point": "f", "setup": "K = 3"},
    ),
    (
        {**OURS, "setup": ["import math", "K = math.pi"], "answer": "not read"},
        OURS["question"],
        {"prompt": "", "tests": "assert f(2) == 4", "entry_point": "f", "setup": "import math\nK = math.pi"},
    ),
    (
        {
            "task_id": "HumanEval/0",
            "prompt": HEAD,
            "test": CHECK,
            "entry_point": "twice",
            "canonical_solution": "    pass",
        },
        WRAPPED,
        {"prompt": HEAD, "tests": CHECK, "entry_point": "twice"},
    ),
    (
        {"prompt": f"import math\n\n{HEAD}", "test": CHECK, "entry_point": "twice"},
        WRAPPED.replace("def twice", "import math\n\ndef twice"),
        {"prompt": f"import math\n\n{HEAD}", "tests": CHECK, "entry_point": "twice"},
    ),
    (
        {"prompt": "Twice x.", "test": CHECK, "entry_point": "twice"},
        "Twice x.\nThe function is called `twice`.",
        {"prompt": "", "tests": CHECK, "entry_point": "twice"},
    ),
    (
        {"prompt": "Twice x.", "test": "assert twice(2) == 4"},
        "Twice x.\nThe function is called `twice`.",
        {"prompt": "", "tests": "assert twice(2) == 4", "entry_point": "twice"},
    ),
    (
        {**OURS, "question": HEAD, "entry_point": "twice", "tests": "assert twice(2) == 4"},
        HEAD.strip(),
        {"prompt": "", "tests": "assert twice(2) == 4", "entry_point": "twice"},
    ),
    (
        MBPP,
        "Write a function to find shared elements.\nThe function is called `similar`.",
        {
            "prompt": "",
            "tests": "\n".join(MBPP["test_list"]),
            "entry_point": "similar",
            "setup": "pair = (1, 2)",
        },
    ),
    (
        {"prompt": "Root of x.", "test_imports": ["import math"], "test_list": ["assert math.isclose(root(4), 2)"]},
        "Root of x.\nThe function is called `root`.",
        {"prompt": "", "tests": "assert math.isclose(root(4), 2)", "entry_point": "root", "setup": "import math"},
    ),
    (
        {"text": "Größe von x, bitte `größe`.", "test_list": ["assert größe('é') == 1"], "entry_point": "größe"},
        "Größe von x, bitte `größe`.",
        {"prompt": "", "tests": "assert größe('é') == 1", "entry_point": "größe"},
    ),
    (
        {"question": "What is {{tests}}?", "tests": "assert f(2) == 4", "entry_point": "f", "test": CHECK},
        "What is {{tests}}?\nThe function is called `f`.",
        {"prompt": "", "tests": "assert f(2) == 4", "entry_point": "f"},
    ),
]


"""Rows that ask for a program, the prompt and the label's entry that are read from them."""


REFUSED: list[tuple[Any, str]] = [
    ({}, "none of the keys question, problem, prompt"),
    (["Q", "7"], "a JSON list"),
    ({"text": "Q", "answer": "7"}, "none of the keys question, problem, prompt"),
    ({"question": "Q"}, "no key 'answer'"),
    ({"question": "Q", "answer": None}, "no key 'answer'"),
    ({"question": "Q", "answer": True}, "neither text nor number"),
    ({"question": "Q", "answer": {"value": 7}}, "neither text nor number"),
    ({"question": "Q", "answer": [["7"]]}, "neither text nor number"),
    ({"question": "Q", "answer": ["7", None]}, "neither text nor number"),
    ({"question": "Q", "answer": []}, "holds no answer"),
    ({"question": "Q", "answer": "$$"}, "holds no answer"),
    ({"question": "Q", "answer": "3 + 4 #### "}, "holds no answer"),
    ({"question": " ", "answer": "7"}, "is no text"),
    ({"question": ["Q"], "answer": "7"}, "is no text"),
    ({"question": 7, "answer": "7"}, "is no text"),
    ({"question": "Q", "answer": "7", "id": 1.5}, "id = 1.5"),
    ({"question": "Q", "answer": "7", "id": True}, "id = True"),
    ({"question": "Q", "answer": "7", "id": " "}, "id = ' '"),
    ({"question": "Q", "tests": "assert 1"}, "that all call one function; give its name"),
    ({"question": "Q", "tests": True, "entry_point": "f"}, "is no code"),
    ({"question": "Q", "tests": {"f": 1}, "entry_point": "f"}, "is no code"),
    ({**OURS, "setup": 3}, "setup = 3 is no code"),
    ({**OURS, "setup": "def"}, "setup is not Python"),
    ({**OURS, "entry_point": 3}, "entry_point = 3; give the name"),
    ({**HUMAN_EVAL, "entry_point": "volume", "test": "assert volume(1)"}, "begins area, but not 'volume'"),
    ({**MBPP, "test_list": ["assert similar("]}, "test_list is not Python"),
    ({"question": "\ud800 Q", "answer": "7"}, "question holds half a character"),
    ({**OURS, "tests": f"assert f({'-' * 20_000}1) == 2"}, "tests is not Python"),
]


"""Rows that cannot be read, and what the error says."""


def trained(file: Path) -> Task:
    """The first row of `file` as a run reads it for training."""
    heldout = file.with_name("heldout.jsonl")
    heldout.write_text('{"question": "Is this held out?", "answer": "yes"}', encoding="utf-8")
    section = ProblemsSection(source="jsonl", train_file=str(file), heldout_file=str(heldout), num_heldout=1)
    return load_problems(section, 0).train[0]


def evaluated(file: Path) -> Task:
    """The first row of `file` as `eval --benchmark` reads it."""
    return tasks_of(find_benchmark(str(file)))[0]


@pytest.fixture
def row_file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(request.param), encoding="utf-8")
    return path


def test_there_are_many_shapes() -> None:
    assert len(QUESTIONS) + len(PROGRAMS) + len(REFUSED) >= 40


@pytest.mark.parametrize(("row_file", "text", "answer"), QUESTIONS, indirect=["row_file"])
def test_a_question_reads_alike_for_training_and_evaluation(row_file: Path, text: str, answer: str) -> None:
    for read in (trained(row_file), evaluated(row_file)):
        assert (read.problem.text, read.problem.form, read.problem.question) == (text, "boxed", "")
        assert (read.label.answer, read.label.entry) == (answer, {})


@pytest.mark.parametrize(("row_file", "text", "entry"), PROGRAMS, indirect=["row_file"])
def test_a_program_reads_alike_for_training_and_evaluation(row_file: Path, text: str, entry: dict[str, str]) -> None:
    tasks = (trained(row_file), evaluated(row_file))
    for read in tasks:
        assert (read.problem.text, read.problem.form) == (text, "code")
        assert (read.label.answer, read.label.entry) == ("", entry)
    assert tasks[0].problem.question == tasks[1].problem.question


@pytest.mark.parametrize(("row_file", "words"), REFUSED, indirect=["row_file"])
def test_a_broken_row_is_refused_alike_for_training_and_evaluation(row_file: Path, words: str) -> None:
    errors = []
    for load in (trained, evaluated):
        with pytest.raises(DataError) as caught:
            load(row_file)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]
    assert errors[0].startswith(f"{row_file}, line 1: ") and words in errors[0]


@pytest.mark.parametrize(
    ("row_file", "own_id"),
    [
        ({"question": "Q", "answer": "7"}, ""),
        ({"question": "Q", "answer": "7", "id": None}, ""),
        ({"question": "Q", "answer": "7", "task_id": "t"}, ""),
        ({"question": "Q", "answer": "7", "id": "mine"}, "mine"),
        ({"question": "Q", "answer": "7", "id": 0}, "0"),
        (OURS, ""),
        (HUMAN_EVAL, "HumanEval/0"),
        ({**MBPP, "id": "mine"}, "mine"),
    ],
    indirect=["row_file"],
)
def test_ids_are_made_of_the_same_own_id_where_a_row_has_one(row_file: Path, own_id: str) -> None:
    training, evaluation = trained(row_file).problem, evaluated(row_file).problem
    assert evaluation.id == f"rows-{own_id or '0000'}"
    assert training.id == own_id or (not own_id and training.id.startswith("rows-") and training.id != evaluation.id)


@pytest.mark.parametrize(
    ("row_file", "id_of_training", "id_of_evaluation", "hash_of_evaluation"),
    [
        ({"question": "What is 3 + 4?", "answer": 7}, "rows-2fecce3a5a2a0979", "rows-0000", "237723e5ac3c"),
        (
            {"question": "How many?", "answer": "She has 1,000 + 72.\n#### 1,072"},
            *("rows-3f7d495c691725b0", "rows-0000", "fcffeb511c7f"),
        ),
        (
            {"problem": "Find \\boxed{x}.", "answer": "\\frac{3}{4}"},
            *("rows-417db0cf6852482c", "rows-0000", "fc0f7cdee39b"),
        ),
        ({"prompt": "Capital?", "answer": "Paris", "id": "mine"}, "mine", "rows-mine", "a662c05b9d43"),
        (
            {"question": "Wie groß ist π?\nGenau.", "answer": "π"},
            *("rows-f9fa0da24caea12e", "rows-0000", "2540ad99b713"),
        ),
        (OURS, "rows-6f9c0bbd80fe6c85", "rows-0000", "54b7f748f76e"),
    ],
    indirect=["row_file"],
)
def test_ids_and_identities_are_those_that_runs_and_folders_of_before_hold(
    row_file: Path, id_of_training: str, id_of_evaluation: str, hash_of_evaluation: str
) -> None:
    """Else a run that goes on would have other problems, and an evaluation would ask again for what is paid for."""
    evaluation = evaluated(row_file)
    assert trained(row_file).problem.id == id_of_training
    assert (evaluation.problem.id, task_hash(evaluation)) == (id_of_evaluation, hash_of_evaluation)
