"""Right programs in the formats that models answer in, through the scorer and real sandboxes; and wrong ones in the
same formats."""

import textwrap

import pytest

from pipeline.config.rollout import CodeSection, RewardSection
from pipeline.rewards.code import sandbox
from pipeline.rewards.scorers import make_scorer
from pipeline.types import Label

PROBLEM = sandbox.isolation_problem()
pytestmark = pytest.mark.skipif(PROBLEM is not None, reason=f"programs not run: {PROBLEM}")

PROMPT = 'from typing import List\nimport math\n\n\ndef f(x: int) -> int:\n    """Twice x, plus one."""\n'
TESTS = "assert f(2) == 5\nassert f(-1) == -1"


def verdict(text: str, prompt: str = "", tests: str = TESTS, entry_point: str = "f") -> str:
    entry = {"tests": tests, "entry_point": entry_point, **({"prompt": prompt} if prompt else {})}
    score = make_scorer("code", RewardSection(timeout_s=20.0, code=CodeSection(num_ahead=0)))
    found = score(text, Label(problem_id="p", answer="", entry=entry))
    return "passed" if found.correct else found.kind


FORMATS = {
    "closing fence on the last line": "```python\ndef f(x):\n    return 2 * x + 1```",
    "fence in a list": "1. Here it is:\n\n   ```python\n   def f(x):\n       return 2 * x + 1\n   ```\n2. Done.",
    "fence behind a bullet": "- ```python\n  def f(x):\n      return 2 * x + 1\n  ```",
    "code indented, fence not": "```python\n    def f(x):\n        return 2 * x + 1\n```",
    "helper in an earlier block": (
        "```python\ndef g(x):\n    return 2 * x\n```\nThen:\n```python\ndef f(x):\n    return g(x) + 1\n```"
    ),
    "imports in an earlier block": (
        "```python\nimport math\n```\nThen:\n```python\ndef f(x):\n    return math.floor(2 * x + 1)\n```"
    ),
    "constant in an earlier block": (
        "```python\nTWO: int = 2\nONE = 1\n```\n```python\ndef f(x):\n    return TWO * x + ONE\n```"
    ),
    "helper of a helper": (
        "```python\nfrom math import (\n    floor as down,\n)\n```\n```python\ndef g(x):\n    return down(2 * "
        "x)\n```\n```python\ndef f(x):\n    return g(x) + 1\n```\nUse:\n```python\nprint(f(2))\n```"
    ),
    "helper in a later block": (
        "```python\ndef f(x):\n    return g(x) + 1\n```\nwith\n```python\ndef g(x):\n    return 2 * x\n```"
    ),
    "an example that fails, before it": (
        "```python\nx = 1\nprint(no_such_name(x))\n```\n```python\ndef f(x):\n    return 2 * x + 1\n```"
    ),
    "prose without fences": (
        "Here is the function:\n\ndef f(x):\n    # twice\n    return 2 * x + 1\n\nThis works for all whole numbers."
    ),
    "prose around imports": (
        "Sure!\nimport math\n\nfrom typing import List\n\ndef f(x):\n    return math.floor(2 * x + 1)\n"
        "Note: it is fast."
    ),
    "prose around an indented listing": (
        "Solution: add.\n\n    import math\n\n    def f(x):\n        return math.floor(2 * x + 1)\n\nDone."
    ),
    "tildes": "~~~python\ndef f(x):\n    return 2 * x + 1\n~~~",
    "four backticks": "````python\ndef f(x):\n    return 2 * x + 1\n````",
    "py3": "```py3\ndef f(x):\n    return 2 * x + 1\n```",
    "Python 3.11": "```Python3.11\ndef f(x):\n    return 2 * x + 1\n```",
    "attributes": '```python title="a.py"\ndef f(x):\n    return 2 * x + 1\n```',
    "braces": "```{python}\ndef f(x):\n    return 2 * x + 1\n```",
    "pycon": "```pycon\n>>> def f(x):\n...     return 2 * x + 1\n...\n>>> f(2)\n5\n```",
    "on the line of a sentence": "Sure! ```python\ndef f(x):\n    return 2 * x + 1\n```",
    "fences in a docstring": (
        '```python\ndef f(x):\n    """Twice.\n\n    ```\n    f(2)\n    ```\n    """\n    return 2 * x + 1\n```\nDone.'
    ),
    "quotes in strings": (
        "```python\nQUOTE = '\"\"\"'  # '''\ndef f(x):\n    return 2 * x + 1\n```\nUse:\n"
        '```python\n"""Doc."""\nprint(f(2))\n```'
    ),
    "quotes in another language": (
        '```text\nf says """\n```\n```python\ndef f(x):\n    """Doc."""\n    return 2 * x + 1\n```'
    ),
    "not closed": "```python\ndef f(x):\n    return 2 * x + 1\n",
    "not closed, then another": (
        "```python\ndef g(x):\n    return 2 * x\n```python\ndef f(x):\n    return g(x) + 1\n```"
    ),
    "output after it": "```python\ndef f(x):\n    return 2 * x + 1\n```\nOutput:\n```\n5\n```",
    "two drafts": (
        "```python\ndef f(x):\n    return x\n```\nThat is wrong.\n```python\ndef f(x):\n    return 2 * x + 1\n```"
    ),
    "future import": (
        "```python\nfrom __future__ import annotations\n\ndef f(x: int) -> int:\n    return 2 * x + 1\n```"
    ),
    "windows": "```python\r\ndef f(x):\r\n    return 2 * x + 1\r\n```\r\n",
    "lambda": "```python\nf = lambda x: 2 * x + 1\n```",
    "annotated": "```python\nfrom typing import Callable\nf: Callable[[int], int] = lambda x: 2 * x + 1\n```",
    "thoughts": "<think>```python\ndef f(x): return x\n```</think>```python\ndef f(x): return 2 * x + 1\n```",
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_right_program_passes_in_any_format_and_a_wrong_one_in_none(name: str) -> None:
    assert verdict(FORMATS[name]) == "passed"
    wrong = FORMATS[name].replace("+ 1", "+ 2").replace("ONE = 1", "ONE = 2").replace("+ ONE", "+ ONE + 1")
    assert verdict(wrong) == "scored"


@pytest.mark.parametrize(
    "text",
    [
        (
            "```python\nfrom __future__ import annotations\nfrom typing import List\n\ndef f(x: int) -> int:\n   "
            " return 2 * x + 1\n```"
        ),
        "    return 2 * x + 1\n\n\nprint('more')\n",
        "```python\n    return 2 * x + 1\n```",
        "    y = 2 * x\n    return y + 1\n\nThis is the body.",
        PROMPT + "    return 2 * x + 1\n",
        "```python\n" + PROMPT + "    return 2 * x + 1\n```",
        "Here you go:\n\n" + PROMPT + "    return 2 * x + 1\n\nI hope that it helps.",
        textwrap.indent("```python\n" + PROMPT + "    return 2 * x + 1\n```", "   "),
    ],
)
def test_a_completion_or_a_whole_function_passes_behind_its_prompt(text: str) -> None:
    assert verdict(text, PROMPT) == "passed"
    assert verdict(text.replace("+ 1", "+ 2"), PROMPT) == "scored"


@pytest.mark.parametrize(
    "text", ["", "I cannot do that.", "```json\n{}\n```", "```text\ndef f(x): return 2 * x + 1\n```"]
)
def test_no_program_is_no_pass(text: str) -> None:
    assert verdict(text) in ("no_answer", "scored")


def test_a_function_called_check_is_judged_by_assertions_or_by_a_check_of_the_tests() -> None:
    program = "def check(n):\n    return n == 5"
    assert verdict(program, tests="assert check(5) == True\nassert check(6) == False", entry_point="check") == "passed"
    assert verdict(program, tests="assert check(5) == False", entry_point="check") == "scored"
    own = "def check(candidate):\n    assert candidate(5) and not candidate(6)"
    assert verdict(program, tests=own, entry_point="check") == "passed"
    assert verdict(program.replace("5", "6"), tests=own, entry_point="check") == "scored"
    helper = 'def check(n):\n    raise ValueError\n\n\ndef f(x):\n    """Twice x, plus one."""\n'
    assert verdict("    return 2 * x + 1", helper) == "passed"  # a check of the prompt is a helper of the program
