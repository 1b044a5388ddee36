"""What gives a gold answer or a program away, and what merely mentions a number."""

from __future__ import annotations

import pytest

from pipeline.experience.leakage import gives_answer_away, gives_program_away
from pipeline.sft.lessons import all_lessons
from prompts.render import render_lessons


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("It ends in \\boxed{7}.", "7"),
        ("It ends in \\boxed{7.0}.", "7"),
        ("It ends in \\boxed{\\frac12}.", "0.5"),
        ("The answer is 7", "7"),
        ("the final ANSWER:  $7$", "7"),
        ("Here 3 + 4 = 7.", "7"),
        ("Here 3 + 4 = 7\nthen go on", "7"),
        ("Subtract: 3 - 10 = \u22127.", "-7"),
        ("so it equals 7!", "7"),
        ("#### 7", "7"),
        ("Note that 1,754 came up.", "1754"),
        ("Note that 1754.0 came up.", "1,754"),
        ("Remember that the Big   red\nfox wins", "big red fox"),
        ("The answer is Paris.", "Paris"),
        ("The answer is 7.", "7.0"),
        ("The answer is 3/4.", "\\frac{3}{4}"),
        ("The answer is 0.75.", "3/4"),
        ("The answer is 0.75, since a quarter is left.", "\\frac{3}{4}"),
        ("The answer is 1234.", "1{,}234"),
        ("The answer is 50%.", "50\\%"),
        ("The answer is (3, 4).", "(3,4)"),
        ("The solution is 2, 3.", "2,3"),
        ("The solutions are x = 2 and x = 3.", "2, 3"),
        ("The answer is B.", "\\text{(B)}"),
        ("So choose option B.", "\\text{(B)}"),
        ("The answer is 18.", "$18"),
        ("The answer is $18 a day.", "18"),
        ("The answer is 12.", "12\\text{ cm}"),
        ("The answer is yes", "\\text{Yes}"),
        ("The total is 7.", "7"),
        ("The total number of apples is 7, so check it.", "7"),
        ("3 + 4 = 7 apples.", "7"),
        ("Add the parts, which gives 7.", "7"),
        ("In the end you get $7$.", "7"),
        ("The remainder must be 2.", "2"),
        ("Use 1234 as a check.", "1{,}234"),
        ("Use $1{,}234$ as a check.", "1234"),
        ("Watch the \\frac{123}{7} here.", "123/7"),
        ("The point (10, 25) matters.", "(10,25)"),
        ("The result is $\\frac{\\pi}{4}$.", "\\pi/4"),
        ("One needs no real solutions here.", "\\text{No real solutions}"),
    ],
)
def test_gives_answer_away(text: str, answer: str) -> None:
    assert gives_answer_away(text, answer)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Add from left to right.", "7"),
        ("Take 7 steps at most.", "7"),
        ("Then 3 + 4 = 7 + 0 and so on", "7"),
        ("The answer is 70.", "7"),
        ("The answer is 7.5.", "7"),
        ("x = 17.", "7"),
        ("Item 21754 differs.", "1754"),
        ("Item 1754.5 differs.", "1754"),
        ("Paris has a river.", "Paris"),
        ("Anything at all.", ""),
        ("\\boxed{17}", "7"),
        ("Divide by 2 first.", "2"),
        ("Split it into 2 parts, then add 3.", "2"),
        ("Avoid dividing when the value is 0.", "0"),
        ("Check whether the remainder is 0 before you go on.", "0"),
        ("The answer is never below zero.", "7"),
        ("The answer is 7 times the first number.", "7"),
        ("The total is 7 more than the first number.", "7"),
        ("The total is 17.", "7"),
        ("The sum gives 7 as its last digit.", "7"),
        ("Half of it is 3/4 of the rest.", "0.75"),
        ("A number like 0.5 is a fraction.", "1/2"),
        ("Option B ignores friction.", "B"),
        ("Compare option A with option B.", "(B)"),
        ("Convert 100 cm to 1 m.", "1000"),
        ("Use 12.5% of the price.", "0.0125"),
        ("A big red box holds a fox.", "big red fox"),
        ("The point (25, 10) matters.", "(10,25)"),
        ("State the answer in cm.", "12\\text{ cm}"),
        ("The result is \\int_0^1 x dx.", "\\frac{1}{3}"),
    ],
)
def test_lesson_that_keeps_the_answer(text: str, answer: str) -> None:
    assert not gives_answer_away(text, answer)


def test_no_lesson_of_the_seeds_gives_a_small_number_away() -> None:
    for lesson in all_lessons():
        for answer in ("0", "1", "2", "7", "10", "-3", "\\frac{1}{2}", "B", "yes"):
            assert not gives_answer_away(render_lessons((lesson,)), answer)


@pytest.mark.parametrize(
    "answer", ["9^{9^{9^9}}", "(" * 5000, "x" * 30_000, "\\int_0^1 \\sin(\\sin x) dx", "7", "1" * 5000]
)
def test_hostile_texts_are_judged_at_once(answer: str) -> None:
    for text in (
        "The answer is 9^{9^{9}}. " * 40,
        "= 1 " * 500,
        "(" * 2000,
        "\\boxed{" * 500,
        "1,234 " * 300,
        f"\\boxed{{{answer}}}",
    ):
        assert gives_answer_away(text, answer) in (True, False)


PROGRAM = '''
import math


def f(numbers):
    """Doc."""
    total = 0  # running
    for number in numbers:
        if number % 3 == 0:
            total += number * 2
        else:
            total -= 1
    return total
'''


@pytest.mark.parametrize(
    "lesson",
    [
        "- Idea: for number in numbers: if number % 3 == 0: total += number * 2",
        "- Do: write `if number%3==0:  total+=number*2` in the loop",
        "- Do: IF number % 3 == 0:\n            total += number * 2",
    ],
)
def test_a_lesson_with_lines_of_the_program_gives_it_away(lesson: str) -> None:
    assert gives_program_away(lesson, PROGRAM)


@pytest.mark.parametrize(
    "lesson",
    [
        "- Idea: loop over the numbers and keep a running total.",
        "- Do: use `import math` and return total.",
        "- Do: test divisibility with %, and handle else: total -= 1 with care",
        "- Avoid: forgetting to return total.",
        "",
    ],
)
def test_a_lesson_about_a_program_does_not(lesson: str) -> None:
    assert not gives_program_away(lesson, PROGRAM)


def test_a_program_of_one_line_is_given_away_by_it() -> None:
    program = "def f(x):\n    return 17 * x + 4\n"
    assert gives_program_away("- Do: return 17*x + 4", program)
    assert not gives_program_away("- Do: multiply, then add.", program)
    assert not gives_program_away("- Do: return x", "def f(x):\n    return x\n")
    assert gives_program_away("- Idea: f = lambda x: x ** 3 - 1", "f = lambda x: x ** 3 - 1")
    assert not gives_program_away("anything", "")
