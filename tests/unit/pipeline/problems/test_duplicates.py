"""Which problems are near-duplicates, and which are only alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz import fuzz

from pipeline.problems.duplicates import NearDuplicates, keys_of
from pipeline.text import bag_hash, normalised, text_hash
from pipeline.types import Task
from tests.builders import task_with

SAME = [
    ("How many are divisible by 7 and 3?", "How many are divisible by 3 and 7?", "", ""),
    ("What is 4 + 3?", "what is $3 + 4$", "", ""),
    ("What is 3.5 + 2?", "What is 2 + 3.5?", "", ""),
    ("How many are divisible by 7 and 3?", "How many are divisible by the 7 and by the 3?", "4", " 4"),
    ("A box holds 12 pens.", "12 pens a box holds.", "", ""),
]
OTHER = [
    ("What is 4 + 3?", "What is 4 + 2?", "7", "6"),
    ("What is 4 + 3?", "What is 4 - 3?", "7", "1"),
    ("What is 2 + 2?", "What is 2 * 2?", "4", "4"),
    ("What is 3.5 + 2?", "What is 3 + 5.2?", "", ""),
    ("What is 4 + 3?", "What is 4 + 3 + 3?", "", ""),
    ("How many are divisible by 7 and 3?", "How many are divisible by the 7 and by the 3?", "4", "5"),
    ("How many are divisible by 7 and 3?", "How many are divisible by the 7 and by the 3?", "", ""),
    ("How many are prime below 10?", "How many are odd below 10?", "4", "4"),
]


def task(text: str, answer: str) -> Task:
    return task_with(answer, identity=text_hash(text), text=text)


def operator_text(name: str, a: int, b: int) -> str:
    return f"In {name} arithmetic the sign {name} joins two numbers. What is {a} {name} {b}?"


@pytest.mark.parametrize(("one", "other", "gold", "its_gold"), SAME)
def test_what_differs_in_wording_alone_is_a_near_duplicate(one: str, other: str, gold: str, its_gold: str) -> None:
    assert text_hash(one) != text_hash(other)
    assert keys_of(task(one, gold)) & keys_of(task(other, its_gold))


@pytest.mark.parametrize(("one", "other", "gold", "its_gold"), OTHER)
def test_other_numbers_signs_words_or_answers_are_another_problem(
    one: str, other: str, gold: str, its_gold: str
) -> None:
    assert not keys_of(task(one, gold)) & keys_of(task(other, its_gold))


@given(st.permutations(["How", "many", "numbers", "below", "100", "are", "divisible", "by", "7", "and", "3"]))
def test_the_order_does_not_matter(words: list[str]) -> None:
    assert bag_hash(" ".join(words)) == bag_hash("How many numbers below 100 are divisible by 3 and 7?")


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99))
def test_problems_of_one_hidden_rule_stay_however_alike_they_are(a: int, b: int, c: int, d: int) -> None:
    """7 dax 3 and 8 dax 3 are 97 % alike, and the lesson of the one is what the other needs."""
    one, other = operator_text("dax", a, b), operator_text("dax", c, d)
    assert fuzz.ratio(normalised(one), normalised(other)) > 93
    is_near = bool(keys_of(task(one, str(2 * a + b))) & keys_of(task(other, str(2 * c + d))))
    assert is_near == (sorted((a, b)) == sorted((c, d)))


def test_the_same_problem_of_another_operator_is_another_problem() -> None:
    assert not keys_of(task(operator_text("dax", 7, 3), "17")) & keys_of(task(operator_text("dix", 7, 3), "17"))


def test_gold_answers_are_known_of_the_tasks_given() -> None:
    one, other, gold, its_gold = SAME[3]
    tasks = [task(one, gold), task(other, its_gold)]

    def are_near(known: NearDuplicates) -> bool:
        return bool(known.keys(text_hash(one), one) & known.keys(text_hash(other), other))

    assert are_near(NearDuplicates(tasks))
    assert not are_near(NearDuplicates())


def test_programs_are_told_by_their_tests() -> None:
    texts = ("Write a function that adds its arguments.", "Write that function, which adds the arguments.")
    tests = ["assert f(1, 2) == 3", "assert f(2, 2) == 4"]

    def keys(text: str, content: str) -> frozenset[str]:
        return keys_of(task_with("", text=text, tests=content))

    assert not keys(texts[0], tests[0]) & keys("Write a function that multiplies its arguments.", tests[0])
    assert keys(texts[0], tests[0]) & keys("Write a function that adds its arguments!", tests[1])
