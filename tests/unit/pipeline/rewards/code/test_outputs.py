# ruff: noqa: E501
"""What of a printed output is right: words, lines, numbers."""

from __future__ import annotations

import random

import pytest

from pipeline.rewards.code.outputs import same_output

SAME = [
    ("1 2\n3\n", "1 2\n3"), ("1 2", "1  2 "), ("1 2", "1\t2\r\n"), ("1\n\n", "1"), ("1", "1\n\n\n"), ("a b", "a b"), ("", "\n"),
    ("0.5", "0.50"), ("0.333333333", "0.3333333333333"), ("1e3", "1000"), ("-0.0", "0.0"), ("2.50\n1", "2.5\n1"), ("YES", "YES"),
    ("100000000.0", "100000000.01"),
]  # fmt: skip
DIFFERENT = [
    ("1 2", "1\n2"), ("1\n2", "1 2"), ("12", "1 2"), ("1", "1 1"), ("1", ""), ("", "1"), ("YES", "Yes"), ("3", "3.0"), ("3", "03"),
    ("0.5", "0.51"), ("0.000001", "0.0"), ("0.5", "nan"), ("inf", "1e999"), ("1.0", "inf"), ("1.5", "1_5"), ("10.0", "1_0.0"), ("1", "1.0000000001"),
    ("1\n2", "1\n\n2"), ("nan", "inf"), ("1.0", "１.5"), ("2.5", "٢.٥"), ("1.5", "１.５"),
]  # fmt: skip


@pytest.mark.parametrize(("expected", "printed"), SAME)
def test_the_same(expected: str, printed: str) -> None:
    assert same_output(expected, printed)


@pytest.mark.parametrize(("expected", "printed"), DIFFERENT)
def test_another_one(expected: str, printed: str) -> None:
    assert not same_output(expected, printed)


def test_a_problem_may_have_rules_of_its_own() -> None:
    assert same_output("1 2", "1\n2", "tokens")
    assert not same_output("1 2", "2\n1", "tokens")
    assert same_output("1 \n", "1 \n", "exact")
    assert not same_output("1", "1\n", "exact")
    assert same_output("100", "100.4", tolerance=0.01)
    assert same_output("0.001", "0.005", tolerance=0.01)
    assert not same_output("100", "102", tolerance=0.01)
    assert not same_output("abc", "abd", tolerance=0.5)


def test_whole_numbers_are_the_same_when_they_are_equal_and_no_output_with_a_word_more() -> None:
    rng = random.Random(0)
    for _ in range(1000):
        expected, printed = ([rng.randint(-2, 10**18) for _ in range(rng.randint(1, 3))] for _ in range(2))
        printed = rng.choice([printed, expected])
        text = " ".join(map(str, expected))
        assert same_output(text, " ".join(map(str, printed)) + "\n") == (expected == printed)
        assert not same_output(text, f"{text} 1") and not same_output(text, f"{text}\n1", "tokens")
