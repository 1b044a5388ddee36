import pytest

from pipeline.rewards.code.extraction import as_program, extract_code

PROMPT = 'import math\n\ndef helper(x):\n    return x\n\ndef f(x):\n    """Doc."""\n'


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\ndef f(x): return 1\n```", "def f(x): return 1\n"),
        ("a\n```\none\n```\nb\n```py\ntwo\n```", "two\n"),
        ("```python\ndef f(x): return 1\n```\nUse it:\n```python\nprint(f(1))\n```", "def f(x): return 1\n"),
        ("```text\nno\n```\n```python\nyes\n```\n```json\n{}\n```", "yes\n"),
        ("```python\ncut = 1", "cut = 1"),
        ("<think>```python\nno\n```</think>```python\nyes\n```", "yes\n"),
        ("    return x", "    return x"),
        ("```json\n{}\n```", None),
        ("```python\n```", None),
        ("  \n", None),
    ],
)
def test_the_answer_is_the_last_block_that_matters(text: str, code: str | None) -> None:
    assert extract_code(text, "f") == code


def test_long_text_costs_no_more_than_its_length() -> None:
    assert extract_code("```python\n" * 200_001 + "x", "f") is not None


def test_a_program_of_a_whole_function_keeps_the_helpers_and_a_completion_is_the_body() -> None:
    whole = as_program("def f(x):\n    return helper(x)\n", PROMPT, "f")
    body = as_program("    return helper(x)\n\nprint('more')\n", PROMPT, "f")
    for program in (whole, body):
        namespace: dict[str, object] = {}
        exec(program, namespace)
        assert namespace["f"](3) == 3  # type: ignore[operator]
    assert "print" not in body
    assert as_program("x = 1") == "x = 1"


def test_a_whole_program_of_an_asynchronous_function_takes_the_place_of_its_head() -> None:
    head = 'import asyncio\nasync def f(x):\n    """Twice."""\n'
    assert as_program("async def f(x): return 2 * x", head, "f") == "import asyncio\nasync def f(x): return 2 * x"
