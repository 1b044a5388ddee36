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
        ("#### 1\n#### 72\nbye", "72"),
        ("So the answer is 7.", "7"),
        ("So the **answer:** 3.5", "3.5"),
        ("the answer is: **12**.", "12"),
        ("The answer is 7.\nLet me explain.", "7"),
        ("The answer is \\boxed{}.", None),
        ("The answer is \\boxed{4", None),
        ("12 + 3 = 15", None),
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
