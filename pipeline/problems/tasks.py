"""One row of a data source as a task: the only reading of rows, whatever they are used for.

A row asks a question that has an answer, or asks for a program, in one of three shapes: ours (`question`, `tests`,
optionally `setup`), HumanEval's (`prompt`, which begins the function, and `test`) or MBPP's (`text`, `test_list`,
optionally `test_imports`, `test_setup_code`), or by inputs and outputs
(`pipeline.problems.cases`). Invariants: training and evaluation read a row as the same prompt, answer
and entry, or refuse it with the same error; they differ in ids alone, which callers make of the row's own id and of
what they know of its source. What a benchmark sets (columns, a template, the form of the answer) is a `RowFormat`.

| a row that | is read as |
|---|---|
| has null or NaN under a key | a row without that key |
| asks in messages (`prompt`, `messages`, `conversations`) | the words of system and user; a reply is its solution |
| has an answer and a `test`, but no `entry_point` | a question: `test` is some column |
| begins the function in `prompt` (HumanEval) | that head in a fence; a program may be its body alone, or whole |
| asks for a program that its prompt does not name | its question, and a line that names the function |
| has tests, but no `entry_point` | about the function that its solution (`code`) defines, else that all tests call |
| needs `setup`, `test_imports`, `test_setup_code` | these apart: the tests see them, the program does not |
| lists `choices` (or `options`), one of which is its answer | a question that shows them; label and text are right |
| has a list of answers | a question with several answers, any of which is right |
| wraps its answer (a box, ####, $7$ …) | the bare answer (`pipeline.problems.gold`); the whole is its solution |
| has a solution, but no answer | the answer that the solution marks as its own |
| has no `id`, but a program's `task_id` | a row of that id |

docs/rows.md has each shape as an example, which a test reads. Tests are never shown but where the template says so. A
worked solution is kept beside problem and label, in neither of them: it is for SFT. Placeholders in a question stay
text: the template is filled in a single pass.
"""

from __future__ import annotations

import ast
import math
import re
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from pipeline.config.base import Section
from pipeline.errors import DataError
from pipeline.problems.cases import CasesError, asked, cases_of, first_program, has_cases, program_of
from pipeline.problems.chat import ChatError, is_chat, read_chat
from pipeline.problems.choices import Choices
from pipeline.problems.entry_points import defined, function_under_test
from pipeline.problems.gold import GoldError, check, gold_answers, is_marked
from pipeline.problems.rows import TEXT_LINE, Row
from pipeline.types import Label, Problem, Split, Task
from prompts.schemas import AnswerForm

QUESTION_KEYS = ("question", "problem", "prompt")
CODE_QUESTIONS = ("text", "question_content", "description")
CHAT_KEYS = ("messages", "conversations")
ANSWER_KEYS = ("answer", "ground_truth", "gold", "final_answer", "reward_model.ground_truth")
SOLUTION_KEYS = {
    "boxed": ("solution", "worked_solution", "rationale"),
    "code": ("solution", "canonical_solution", "code"),
}
TEST_KEYS = ("tests", "test_list", "test")
SETUP_KEYS = ("test_imports", "test_setup_code", "setup")
QUESTION = "{{question}}"
CODE_LINE = '{"question": "Write f.", "tests": "assert f(1) == 2", "entry_point": "f"}'
_EXPECTED = {
    "boxed": f"expected a line such as {TEXT_LINE}",
    "code": f"expected a line such as {CODE_LINE}, or the columns of HumanEval (prompt, test, entry_point) or MBPP "
    "(text, test_list), APPS (question, input_output) or others of inputs and outputs (docs/rows.md)",
}
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_SHOWN = {"boxed": {"question"}, "code": {"question", "tests"}}
MAX_SHOWN = 200


