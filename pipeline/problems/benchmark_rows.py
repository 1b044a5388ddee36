"""One row of a benchmark, read into a task. Placeholders in a question stay text: the prompt is filled in a single pass."""

from __future__ import annotations

import ast
import builtins
import re
from typing import TYPE_CHECKING, Any

from pipeline.errors import DataError
from pipeline.problems.rows import QUESTION_KEYS, Row, final_answer
from pipeline.types import Label, Problem, Task

if TYPE_CHECKING:
    from pipeline.problems.benchmark import Benchmark

PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
TEST_KEYS = ("test", "tests", "test_list")
TEXT_LINE = '{"question": "What is 3 + 4?", "answer": "7"}'
CODE_LINE = '{"question": "Write f.", "tests": "assert f(1) == 2", "entry_point": "f"}'


def is_code(values: dict[str, Any]) -> bool:
    """Whether a row asks for a program: it has tests."""
    return any(key in values for key in TEST_KEYS)


def task_of_row(benchmark: Benchmark, row: Row, position: int) -> Task:
    """`row` as a held-out task, named by its own id or by its position. Raises DataError naming the row and what it lacks."""
    shown: dict[str, str] = {"question": _question(benchmark, row)}
    answer = ""
    entry: dict[str, Any] = {}
    if benchmark.form == "code":
        shown["tests"], entry = _code_entry(row, shown["question"])
    else:
        answer = _answer(benchmark, row)
        entry = {"tolerance": tolerance} if (tolerance := _tolerance(benchmark, row)) else {}
    text = PLACEHOLDER.sub(lambda match: shown[match[1]], benchmark.prompt)
    identity = f"{benchmark.name}-{_identity(benchmark, row, position)}"
    question = shown["question"].strip()
    problem = Problem(
        id=identity,
        text=text.strip(),
        split="heldout",
        family=benchmark.name,
        form=benchmark.form,
        question=question if question != text.strip() else "",
    )
    return Task(problem=problem, label=Label(problem_id=identity, answer=answer, entry=entry))


def _identity(benchmark: Benchmark, row: Row, position: int) -> str:
    value = row.values.get(benchmark.id_column)
    if value is None:
        return f"{position:04d}"
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise DataError(
            f"{row.where}: {benchmark.id_column} = {value!r}; give a text or a whole number, or leave it out of every row"
        )
    return str(value)


def _question(benchmark: Benchmark, row: Row) -> str:
    keys = (benchmark.question_column, *QUESTION_KEYS, *(["text"] if benchmark.form == "code" else []))
    key = next((key for key in keys if key in row.values), None)
    text = row.values[key] if key else None
    if not isinstance(text, str) or not text.strip():
        raise DataError(
            f"{row.where}: {key or 'none of the columns ' + ', '.join(dict.fromkeys(keys))} holds a text ({text!r}); "
            f"expected a line such as {CODE_LINE if benchmark.form == 'code' else TEXT_LINE}"
        )
    context = row.values.get(benchmark.context_column) if benchmark.context_column else None
    return f"{context.strip()}\n{text}" if isinstance(context, str) and context.strip() else text


def _answer(benchmark: Benchmark, row: Row) -> str:
    key = benchmark.answer_column if benchmark.answer_column in row.values else "answer"
    value = row.values.get(key)
    parts = value if isinstance(value, list) else [value]
    if any(isinstance(part, bool) or not isinstance(part, str | int | float) for part in parts):
        raise DataError(
            f"{row.where}: {key} = {value!r} is neither text nor number; expected a line such as {TEXT_LINE}"
        )
    answer = final_answer(_without_dollars(", ".join(map(str, parts))))
    if not answer:
        raise DataError(f"{row.where}: {key} = {value!r} holds no answer; expected a line such as {TEXT_LINE}")
    return answer


def _tolerance(benchmark: Benchmark, row: Row) -> list[float]:
    """The errors that the gold values allow, one for each or one for all; empty where the row states none."""
    value = row.values.get(benchmark.tolerance_column) if benchmark.tolerance_column else None
    if value is None or value == "":
        return []
    try:
        found = [float(part) for part in str(value).split(",")]
    except ValueError:
        found = [0.0]
    if not all(0 < bound < float("inf") for bound in found):
        raise DataError(
            f"{row.where}: {benchmark.tolerance_column} = {value!r}; give a number above 0, several joined by commas, or null"
        )
    return found


def _without_dollars(answer: str) -> str:
    """`answer` without the signs that open and close mathematics; the verifiers add their own."""
    dollars = re.findall(r"(?<!\\)\$", answer)
    return re.sub(r"(?<!\\)\$", "", answer) if len(dollars) % 2 == 0 else answer


def _code_entry(row: Row, question: str) -> tuple[str, dict[str, Any]]:
    """The tests as they may be shown, and what `pipeline.rewards.scorers.code_verdict` needs. HumanEval's rows have `test`,
    `entry_point` and a prompt that ends in the function's head; MBPP's `test_list`, what it needs, and a solution."""
    key = next((key for key in TEST_KEYS if key in row.values), "tests")
    tests = _lines(row, key)
    if not tests.strip():
        raise DataError(
            f"{row.where}: {key} = {row.values.get(key)!r} holds no tests; expected a line such as {CODE_LINE}"
        )
    before = [_lines(row, name) for name in ("test_imports", "test_setup_code")]
    entry_point = row.values.get("entry_point") or _called(row, tests)
    if not isinstance(entry_point, str):
        raise DataError(
            f"{row.where}: entry_point = {entry_point!r}; give the name of the function that the tests call"
        )
    is_head = re.search(rf"^def[ \t]+{re.escape(entry_point)}\b", question, re.MULTILINE) is not None
    needed = "\n".join([*filter(None, before), tests])
    return tests, {"prompt": question if is_head else "", "tests": needed, "entry_point": entry_point}


def _lines(row: Row, key: str) -> str:
    """The text under `key`, a list of texts as lines; empty without it."""
    value = row.values.get(key) or ""
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, str) for part in parts):
        raise DataError(f"{row.where}: {key} = {value!r} is neither a text nor a list of texts")
    return "\n".join(parts)


def _called(row: Row, tests: str) -> str:
    """The function under test: called by the tests, and defined by the row's own solution where it has one."""
    try:
        nodes = list(ast.walk(ast.parse(tests)))
        solution = ast.parse(str(row.values.get("code") or "")).body
    except SyntaxError as error:
        raise DataError(
            f"{row.where}: tests or code are no Python ({error}); give entry_point, or mend them"
        ) from error
    called = [node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    defined = {node.name for node in solution if isinstance(node, ast.FunctionDef)}
    found = [name for name in called if name in defined] or [name for name in called if not hasattr(builtins, name)]
    if not found:
        raise DataError(f"{row.where}: the tests call no function; give entry_point")
    return found[0]
