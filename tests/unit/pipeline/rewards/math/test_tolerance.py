"""Answers within the error that a problem allows."""

from __future__ import annotations

import pytest

from pipeline.config.rollout import RewardSection
from pipeline.rewards.math.tolerance import within
from pipeline.rewards.scorers import math_verdict
from pipeline.types import Label


@pytest.mark.parametrize(
    ("gold", "answer", "tolerances", "expected"),
    [
        ("3.14", "3.1416", [0.01], True),
        ("3.14", r"\pi", [0.01], True),
        ("3.14", "3.16", [0.01], False),
        ("3.14", "-3.14", [0.01], False),
        ("0.2", r"\frac{1}{5}", [0.1], True),
        ("7", "x = 6.95", [0.1], True),
        ("7", "6.95 cm", [0.1], True),
        ("1, 2", "2.005, 0.995", [0.01], True),
        ("1, 2", "1.005, 0.995", [0.01], False),
        ("1, 20", "1.005, 19.95", [0.01, 0.1], True),
        ("1, 20", "1.05, 19.95", [0.01, 0.1], False),
        ("1, 2", "1", [0.01], False),
        ("3.14", "about three", [10.0], False),
        ("no", "3", [10.0], False),
        ("3.14", "", [10.0], False),
    ],
)
def test_a_value_may_differ_by_its_tolerance(gold: str, answer: str, tolerances: list[float], expected: bool) -> None:
    assert within(gold, answer, tolerances) is expected


def test_the_verifier_asks_for_it_where_the_label_allows_it() -> None:
    exact = Label(problem_id="p", answer="3.14")
    allowed = Label(problem_id="p", answer="3.14", entry={"tolerance": [0.01]})
    text = r"So it is \boxed{3.1416}."
    assert not math_verdict(text, exact, RewardSection()).correct
    assert math_verdict(text, allowed, RewardSection()).correct
    assert not math_verdict(r"\boxed{3.2}", allowed, RewardSection()).correct