class RowFormat(Section):
    """Which columns rows have, and how they become a prompt. The default is that of training."""

    question_column: str = Field(
        "question", description="Where it is missing, question, problem, prompt or the messages are read."
    )
    context_column: str = Field("", description="Text that stands before the question, in rows that have it.")
    answer_column: str = Field("answer", description="Where it is missing, answer or another name of it is read.")
    several_answers: Literal["any", "all"] = Field(
        "any", description="Of a list of answers: whether any of them is right, or all of them together."
    )
    solution_column: str = Field("solution", description="Worked solution, for SFT; may be missing.")
    tolerance_column: str = Field(
        "",
        description="Error that a numerical answer may have, in rows that have it; commas separate those of several.",
    )
    id_column: str = Field("id", description="A program's row without it may have a task_id, or no id at all.")
    prompt: str = Field(QUESTION, description="Text of the problem; may show {{tests}} of code.")
    form: AnswerForm | None = Field(
        None, description="How the answer is to be given; unset: as code in rows that have tests, else boxed."
    )

    @model_validator(mode="after")
    def _prompt_suits_the_form(self) -> Self:
        known, found = _SHOWN[self.form or "boxed"], set(_PLACEHOLDER.findall(self.prompt))
        if "question" not in found or found - known:
            shown = " and ".join(f"{{{{{name}}}}}" for name in sorted(known))
            raise ValueError(f"prompt = {self.prompt!r}: must hold {QUESTION}, and may hold {shown} only")
        return self


class ParsedRow(NamedTuple):
    """What a row says. `own_id` is empty where it has none; `text` is the prompt that is made of `question`."""

    own_id: str
    question: str
    text: str
    form: AnswerForm
    answer: str
    entry: dict[str, Any]
    solution: str = ""

    def task(self, identity: str, split: Split, family: str = "") -> Task:
        question, text = self.question.strip(), self.text.strip()
        problem = Problem(
            id=identity,
            text=text,
            split=split,
            family=family,
            form=self.form,
            question=question if question != text else "",
        )
        label = Label(problem_id=identity, answer=self.answer, entry=self.entry)
        return Task(problem=problem, label=label, solution=self.solution)


def parse_row(row: Row, fmt: RowFormat | None = None) -> ParsedRow:
    """What `row` says, read as `fmt` has it. Raises DataError naming the row and what it lacks."""
    fmt = fmt or RowFormat()
    row = Row(row.where, {key: value for key, value in row.values.items() if not _is_missing(value)})
    if half := [key for key, value in row.values.items() if isinstance(value, str) and not _is_whole(value)]:
        raise DataError(f"{row.where}: {half[0]} holds half a character (a lone surrogate); write it whole")
    form: AnswerForm = fmt.form or ("code" if asks_for_program(row.values, fmt) else "boxed")
    question, reply = _question(row, fmt, form)
    if form == "code":
        text, entry = _program(row, fmt, question)
        solution = _solution(row, fmt, form) or reply
        return ParsedRow(_own_id(row, fmt, form), question, text, form, "", entry, solution)
    answers, solution = _answers(row, fmt, _solution(row, fmt, form) or reply)
    value, choices = _stated(row, fmt)[1], Choices.of(row.values)
    if choices is not None and (of_choices := choices.answers(value, answers)):
        question, answers = choices.below(question), of_choices
    text = _filled(fmt.prompt, {"question": question})
    entry = _tolerance(row, fmt) | ({"answers": list(answers)} if len(answers) > 1 else {})
    return ParsedRow(_own_id(row, fmt, form), question, text, form, answers[0], entry, solution)


def with_all_columns(tasks: list[Task]) -> list[Task]:
    """Each task with null under the columns that only others of them have, as tables do: a scorer is given them all."""
    names = dict.fromkeys(name for task in tasks for name in task.label.row)
    return [
        task if task.label.row.keys() == names.keys() else task.with_row(dict.fromkeys(names) | task.label.row)
        for task in tasks
    ]


