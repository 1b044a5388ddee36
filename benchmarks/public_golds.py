"""Gold answers and graders' suites of public repositories, read from a folder of their checkouts (FOLDER/owner/name).

Nothing of them is kept here. Each source is named with its licence, which allows to test with it; one that is not there
is skipped by name. Suites are read out of the tests of other graders without running them."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_ESCAPED = re.compile(r"\\.", re.DOTALL)


class Source(NamedTuple):
    """A file of problems; `problem` and `answer` are its columns, the first that a row has."""

    repository: str
    path: str
    licence: str
    problem: tuple[str, ...] = ("question", "problem", "content", "Body")
    answer: tuple[str, ...] = ("answer", "Answer", "expected_answer", "final_answer", "solution")


class Gold(NamedTuple):
    source: str
    problem: str
    answer: str


class Pair(NamedTuple):
    """What a suite says of an answer beside a gold one; `doubt` says why that may be otherwise."""

    suite: str
    gold: str
    answer: str
    is_equal: bool

    @property
    def doubt(self) -> str:
        digest = hashlib.sha256(f"{self.gold}\0{self.answer}".encode()).hexdigest()
        return CONTESTED.get(digest[:10], "")


_QWEN = "QwenLM/Qwen2.5-Math"
_HARNESS = "ZubinGou/math-evaluation-harness"
SOURCES = (
    Source(_HARNESS, "data/math/test.jsonl", "MIT"),
    Source("agentica-project/rllm", "rllm/data/train/math/math.json", "MIT"),
    Source("agentica-project/rllm", "rllm/data/train/math/aime.json", "MIT"),
    Source("openai/grade-school-math", "grade_school_math/data/test.jsonl", "MIT"),
    *(
        Source(_QWEN, f"evaluation/data/{name}/test.jsonl", "MIT")
        for name in ("college_math", "carp_en", "olympiadbench", "gaokao2023en", "minerva_math")
    ),
    Source("NVIDIA/NeMo-Skills", "nemo_skills/dataset/comp-math-24-25/test.txt", "Apache-2.0"),
)
SUITES = (
    ("huggingface/Math-Verify", "tests/*.py", "Apache-2.0"),
    ("NVIDIA/NeMo-Skills", "tests/test_math_equal.py", "Apache-2.0"),
    ("PrimeIntellect-ai/verifiers", "tests/test_math_rubric.py", "MIT"),
)

# Pairs that a suite calls equal, by the hash of gold and answer, and why a grader that pays may refuse them.
CONTESTED = {
    "1bfb27b6b4": "a chain that does not hold",
    "30d9a00413": "two numbers, or a decimal comma",
    "57f9e97383": "real intervals for a modulus",
    "597fd8ad62": "a set for a pair",
    "73b7294582": "a chain that does not hold",
    "844bba4686": "two numbers, or a decimal comma",
    "9f05bcaf8b": "a chain that does not hold",
    "9fc3ed9ed5": "an item twice",
    "a8d2b0350c": "computed by nobody",
    "ba922da01d": "another sign",
    "cdf4de653f": "a chain that does not hold",
    "f11d379bb6": "computed by nobody",
    "fb8f0eb269": "a chain that does not hold",
}


def golds(folder: Path) -> Iterator[Gold]:
    """Every gold answer, as its source writes it; one text of it counts once."""
    seen: set[str] = set()
    for source in SOURCES:
        file = folder / source.repository / source.path
        if not file.is_file():
            print(f"skipped: no {file}")
            continue
        text = file.read_text(encoding="utf-8")
        rows = json.loads(text) if text.startswith("[") else map(json.loads, text.splitlines())
        for row in rows:
            problem = next((str(row[name]) for name in source.problem if row.get(name)), "")
            value = next((row[name] for name in source.answer if row.get(name) not in (None, "")), "")
            answer = _bare(value)
            if answer and answer not in seen:
                seen.add(answer)
                yield Gold(f"{source.repository}/{source.path}", problem, answer)


def _bare(value: Any) -> str:
    """The answer within what a source keeps: a solution that ends with a box or behind ####, a list of one."""
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value)
    if "####" in text:
        return text.rpartition("####")[2].strip()
    if "\\boxed{" in text:
        text = _braced(text.rpartition("\\boxed")[2])
    text = text.strip()
    is_formula = len(text) > 2 and text[0] == text[-1] == "$" and "$" not in _ESCAPED.sub("", text[1:-1])
    return (text[1:-1] if is_formula else text).strip().removesuffix(".")


def _braced(text: str) -> str:
    """What stands between the brace that `text` begins with and its end."""
    level = 0
    for found in re.finditer(r"\\.|[{}]", text, re.DOTALL):
        level += (found[0] == "{") - (found[0] == "}")
        if level == 0:
            return text[1 : found.start()]
    return ""


def suites(folder: Path) -> Iterator[Pair]:
    """The pairs in the tables of other graders' tests."""
    for repository, pattern, _ in SUITES:
        files = sorted((folder / repository).glob(pattern))
        if not files:
            print(f"skipped: no {folder / repository / pattern}")
        for file in files:
            for gold, answer, is_equal in _tables(file.read_text(encoding="utf-8")):
                yield Pair(f"{repository}/{file.name}", gold, answer, is_equal)


def _tables(source: str) -> Iterator[tuple[str, str, bool]]:
    """Rows (gold, answer, expected) of parametrized tests; pairs of tests whose names say what they expect."""
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for mark in function.decorator_list:
            if not (isinstance(mark, ast.Call) and ast.unparse(mark.func).endswith("parametrize")):
                continue
            names = re.sub(r"[\s'\"]", "", ast.unparse(mark.args[0]))
            for row in _rows(mark.args[1]):
                match row:
                    case (str(gold), str(answer), bool() | int() as expected) if names.startswith("gold,pred"):
                        yield gold, answer, bool(expected)
                    case (gold, answer) if names == "output_pair" and answer is not None:
                        yield str(gold), str(answer), "incorrect" not in function.name
                    case {"completion": str(answer), "answer": str(gold)}:
                        yield gold, answer, "invalid" not in function.name


def _rows(table: ast.expr) -> Iterator[Any]:
    for row in table.elts if isinstance(table, ast.List) else []:
        try:
            yield ast.literal_eval(row)
        except ValueError:
            continue
