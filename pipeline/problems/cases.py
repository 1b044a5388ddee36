"""Cases of a row that asks for a program by inputs and outputs: its standard input and output, or a function's
arguments and result. The only reading of such rows, in the forms that public data sets have them.

| a row that has | as in | is read as |
|---|---|---|
| `tests` or `test_cases`: objects with `input` and `output` | ours, DeepCoder | cases |
| `input_output`: `inputs`, `outputs`, perhaps `fn_name` | APPS, TACO | cases, or assertions on that function |
| `official_tests`, else `examples`; `generated_checker`, `input_format` … | open-r1/codeforces | cases; one question |
| `public_tests`, `private_tests`, `generated_tests` | CodeContests | all of them |
| `public_test_cases`, `private_test_cases` (packed), `metadata` | LiveCodeBench | all of them |
| `verification_info`, `reward_model`, `ground_truth` with any of these inside | SYNTHETIC, Eurus | the same |
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import pickle
import re
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

MAX_CASE_CHARS = 1 << 20
EXPLICIT = (
    *(("tests",), ("test_cases",), ("input_output",), ("official_tests",)),
    ("public_tests", "private_tests", "generated_tests"),
    ("public_test_cases", "private_test_cases"),
)
PERHAPS = ("verification_info", "reward_model", "ground_truth", "answer")
"""Columns that other rows have, too."""
INNER = ("ground_truth", "test_cases", "tests")
PARTS = {"input_format": "Input", "output_format": "Output", "note": "Note"}
READS = "Read from standard input and write to standard output."
SAME = """
def _plain(value):
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value
def _same(found, expected):
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(_same, found, expected))
    if isinstance(expected, dict) and isinstance(found, dict):
        return found.keys() == expected.keys() and all(_same(_plain(found[key]), expected[key]) for key in expected)
    if type(expected) is float and type(found) in (int, float):
        return abs(found - expected) <= max(1e-9, 1e-6 * abs(expected))
    return (type(found) is type(expected) or type(expected) is int and type(found) is float) and found == expected
"""
"""Comparison of results with what JSON can hold: tuples are lists there, and numbers with a point inexact."""


class CasesError(Exception):
    """What is wrong with a row's cases, and the remedy."""


class Cases(NamedTuple):
    """`pairs` of input and output, and the function that they are about; empty for a program that reads and prints."""

    pairs: list[tuple[Any, Any]]
    function: str = ""


def cases_of(values: dict[str, Any]) -> Cases | None:
    """The cases of a row; None where it has none. Raises CasesError where it has some that cannot be read."""
    for keys in EXPLICIT:
        present = [key for key in keys if values.get(key) is not None]
        if present == ["tests"] and _is_code(values["tests"]):
            continue
        found = [cases for key in present if (cases := _read(values[key], key)) is not None]
        if pairs := [pair for cases in found for pair in cases.pairs]:
            return Cases(pairs, found[0].function or _function(values))
        if present and keys != ("official_tests",):
            raise CasesError(f"{present[0]} holds no case; give a list of objects with 'input' and 'output'")
    for key in PERHAPS:
        if _looks_like_cases(values.get(key)) and (cases := _read(values[key], key)):
            return cases
    if "input_format" in values and (cases := _read(values.get("examples") or [], "examples")) and cases.pairs:
        return cases
    return None


def has_cases(values: dict[str, Any]) -> bool:
    try:
        return cases_of(values) is not None
    except CasesError:
        return True


def _is_code(value: Any) -> bool:
    """Whether a column holds tests in Python: a text that is no JSON, or a list of anything but objects."""
    if isinstance(value, list):
        return not value or not all(isinstance(part, dict) for part in value)
    if not isinstance(value, str):
        return not _looks_like_cases(value)
    return not value.lstrip().startswith(("[", "{", '"')) and _unpacked(value) is None


def _looks_like_cases(value: Any) -> bool:
    if isinstance(value, str):
        return value.lstrip()[:1] in ("{", "[") and ('"outputs"' in value or '"output"' in value)
    if isinstance(value, list):
        return bool(value) and all(isinstance(case, dict) and "output" in case for case in value)
    if not isinstance(value, dict):
        return False
    has_lists = any(pair <= value.keys() for pair in ({"inputs", "outputs"}, {"input", "output"}))
    return has_lists or any(_looks_like_cases(value.get(inner)) for inner in INNER)


