"""One row of a data source, read into a task: which keys are understood, and what a broken row is told."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.problems import ProblemsSection
from pipeline.errors import DataError
from pipeline.problems.code_rows import code_row, is_code
from pipeline.text import text_hash
from pipeline.types import Label, Problem, Split, Task
from prompts.schemas import AnswerForm

QUESTION_KEYS = ("question", "problem", "prompt")
EXPECTED = 'expected a JSON object such as {"question": "What is 3 + 4?", "answer": "7"}'


@dataclass(frozen=True)
class Row:
    """`values` as read, and `where` they came from, for messages."""

    where: str
    values: dict[str, Any]


def jsonl_rows(file: str, field: str) -> Iterator[Row]:
    """Rows of a JSONL file, gzipped where its name ends in .gz; blank lines are skipped.

    Raises DataError naming file, line and what is expected there."""
    path = Path(file)
    if not path.is_file():
        raise DataError(f"{field} = {file!r}: there is no such file; give the path of a JSONL file")
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield Row(f"{file}, line {number}", _parsed(line, f"{file}, line {number}"))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{field} = {file!r}: cut short, or not gzipped ({error}); fetch it again") from error


def _parsed(line: bytes, where: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except ValueError as error:  # broken JSON and broken UTF-8 alike
        raise DataError(f"{where}: not JSON ({error}); {EXPECTED}") from error
    if not isinstance(values, dict):
        raise DataError(f"{where}: a JSON {type(values).__name__}; {EXPECTED}")
    return values


def plugin_rows(source: str, items: Any, field: str = "problems.source") -> Iterator[Row]:
    """Rows from a user's iterable. Raises DataError for anything but an iterable of dicts; `field` is where `source` stands."""
    try:
        iterator = iter(items)
    except TypeError:
        raise DataError(
            f"{field} = {source!r} returned {type(items).__name__}; return an iterable of dicts "
            "{'question', 'answer' or 'tests', optionally 'id' and 'split'}"
        ) from None
    for number, values in enumerate(iterator, start=1):
        where = f"{source} item {number}"
        if not isinstance(values, dict):
            raise DataError(f"{where} is a {type(values).__name__}; {EXPECTED}")
        yield Row(where, values)


def hub_rows(
    dataset: str, config: str, split: str, unreachable: Callable[[Exception], DataError], revision: str = ""
) -> Iterator[Row]:
    """Rows of a split of a Hugging Face data set; `unreachable` words what cannot be loaded."""
    import datasets

    pinned = {"revision": revision} if revision else {}
    try:
        rows = datasets.load_dataset(dataset, config or None, split=split, **pinned)
    except (OSError, ValueError, RuntimeError) as error:  # datasets' own errors derive from these
        raise unreachable(error) from error
    for number, values in enumerate(rows, start=1):
        yield Row(f"{dataset} [{split}] row {number}", values)


def unreachable(settings: ProblemsSection, field: str, error: Exception) -> DataError:
    return DataError(
        f"problems.dataset = {settings.dataset!r} (problems.dataset_config = {settings.dataset_config!r}, "
        f"problems.{field} = {getattr(settings, field)!r}) cannot be loaded: {type(error).__name__}: {str(error)[:300]}. "
        "Check the names, or without a hub set problems.source = 'jsonl' with problems.train_file and problems.heldout_file: "
        'files with {"question": …, "answer": …} on each line'
    )


def task_of(row: Row, split: Split, name: str) -> Task:
    """`row` as a task: a program to write where it has tests (`pipeline/problems/code_rows.py`), else a question with an answer.

    Raises DataError naming the row and what it lacks."""
    if is_code(row.values):
        code = code_row(row.where, row.values)
        problem = _problem(row, split, name, code.text, "code", code.question)
        return Task(problem=problem, label=Label(problem_id=problem.id, answer="", entry=code.entry))
    key = next((key for key in QUESTION_KEYS if key in row.values), None)
    if key is None:
        raise DataError(f"{row.where}: has none of the keys {', '.join(QUESTION_KEYS)}; {EXPECTED}")
    text = row.values[key]
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{row.where}: {key} = {text!r} is no text; {EXPECTED}")
    answer = _answer(row)
    problem = _problem(row, split, name, text, "boxed")
    return Task(problem=problem, label=Label(problem_id=problem.id, answer=answer))


def _problem(row: Row, split: Split, name: str, text: str, form: AnswerForm, question: str = "") -> Problem:
    key = "task_id" if form == "code" and "id" not in row.values else "id"
    identity = row.values.get(key)
    if identity is not None and (not isinstance(identity, str | int) or not str(identity).strip()):
        raise DataError(f"{row.where}: {key} = {identity!r}; give a text or a whole number, or leave it out")
    return Problem(
        id=f"{name}-{text_hash(text)}" if identity is None else str(identity),
        text=text.strip(),
        split=split,
        family="",
        form=form,
        question=question.strip() if question.strip() != text.strip() else "",
    )


def _answer(row: Row) -> str:
    if "answer" not in row.values:
        raise DataError(f"{row.where}: has no key 'answer'; {EXPECTED}")
    value = row.values["answer"]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f"{row.where}: answer = {value!r} is neither text nor number; {EXPECTED}")
    answer = final_answer(str(value))
    if not answer:
        raise DataError(f"{row.where}: answer = {value!r} holds no answer; {EXPECTED}")
    return answer


def final_answer(value: str) -> str:
    """GSM8K's '… #### 1,072' → '1072' (the worked solution is dropped); anything else as it is."""
    answer = value.rpartition("####")[2].strip()
    return answer.replace(",", "") if re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", answer) else answer
