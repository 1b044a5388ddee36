"""A row of a data set of programming problems: what the model is asked, and what judges its program.

Three shapes are understood: ours (`question`, `tests`, `entry_point`, optionally `setup`), HumanEval's (`prompt`, `test`,
`entry_point`) and MBPP's (`text` or `prompt`, `test_list`, optionally `test_setup_code`, `test_imports`). Reference solutions
are never read. The question names the function, and no test of it."""

from __future__ import annotations

import ast
import builtins
import re
from typing import Any, NamedTuple

from pipeline.errors import DataError

EXPECTED = (
    'expected {"question": …, "tests": "assert f(2) == 4", "entry_point": "f"}, or the columns of HumanEval '
    "(prompt, test, entry_point) or MBPP (text, test_list)"
)
_BUILT_IN = frozenset(dir(builtins))


class CodeRow(NamedTuple):
    """`question` is what the row asks, `text` the same with what a model must be told; `entry` is what the code scorer needs: tests,
    entry_point, and where there is any, prompt or setup."""

    question: str
    text: str
    entry: dict[str, str]


def is_code(values: dict[str, Any]) -> bool:
    """Whether a row asks for a program: it has tests."""
    return "tests" in values or "test_list" in values or ("test" in values and "entry_point" in values)


def code_row(where: str, values: dict[str, Any]) -> CodeRow:
    """The row as question and entry. Raises DataError naming the row (`where`) and what it lacks."""
    if "test_list" in values and "tests" not in values:
        return _mbpp(where, values)
    if "tests" in values:
        tests = _lines(where, values, "tests")
        question = _text(where, values, "question", "problem", "prompt")
        entry_point = _entry_point(where, values)
        row = CodeRow(question, _named(question, entry_point), {"tests": tests, "entry_point": entry_point})
        return _checked(where, _with_setup(row, _lines(where, values, "setup")))
    return _human_eval(where, values)


def _human_eval(where: str, values: dict[str, Any]) -> CodeRow:
    prompt, entry_point = _text(where, values, "prompt"), _entry_point(where, values)
    if not re.search(rf"^[ \t]*(async[ \t]+)?def[ \t]+{entry_point}\b", prompt, re.MULTILINE):
        raise DataError(f"{where}: prompt does not begin the function {entry_point!r} of entry_point; {EXPECTED}")
    text = f"Complete the Python function `{entry_point}`:\n```python\n{prompt.strip()}\n```"
    entry = {"tests": _lines(where, values, "test"), "entry_point": entry_point, "prompt": prompt}
    return _checked(where, CodeRow(prompt, text, entry))


def _mbpp(where: str, values: dict[str, Any]) -> CodeRow:
    question = _text(where, values, "text", "prompt", "question")
    tests = _lines(where, values, "test_list")
    setup = "\n".join(filter(None, (_lines(where, values, name) for name in ("test_imports", "test_setup_code"))))
    known = _defined(_tree(where, "setup", setup))
    entry_point = _entry_point(where, values) if "entry_point" in values else _called(where, tests, known)
    row = CodeRow(question, _named(question, entry_point), {"tests": tests, "entry_point": entry_point})
    return _checked(where, _with_setup(row, setup))


def _with_setup(row: CodeRow, setup: str) -> CodeRow:
    return row._replace(entry={**row.entry, "setup": setup}) if setup else row


def _named(question: str, entry_point: str) -> str:
    """`question`, which says what the function is called."""
    if re.search(rf"\b{re.escape(entry_point)}\b", question):
        return question
    return f"{question}\nThe function is called `{entry_point}`."


def _called(where: str, tests: str, known: frozenset[str]) -> str:
    """The function that the assertions are about: the outermost one called in the first that is neither `known` nor built in,
    and that all of them call."""
    calls = [
        [node.func.id for node in ast.walk(statement) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
        for statement in _tree(where, "test_list", tests).body
        if isinstance(statement, ast.Assert)
    ]
    shared = [name for name in (calls or [[]])[0] if all(name in others for others in calls)]
    name = next((name for name in shared if name not in _BUILT_IN and name not in known), None)
    if name is None:
        raise DataError(
            f"{where}: the assertions of test_list do not all call one function; give its name as 'entry_point'"
        )
    return name


def _checked(where: str, row: CodeRow) -> CodeRow:
    """`row`, whose tests are Python and call its function."""
    entry = row.entry
    _tree(where, "setup", entry.get("setup", ""))
    tree = _tree(where, "tests", entry["tests"])
    if "check" not in _defined(tree) and entry["entry_point"] not in {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name)
    }:
        raise DataError(
            f"{where}: the tests neither call {entry['entry_point']!r} nor define check(candidate), so they judge nothing"
        )
    return row


def _defined(tree: ast.Module) -> frozenset[str]:
    """Names that the code binds at its top: imports, functions, classes, variables."""
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.update((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return frozenset(found)


def _tree(where: str, name: str, code: str) -> ast.Module:
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError) as error:
        raise DataError(f"{where}: {name} is not Python ({error})") from error


def _text(where: str, values: dict[str, Any], *names: str) -> str:
    name = next((name for name in names if name in values), None)
    if name is None:
        raise DataError(f"{where}: has tests, but no {' or '.join(names)}; {EXPECTED}")
    if not isinstance(values[name], str) or not values[name].strip():
        raise DataError(f"{where}: {name} = {values[name]!r} is no text; {EXPECTED}")
    text: str = values[name]
    return text if name == "prompt" else text.strip()


def _lines(where: str, values: dict[str, Any], name: str) -> str:
    """A text, or a list of texts as lines; empty where the row has none and may."""
    value = values.get(name)
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        value = "\n".join(value)
    if value is None and name not in ("tests", "test", "test_list"):
        return ""
    if not isinstance(value, str) or (not value.strip() and name in ("tests", "test", "test_list")):
        raise DataError(f"{where}: {name} = {value!r} is no code, neither a text nor a list of lines; {EXPECTED}")
    return value


def _entry_point(where: str, values: dict[str, Any]) -> str:
    value = values.get("entry_point")
    if not isinstance(value, str) or not value.isidentifier():
        raise DataError(
            f"{where}: entry_point = {value!r}; give the name of the function that the tests call; {EXPECTED}"
        )
    return value