def _read(value: Any, key: str) -> Cases | None:
    """Cases in whatever form a column has them."""
    value = _parsed(value, key)
    if isinstance(value, dict):
        for inner in INNER:
            if inner in value:
                _refuse_other_languages(value, key)
                return _read(value[inner], f"{key}.{inner}")
        inputs = value.get("inputs", value.get("input"))
        outputs = value.get("outputs", value.get("output"))
        if isinstance(inputs, str) and isinstance(outputs, str):
            return Cases([(inputs, outputs)])
        if not isinstance(inputs, list) or not isinstance(outputs, list):
            raise CasesError(f"{key} has no lists 'inputs' and 'outputs'")
        if len(inputs) != len(outputs):
            raise CasesError(f"{key} has {len(inputs)} inputs and {len(outputs)} outputs; give one for each")
        return Cases(list(zip(inputs, outputs, strict=True)), str(value.get("fn_name") or ""))
    if not isinstance(value, list) or not all(isinstance(case, dict) for case in value):
        raise CasesError(f"{key} is no list of objects with 'input' and 'output'")
    for number, case in enumerate(value, start=1):
        if lacks := [name for name in ("input", "output") if case.get(name) is None]:
            raise CasesError(f"{key}: case {number} has no {lacks[0]!r}")
    kinds = {str(case.get("testtype", case.get("type", ""))).split("_")[0].replace("stdin", "") for case in value}
    if len(kinds) > 1:
        raise CasesError(f"{key} has cases of {' and '.join(sorted(kind or 'stdin' for kind in kinds))}; give one kind")
    names = {str(case.get("fn_name") or (case.get("metadata") or {}).get("func_name") or "") for case in value}
    return Cases([(case["input"], case["output"]) for case in value], names.pop() if len(names) == 1 else "")


def _refuse_other_languages(value: dict[str, Any], key: str) -> None:
    language = str(value.get("language") or "python").lower()
    if not language.startswith("py"):
        raise CasesError(f"{key}.language = {language!r}; only programs in Python are run")


def _parsed(value: Any, key: str) -> Any:
    """`value`, which may be JSON in a text, or that packed as LiveCodeBench does."""
    for _ in range(3):
        if not isinstance(value, str):
            return value
        try:
            value = json.loads(value)
        except ValueError:
            if (unpacked := _unpacked(value)) is None:
                raise CasesError(f"{key} is neither JSON nor packed JSON") from None
            value = unpacked
    return value


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError("only texts are read")


def _unpacked(text: str) -> Any:
    """A text in a pickle in zlib in base64; None for another one. No pickle of anything but a text is read."""
    try:
        content = zlib.decompress(base64.b64decode(text.strip(), validate=True))
        return _Plain(io.BytesIO(content)).load()
    except (ValueError, binascii.Error, zlib.error, pickle.UnpicklingError, EOFError, IndexError, AttributeError):
        return None


def _function(values: dict[str, Any]) -> str:
    """The function that LiveCodeBench's metadata name."""
    metadata = values.get("metadata")
    try:
        metadata = json.loads(metadata) if isinstance(metadata, str) else metadata
    except ValueError:
        return ""
    return str(metadata.get("func_name") or "") if isinstance(metadata, dict) else ""


def program_of(values: dict[str, Any], cases: Cases) -> dict[str, Any]:
    """What a label needs for `cases`. Raises CasesError."""
    if values.get("interaction_format"):
        raise CasesError("interaction_format: it talks with another program, which cannot be run; leave the row out")
    if values.get("input_mode", "stdio") != "stdio" or values.get("input_file") or values.get("output_file"):
        raise CasesError("the program is to read or write files by name; only standard input and output are given")
    if cases.function:
        return _assertions(values, cases)
    if re.search(r"^[ \t]*def ", str(values.get("starter_code") or ""), re.MULTILINE):
        raise CasesError("starter_code begins a function, but no fn_name says that the cases are of one; leave it out")
    found = [{"input": _text(given), "output": _text(expected)} for given, expected in cases.pairs]
    if large := [number for number, case in enumerate(found, 1) if max(map(len, case.values())) > MAX_CASE_CHARS]:
        raise CasesError(f"case {large[0]} has more than {MAX_CASE_CHARS} characters; leave it out")
    rules = dict(_rules(values))
    if not rules.get("checker") and not any(case["output"].strip() for case in found):
        raise CasesError("every output is empty, so they judge nothing")
    return {"prompt": "", "tests": found, "entry_point": ""} | ({"rules": rules} if rules else {})


