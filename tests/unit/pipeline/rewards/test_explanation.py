"""Why a verdict is what it is: mark, extracted answer, gold answer, rule."""

from __future__ import annotations

import random

import pytest

from pipeline.config.rollout import RewardSection
from pipeline.rewards.explanation import explained
from pipeline.rewards.scorers import make_scorer
from pipeline.types import Label, Verdict

SETTINGS = RewardSection(scorer="math")


@pytest.mark.parametrize(
    ("gold", "text", "mark", "extracted", "rule"),
    [
        ("7", "So \\boxed{7}.", "\\boxed", "7", "the same text"),
        ("0.5", "Work.\n#### 1/2", "####", "1/2", "the same number"),
        ("\\frac{\\pi}{2}", "<answer>\\dfrac\\pi2</answer>", "<answer>", "\\dfrac\\pi2", "equal as a value"),
        ("\\text{ east }", "\\boxed{\\textbf{East}}", "\\boxed", "\\textbf{East}", "the same signs, spelled otherwise"),
        ("x=5", "The answer is 5.", "statement", "5", "a value that says what a value with its name says"),
        ("1, 2", "It is \\boxed{2, 1}", "\\boxed", "2, 1", "equal as a list in any order"),
        ("2\\sqrt2", "\\boxed{\\sqrt8}", "\\boxed", "\\sqrt8", "equal as a value"),
        ("7", "The total is **8**.", "last line", "8", "each is a value, and they differ"),
        ("1, 2", "\\boxed{1, 2, 3}", "\\boxed", "1, 2, 3", "of 2 and of 3 items"),
        ("(1, 2)", "\\boxed{3}", "\\boxed", "3", "the gold answer is items in brackets, the answer a value"),
        ("7", "I do not know.", "", None, "no answer was found"),
        ("7", "<think>\\boxed{7}</think> Hm.", "", None, "no answer was found"),
    ],
)
def test_each_verdict_has_its_reason(gold: str, text: str, mark: str, extracted: str | None, rule: str) -> None:
    label = Label(problem_id="p", answer=gold)
    verdict = make_scorer("math", SETTINGS)(text if "think" not in text else "Hm.", label)
    found = explained(text, label, verdict, "math")
    assert (found.extracted, found.compared_with) == (extracted, (gold,))
    assert mark in found.mark and bool(mark) == bool(found.mark)
    assert rule in found.rule


def test_programs_families_and_ones_own_functions_say_what_they_know() -> None:
    program = Label(problem_id="p", answer="", entry={"tests": "assert f(1) == 2", "entry_point": "f"})
    text = "```python\ndef f(x):\n    return x + 1\n```"
    passed = explained(text, program, Verdict(kind="scored", score=1.0, correct=True, answer="def f"), "auto")
    assert (passed.mark, passed.rule, passed.compared_with) == ("a code block of 1", "all tests passed", ())
    assert explained("?", program, Verdict(kind="no_answer"), "auto").rule == "no program was found that defines f"
    assert "not done in time" in explained(text, program, Verdict(kind="timeout"), "code").rule
    reason = "a test failed: AssertionError: assert f(1) == 3"
    assert explained(text, program, Verdict(kind="scored", answer="def f", text=reason), "auto").rule == reason
    family = Label(problem_id="p", answer="7", entry={"family": "chain_sum"})
    verdict = Verdict(kind="scored", score=0.5, answer="7")
    assert explained("\\boxed{7}", family, verdict, "auto").rule == "the scorer of the task family chain_sum gave 0.5"
    reads = Label(problem_id="p", answer="", entry={"tests": [{"input": "1", "output": "2"}], "entry_point": ""})
    assert explained("?", reads, Verdict(kind="no_answer"), "auto").rule == "no program was found"
    echoed = Verdict(kind="scored", answer="5 + 2", text="it repeats the problem")
    assert (
        explained("\\boxed{5 + 2}", Label(problem_id="p", answer="7"), echoed, "math").rule == "it repeats the problem"
    )
    own = explained("\\boxed{7}", family, Verdict(kind="scored", score=2.0, text="polite"), "my:reward")
    assert own.rule == "polite"
    assert explained("x", family, Verdict(kind="error", text="it broke"), "math").rule == "no verdict: it broke"


def test_no_text_is_without_an_explanation() -> None:
    rng = random.Random(5)
    pieces = [
        "\\boxed{",
        "}",
        "{",
        "\\frac",
        "x",
        "=",
        "1",
        ",",
        "(",
        "]",
        "####",
        "\n",
        "<answer>",
        "\\begin{cases}",
        "^",
        "é",
    ]
    for _ in range(2000):
        gold, text = ("".join(rng.choices(pieces, k=rng.randrange(12))) for _ in range(2))
        for correct in (True, False):
            verdict = Verdict(kind="scored", correct=correct)
            assert explained(text, Label(problem_id="p", answer=gold), verdict, "math").rule
