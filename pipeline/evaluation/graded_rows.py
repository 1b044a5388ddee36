"""Responses in a file, each with what it is judged by.

| a row | holds |
|---|---|
| a pair | a response (`response`, `completion`, `output`, `prediction`, `text`), a gold answer or tests |
| | as rows of problems have them (`pipeline.problems.tasks`), optionally a label (`expected`, `correct`) |
| a pair of a grader's suite | `gold`, and under `answer` the response |
| an answer of `eval` | what answers.jsonl has; plan.json beside it tells the benchmark, whose problem is loaded |
| an answer of a run | what its folder evals/ has; config.json above it tells the problem |"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from pipeline.config import Config
from pipeline.errors import DataError
from pipeline.evaluation.folder import Answered
from pipeline.evaluation.heldout import Answer
from pipeline.evaluation.plan import Plan
from pipeline.evaluation.stored import StoredTasks
from pipeline.problems.dataset import load_problems
from pipeline.problems.rows import Row, jsonl_rows
from pipeline.problems.tasks import parse_row
from pipeline.run.folder import RunFolder
from pipeline.text import visible
from pipeline.types import Task

RESPONSE_KEYS = ("response", "completion", "output", "prediction", "text")
LABEL_KEYS = ("expected", "correct")
GOLD = "gold"
EXPECTED = (
    'expected a pair such as {"response": "… \\\\boxed{7}", "answer": "7"}, a problem with a response, or a row that '
    "eval wrote"
)


class Response(NamedTuple):
    """A response to grade: `scorer` is a value of `reward.scorer`, `expected` its label and `before` whether its stored
    verdict was right, where it has one."""

    where: str
    text: str
    task: Task
    scorer: str
    expected: bool | None = None
    before: bool | None = None


def responses_in(
    file: Path, config: Config, *, scorer: str = "", registry: Path | None = None, data: Path | None = None,
    warn: Callable[[str], None],
) -> Iterator[Response]:  # fmt: skip
    """Every response in `file`; `scorer` judges them where it is named, else what their problems ask for.

    Raises DataError naming file and line. A stored answer whose problem cannot be had is warned of and left out."""
    stored: _Stored | None = None
    for row in jsonl_rows(str(file), "FILE"):
        if "inferred" not in row.values and "problem_id" not in row.values:
            yield _pair(row, scorer or config.reward.scorer)
            continue
        stored = stored or _Stored(file, config, scorer, registry, data, warn)
        if (found := stored.response(row)) is not None:
            yield found
        else:
            warn(f"{row.where}: its problem cannot be had, or is another one now; it is left out")


def _pair(row: Row, scorer: str) -> Response:
    """Raises DataError for a row without a response, or without anything to judge it by."""
    values = {key: value for key, value in row.values.items() if value is not None}
    label = next((values.pop(key) for key in LABEL_KEYS if isinstance(values.get(key), bool)), None)
    keys = RESPONSE_KEYS if GOLD not in values else (*RESPONSE_KEYS, "answer")
    key = next((key for key in keys if key in values), None)
    text = values.pop(key) if key else None
    if not isinstance(text, str):
        what = f"{key} = {text!r} is no text" if key else f"it has no response ({', '.join(RESPONSE_KEYS)})"
        raise DataError(f"{row.where}: {what}; {EXPECTED}")
    if not any(name in values for name in ("question", "problem", "prompt", "messages", "conversations")):
        values["question"] = "(not given)"
    parsed = parse_row(Row(row.where, values))
    task = parsed.task(parsed.own_id or row.where, "heldout").with_row(row.values)
    return Response(row.where, text, task, scorer, expected=label)


class _Stored:
    """Reads rows that `eval` or a run wrote; their problems are loaded with the first of them."""

    def __init__(
        self, file: Path, config: Config, scorer: str, registry: Path | None, data: Path | None,
        warn: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._scorer = scorer
        self._cells = {cell.id: cell for cell in Plan.read(file.parent / "plan.json").cells}
        self._tasks = StoredTasks.of(list(self._cells.values()), config, registry=registry, data=data, warn=warn)
        self._of_run: dict[str, Task] = {}
        self._run_scorer, self._run_strips = "", True
        if not self._cells:
            run = RunFolder.open(file.parent.parent).config()
            self._of_run = {
                task.problem.id: task
                for task in load_problems(run.problems, run.run.seed, run.reward.code.packages).heldout
            }
            self._run_scorer, self._run_strips = run.reward.scorer, run.rollout.strip_think

    def response(self, row: Row) -> Response | None:
        """None where its problem cannot be had. Raises DataError."""
        try:
            return self._of_eval(row.where, row.values) if self._cells else self._of_a_run(row.where, row.values)
        except ValidationError as error:
            raise DataError(f"{row.where}: not a row that this version wrote ({error.error_count()} faults)") from error

    def _of_eval(self, where: str, values: dict[str, Any]) -> Response | None:
        answer = Answered.model_validate(values)
        task, cell = self._tasks.find(answer), self._cells.get(answer.cell)
        if task is None or cell is None:
            return None
        scorer, text = self._scorer or str(cell.settings["scorer"]), answer.judged_text(cell)
        return Response(f"{where} ({answer.problem_id})", text, task, scorer, before=answer.verdict.correct)

    def _of_a_run(self, where: str, values: dict[str, Any]) -> Response | None:
        answer = Answer.model_validate(values)
        if (task := self._of_run.get(answer.problem_id)) is None:
            return None
        text = visible(answer.text, strip=self._run_strips)
        scorer = self._scorer or self._run_scorer
        return Response(f"{where} ({answer.problem_id})", text, task, scorer, before=answer.verdict.correct)