def _is_missing(value: Any) -> bool:
    """Whether a table has nothing there: null, or pandas' NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def column(values: dict[str, Any], name: str) -> Any:
    """The value of a column, None without it; a dot leads into a table."""
    if name in values or "." not in name:
        return values.get(name)
    outer, _, inner = name.partition(".")
    return column(values[outer], inner) if isinstance(values.get(outer), dict) else None


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def asks_for_program(values: dict[str, Any], fmt: RowFormat | None = None) -> bool:
    """Whether a row has tests of a program. A `test` beside an answer is some column, unless there is an
    `entry_point`."""
    if values.get("tests") is not None or values.get("test_list") is not None or has_cases(values):
        return True
    has_answer = any(values.get(key) is not None for key in ((fmt or RowFormat()).answer_column, "answer"))
    return values.get("test") is not None and (values.get("entry_point") is not None or not has_answer)


def _own_id(row: Row, fmt: RowFormat, form: AnswerForm) -> str:
    key = "task_id" if form == "code" and fmt.id_column not in row.values else fmt.id_column
    value = column(row.values, key)
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # pandas makes fractions of whole numbers where a row has none
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise DataError(f"{row.where}: {key} = {value!r}; give a text or a whole number, or leave it out of every row")
    return str(value)


def _question(row: Row, fmt: RowFormat, form: AnswerForm) -> tuple[str, str]:
    """The question, with its context before it, and the reply to it where the row holds a conversation."""
    keys = dict.fromkeys((fmt.question_column, *QUESTION_KEYS, *(CODE_QUESTIONS if form == "code" else ()), *CHAT_KEYS))
    key = next((key for key in keys if column(row.values, key) is not None), None)
    if key is None:
        raise DataError(
            f"{row.where}: has none of the keys {', '.join(keys)}; {_named(row, 'question')}{_EXPECTED[form]}"
        )
    text, reply = column(row.values, key), ""
    if is_chat(text):
        try:
            text, reply = read_chat(text)
        except ChatError as error:
            raise DataError(f"{row.where}: {key} {error}") from None
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{row.where}: {key} = {text!r} is no text; {_EXPECTED[form]}")
    context = column(row.values, fmt.context_column) if fmt.context_column else None
    return (f"{context.strip()}\n{text}" if isinstance(context, str) and context.strip() else text), reply


def _solution(row: Row, fmt: RowFormat, form: AnswerForm) -> str:
    """The worked solution of a row, a whole program for code; empty where it has none in text."""
    keys = dict.fromkeys((fmt.solution_column, *SOLUTION_KEYS[form]))
    found = ((key, _joined(column(row.values, key))) for key in keys)
    key, text = next(((key, text) for key, text in found if isinstance(text, str) and text.strip()), ("", ""))
    if form == "code" and not text and "solutions" in row.values:
        return first_program(row.values["solutions"])
    head = row.values.get("prompt") if key == "canonical_solution" else None
    return f"{head}{text}" if isinstance(head, str) else text


def _joined(value: Any) -> Any:
    """Of a list of texts the first that marks its answer, for these are solutions; else all of them, for these are
    steps."""
    if not isinstance(value, list) or not value or not all(isinstance(part, str) for part in value):
        return value
    return next((part for part in value if is_marked(part)), "\n".join(value))


def _named(row: Row, field: str) -> str:
    """How to name the column that a row has under another name."""
    if not row.values:
        return ""
    return f"where one of {', '.join(map(repr, row.values))} is it, name it as problems.columns.{field}; "


def _filled(prompt: str, shown: dict[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda match: shown[match[1]], prompt)


def _answers(row: Row, fmt: RowFormat, solution: str) -> tuple[tuple[str, ...], str]:
    """The gold answers, bare, and the worked solution: `solution`, else what stands around the answer."""
    key, value = _stated(row, fmt)
    if key is None and not is_marked(solution):
        lacks = "and its solution marks none (a box, ####, 'the answer is …')" if solution else ""
        lack = f"{row.where}: has no key {fmt.answer_column!r} {lacks}".rstrip()
        raise DataError(f"{lack}; {_named(row, 'answer')}{_EXPECTED['boxed']}")
    value = solution if key is None else value
    try:
        answers = gold_answers(value)
        if fmt.several_answers == "all":
            answers = (", ".join(answers),)
        check(answers)
    except GoldError as error:
        shown = repr(value) if len(repr(value)) < MAX_SHOWN else f"{repr(value)[:MAX_SHOWN]}…"
        raise DataError(f"{row.where}: {key or 'solution'} = {shown} {error}; {_EXPECTED['boxed']}") from None
    return answers, solution or (value if isinstance(value, str) and is_marked(value) else "")


def _stated(row: Row, fmt: RowFormat) -> tuple[str | None, Any]:
    """The column that states the answer, and what it has; None where no column does."""
    keys = dict.fromkeys((fmt.answer_column, *ANSWER_KEYS))
    key = next((key for key in keys if column(row.values, key) is not None), None)
    return key, None if key is None else column(row.values, key)


def _tolerance(row: Row, fmt: RowFormat) -> dict[str, Any]:
    """The errors that the gold values allow, one for each or one for all; empty where the row states none."""
    value = row.values.get(fmt.tolerance_column, "") if fmt.tolerance_column else ""
    if value == "":
        return {}
    try:
        found = [float(part) for part in str(value).split(",")]
    except ValueError:
        found = [0.0]
    if not all(0 < bound < float("inf") for bound in found):
        raise DataError(
            f"{row.where}: {fmt.tolerance_column} = {value!r}; give a number above 0, several joined by commas, or null"
        )
    return {"tolerance": found}


def _program(row: Row, fmt: RowFormat, question: str) -> tuple[str, dict[str, Any]]:
    """The prompt, and what `pipeline.rewards.code.programs` needs: `tests`, `entry_point`, `prompt` (the head
    that the program completes, or empty) and, where there is any, `setup`."""
    try:
        if cases := cases_of(row.values):
            entry = program_of(row.values, cases)
            shown = {"question": asked(row.values, question, entry), "tests": ""}
            return _filled(fmt.prompt, shown).strip(), entry
    except CasesError as error:
        raise DataError(f"{row.where}: {error}; {_EXPECTED['code']}") from None
    key = next((key for key in TEST_KEYS if key in row.values), "tests")
    tests, setup = _lines(row, key), "\n".join(filter(None, (_lines(row, name) for name in SETUP_KEYS)))
    if not tests.strip():
        raise DataError(f"{row.where}: {key} = {row.values.get(key)!r} holds no tests; {_EXPECTED['code']}")
    tree, setup_tree = _tree(row, key, tests), _tree(row, "setup", setup)
    entry_point = row.values.get("entry_point") or _function_under_test(row, tree, setup_tree)
    if "check" in defined(tree) and (method := re.fullmatch(r"(\w+)\(\)\.(\w+)", str(entry_point))):  # LeetCode's
        entry_point = method[1]
        tests += f"\n_check_method = check\ndef check(candidate): _check_method(candidate().{method[2]})\n"
    if not isinstance(entry_point, str) or not entry_point.isidentifier():
        raise DataError(
            f"{row.where}: entry_point = {entry_point!r}; give the name of the function that the tests call"
        )
    if "check" not in defined(tree) and entry_point not in {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}:
        raise DataError(
            f"{row.where}: the tests neither call {entry_point!r} nor define check(candidate), so they judge nothing"
        )
    head = _head(row, question, entry_point) if key == "test" else ""
    entry = {"prompt": head, "tests": tests, "entry_point": entry_point} | ({"setup": setup} if setup else {})
    if head and fmt.prompt == QUESTION:
        return f"Complete the Python function `{entry_point}`:\n```python\n{head.strip()}\n```", entry
    text = _filled(fmt.prompt, {"question": question, "tests": tests}).strip()
    named = re.search(rf"\b{re.escape(entry_point)}\b", text)
    return text if named else f"{text}\nThe function is called `{entry_point}`.", entry


def _head(row: Row, question: str, entry_point: str) -> str:
    """`question` where it begins the function, as HumanEval's does; empty where it is prose.

    Raises DataError where it begins other functions."""
    heads = re.findall(r"^[ \t]*(?:async[ \t]+)?def[ \t]+(\w+)", question, re.MULTILINE)
    if heads and entry_point not in heads:
        raise DataError(
            f"{row.where}: the prompt begins {', '.join(heads)}, but not {entry_point!r}; give the name of one as "
            "entry_point, or the tests as 'tests'"
        )
    return question if heads else ""


def _lines(row: Row, key: str) -> str:
    """The text under `key`, a list of texts as lines; empty without it."""
    value = row.values.get(key, "")
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, str) for part in parts):
        raise DataError(
            f"{row.where}: {key} = {value!r} is no code, neither a text nor a list of texts; {_EXPECTED['code']}"
        )
    return "\n".join(parts)


def _tree(row: Row, name: str, code: str) -> ast.Module:
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"{row.where}: {name} is not Python ({error})") from error


def _function_under_test(row: Row, tests: ast.Module, setup: ast.Module) -> str:
    name = function_under_test(tests, setup, str(row.values.get("code", "")))
    if name is None:
        raise DataError(
            f"{row.where}: the tests are not assertions that all call one function; give its name as entry_point"
        )
    return name
