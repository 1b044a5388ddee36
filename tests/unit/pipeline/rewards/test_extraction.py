import pytest

from pipeline.rewards.extraction import boxed, extract_answer
from pipeline.text import strip_think


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("12 + 35 = 47\n47 - 7 = 40\n\\boxed{40}", "40"),
        ("\\boxed{1} no, \\boxed{2}", "2"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed {7}", "7"),
        ("\\boxed{$7$}.", "7"),
        ("\\boxed{7.}", "7"),
        ("\\boxed{\u22127}", "-7"),
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("\\boxed{\\boxed{7}}", "7"),
        ("\\boxed{5} and then \\boxed{6", "5"),
        ("\\boxed{5} and then \\boxed{}", "5"),
        ("work\n#### 72", "72"),
        ("#### 1\nNo.\n#### 72\nbye", "72"),
        ("So the answer is 7.", "7"),
        ("So the **answer:** 3.5", "3.5"),
        ("the answer is: **12**.", "12"),
        ("The answer is 7.\nLet me explain.", "7"),
        ("The answer is \\boxed{}.", None),
        ("The answer is \\boxed{4", None),
        ("12 + 3 = 15", None),
        ("So the total is 12 + 3 = 15 apples.", "12 + 3 = 15 apples"),
        ("There are 15 apples left in the basket.", "15 apples left in the basket"),
        ("It equals 15.", "15"),
        ("It is not equal to 15.", None),
        ("Hence f(3) = 15.", "f(3) = 15"),
        ("The answer must be 15.", "15"),
        ("Done.\n```\n15\n```", "15"),
        ("-\\boxed{15}", "-15"),
        ("- \\boxed{15}", "15"),
        ("The ratio is 3:15.", "3:15"),
        ("Answer: see step 15", "see step 15"),
        ("The total is 15.\n\nQ: And 3 + 4?\nA: The answer is 7.", "15"),
        ("I think.\n\nQuestion: 3 + 4?\nThe answer is 7.", "7"),
        ("Also ist die Antwort 15.", "15"),
        ("La respuesta correcta es la opci\u00f3n B.", "B"),
        ("\u0110\u00e1p \u00e1n: B", "B"),
        ("The point of all this: A", None),
        ("Correct: B", "B"),
        ("Incorrect: B", None),
        ("Wrong option: B", None),
        ("Falsch: B", None),
        ("The incorrect answer is B.", None),
        ("\u7b54\u6848\u9009B", "B"),
        ("\u6240\u4ee5x=15\u3002", "x=15"),
        ("\u7ed3\u679c\u662f15\u3002", "15"),
        ("The answer is 15<|end|>", "15"),
        ("Die Antwort lautet 15.", "15"),
        ("\u6545\u9009\uff1aD\uff0e", "D"),
        ("\u7b54\uff1a\u4e00\u5171\u670915\u4e2a\u82f9\u679c\u3002", "15"),
        ("\u7b54\u3048\u306f 15 \u3067\u3059\u3002", "15"),
        ("\uc815\ub2f5\uc740 15\uc785\ub2c8\ub2e4.", "15"),
        ("\u0627\u0644\u062c\u0648\u0627\u0628 \u0647\u0648 15", "15"),
        ("", None),
        ("}}}{{{\\boxed", None),
    ],
)
def test_extract_answer(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


def test_boxes_come_in_the_order_in_which_they_open() -> None:
    assert boxed("\\boxed{a\\boxed{b}} {x} \\boxed{c}") == ["a\\boxed{b}", "b", "c"]


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("<think>2 + 2</think>\\boxed{4}", "\\boxed{4}"),
        ("a<think>b</think>c<think>d</think>e", "ace"),
        ("opened in the prompt</think>answer", "answer"),
        ("<think>cut \\boxed{3}", ""),
        ("no block", "no block"),
    ],
)
def test_strip_think(text: str, rest: str) -> None:
    assert strip_think(text) == rest
