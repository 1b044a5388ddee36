"""Questions and tests that are made of cases of input and output; their shapes: docs/rows.md."""

from __future__ import annotations

import base64
import pickle
import zlib
from typing import Any

import pytest

from pipeline.errors import DataError
from pipeline.problems.rows import Row
from pipeline.problems.tasks import ParsedRow, parse_row


def parsed(**values: Any) -> ParsedRow:
    return parse_row(Row("row 1", values))


CODEFORCES = {
    "description": "Add.",
    "input_format": "Two numbers.",
    "output_format": "Their sum.",
    "note": None,
    "examples": [{"input": "1 2", "output": "3"}],
    "official_tests": [{"input": "1 2\n", "output": "3\n"}],
}


def test_a_question_has_its_parts_its_examples_and_how_input_comes() -> None:
    assert parsed(**CODEFORCES).text == (
        "Add.\n\nInput:\nTwo numbers.\n\nOutput:\nTheir sum.\n\nExample input:\n1 2\nExample output:\n3\n"
        "Read from standard input and write to standard output."
    )
    said = "Read two numbers from stdin."
    assert parsed(question=said, tests=[{"input": "1 2", "output": "3"}]).text == said
    cases = {"fn_name": "add", "inputs": [[1, 2]], "outputs": [3]}
    begun = parsed(question="Add.", input_output=cases, starter_code="def add(a, b):")
    assert begun.text == "Add.\n\nBegin with:\n```python\ndef add(a, b):\n```"
    named = parsed(question="Sum.", input_output=cases)
    assert named.text == "Sum.\nThe function is called `add`."


def test_no_expected_output_beyond_the_examples_is_in_a_prompt() -> None:
    rows = (
        {**CODEFORCES, "official_tests": [{"input": "1 2", "output": "secret"}]},
        {"question": "Q", "tests": [{"input": "1", "output": "secret"}]},
        {"question": "Q", "input_output": {"fn_name": "f", "inputs": [[1]], "outputs": ["secret"]}},
    )
    for row in rows:
        found = parsed(**row)
        assert "secret" not in found.text and "secret" in str(found.entry["tests"])


def test_results_of_a_function_are_compared_as_json_has_them() -> None:
    entry = parsed(question="Q", input_output={"fn_name": "f", "inputs": [[1]], "outputs": [[[1, [2]]]]}).entry
    for result, right in (
        ((1, (2,)), True), ([1, [2]], True), ([1, [3]], False), ([1], False), (None, False), ([1.0, (2,)], True),
        ([True, [2]], False),
    ):  # fmt: skip
        names: dict[str, Any] = {"f": lambda _, result=result: result}
        exec(entry["setup"], names)
        try:
            exec(entry["tests"], names)
            passes = True
        except AssertionError:
            passes = False
        assert passes is right, result
    table = parsed(question="Q", input_output={"fn_name": "f", "inputs": [[1]], "outputs": [[{"a": [0.5, 2]}]]}).entry
    names = {"f": lambda _: {"a": (0.5 + 1e-9, 2.0)}}
    exec(table["setup"], names)
    exec(table["tests"], names)
    one = parsed(question="Q", input_output={"fn_name": "f", "inputs": [[1]], "outputs": [[0.5]]}).entry
    names = {"f": lambda _: 0.5 + 1e-9}
    exec(one["setup"], names)
    exec(one["tests"], names)


class Evil:
    def __reduce__(self) -> Any:
        return print, ("read",)


def test_no_pickle_of_anything_but_a_text_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    packed = base64.b64encode(zlib.compress(pickle.dumps(Evil()))).decode()
    with pytest.raises(DataError, match="private_test_cases is neither JSON nor packed JSON"):
        parsed(question_content="Q", private_test_cases=packed)
    assert not capsys.readouterr().out


def test_a_case_that_is_too_long_is_refused() -> None:
    with pytest.raises(DataError, match="case 2 has more than 1048576 characters; leave it out"):
        parsed(question="Q", tests=[{"input": "1", "output": "2"}, {"input": "1" * (1 << 21), "output": "2"}])


@pytest.mark.parametrize(
    "values",
    [
        {"question": "Q", "answer": "7", "examples": [{"input": "1", "output": "2"}]},
        {"question": "Q", "answer": "7", "verification_info": {"ground_truth": "7"}},
        {"question": "Q", "answer": '{"a": 1}'},
        {"question": "Q", "answer": "7", "metadata": '{"func_name": "f"}', "starter_code": "def f():"},
    ],
)
def test_a_question_with_columns_of_such_names_stays_a_question(values: dict[str, Any]) -> None:
    assert parsed(**values).form == "boxed"
