"""Which texts are the same problem."""

from __future__ import annotations

import pytest

from pipeline.text import text_hash
from pipeline.types import Problem


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("4+3", "4 + 3"),
        ("$3$ apples", "3 apples"),
        ("What is the total ?", "what is the total?"),
        ("Find x.", "Find x"),
        ("What is  4 – 3 =", "What is 4 - 3"),
        (r"\(x+1\)", "x + 1"),
        (r"$\dfrac{1}{2}$", r"\frac{1}{2}"),
        (r"\left( x \right)", "(x)"),
        ("It’s 3", "It's 3"),
        ("a\nb", "a b"),
        ("ﬁve", "five"),
    ],
)
def test_typesetting_blanks_and_closing_signs_make_no_other_problem(one: str, other: str) -> None:
    assert text_hash(one) == text_hash(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("4 + 3", "4 + 5"),
        ("1 23", "12 3"),
        ("x + 1", "x - 1"),
        ("-3", "3"),
        ("3.5", "35"),
        ("What is left of 3?", "What is of 3?"),
        ("(a, b]", "(a, b)"),
    ],
)
def test_numbers_words_and_signs_make_another_problem(one: str, other: str) -> None:
    assert text_hash(one) != text_hash(other)


def test_what_wraps_a_question_is_no_part_of_its_identity() -> None:
    bare = Problem(id="a", text="Add 4 and 3.")
    wrapped = Problem(id="b", text="Solve this. Add 4 and 3. Answer in a box.", question="Add 4 and 3.")
    assert bare.text_hash == wrapped.text_hash
    assert wrapped.query_text == bare.query_text