def _text(value: Any) -> str:
    """An input or output, whose lines may be a list."""
    if isinstance(value, list):
        return "".join(f"{_text(line)}\n" for line in value)
    if isinstance(value, dict) or value is None:
        raise CasesError(f"{value!r} is no text that a program reads or prints")
    return str(value)


def _rules(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    checker = values.get("checker") or values.get("generated_checker")
    if isinstance(checker, str) and checker.strip():
        yield "checker", checker
    for key in ("float_tolerance", "tolerance"):
        if (bound := values.get(key)) is not None:
            if isinstance(bound, bool) or not isinstance(bound, int | float) or not 0 < bound < 1:
                raise CasesError(f"{key} = {bound!r}; give a number above 0 and below 1, or leave it out")
            yield "tolerance", float(bound)
            break
    if (whitespace := values.get("whitespace")) is not None:
        if whitespace not in ("lines", "tokens", "exact"):
            raise CasesError(f"whitespace = {whitespace!r}; use 'lines', 'tokens' or 'exact'")
        yield "whitespace", whitespace
    if seconds := _seconds(values.get("time_limit")):
        yield "time_limit_s", seconds


def _seconds(limit: Any) -> float:
    """A time limit in seconds, of a number, a text or CodeContests' table; 0 for none."""
    if isinstance(limit, dict):
        return float(limit.get("seconds") or 0) + float(limit.get("nanos") or 0) / 1e9
    if isinstance(limit, str):
        match = re.fullmatch(r"\s*([\d.]+)\s*(ms|milliseconds?|s|seconds?|)\s*", limit)
        limit = float(match[1]) / (1000 if match[2].startswith("m") else 1) if match else 0
    return float(limit) if isinstance(limit, int | float) and not isinstance(limit, bool) and limit > 0 else 0.0


def _assertions(values: dict[str, Any], cases: Cases) -> dict[str, Any]:
    """A function's cases as tests: what it is called with, and what it returns."""
    name = cases.function
    if not name.isidentifier():
        raise CasesError(f"the function is called {name!r}, which is no name in Python")
    is_method = "class Solution" in str(values.get("starter_code") or "")
    outputs = [_value(expected) for _, expected in cases.pairs]
    if all(isinstance(value, list) and len(value) == 1 for value in outputs) and "input_output" in values:
        outputs = [value[0] for value in outputs]  # APPS and TACO wrap each result
    called = f"Solution().{name}" if is_method else name
    lines = [
        f"assert _same(_plain({called}(*{_arguments(given)!r})), {expected!r})"
        for (given, _), expected in zip(cases.pairs, outputs, strict=True)
    ]
    return {
        "prompt": "",
        "tests": "\n".join(lines),
        "entry_point": "Solution" if is_method else name,
        "setup": SAME,
    }


def _arguments(given: Any) -> list[Any]:
    """The arguments of a call: a list of them, or a line of JSON for each."""
    if isinstance(given, str):
        return [_value(line) for line in given.strip().split("\n")]
    return given if isinstance(given, list) else [given]


def _value(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def asked(values: dict[str, Any], question: str, entry: dict[str, Any]) -> str:
    """The whole question: with the parts that Codeforces has apart, the code to begin with, and how input comes."""
    parts = [f"{title}:\n{text.strip()}" for key, title in PARTS.items() if isinstance(text := values.get(key), str)]
    if parts and isinstance(examples := values.get("examples"), list):
        parts += [f"Example input:\n{case['input']}\nExample output:\n{case['output']}" for case in examples]
    starter = values.get("starter_code")
    if isinstance(starter, str) and starter.strip():
        parts.append(f"Begin with:\n```python\n{starter.strip()}\n```")
    text = "\n\n".join([question.strip(), *parts])
    if not entry["entry_point"]:
        is_said = re.search(r"standard input|stdin", text, re.IGNORECASE)
        return text if is_said else f"{text}\n{READS}"
    named = re.search(rf"\b{re.escape(entry['entry_point'])}\b", text)
    return text if named else f"{text}\nThe function is called `{entry['entry_point']}`."


def first_program(solutions: Any) -> str:
    """The first program in Python of several (JSON, a list, or CodeContests' table of languages); empty for none."""
    try:
        found = json.loads(solutions) if isinstance(solutions, str) else solutions
    except ValueError:
        return ""
    if isinstance(found, dict):
        pairs = zip(found.get("language") or (), found.get("solution") or (), strict=False)
        found = [program for language, program in pairs if str(language).upper() in ("3", "PYTHON3", "PYTHON")]
    return (
        next((each for each in found if isinstance(each, str) and each.strip()), "") if isinstance(found, list) else ""
    )
