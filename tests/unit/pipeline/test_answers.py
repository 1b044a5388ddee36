import pytest

from pipeline.answers import boxed, extract_answer, gives_answer_away, strip_think


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
        ("The answer is 7.\nLet me explain.", None),
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


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("It ends in \\boxed{7}.", "7"),
        ("It ends in \\boxed{7.0}.", "7"),
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
    ],
)
def test_lesson_that_keeps_the_answer(text: str, answer: str) -> None:
    assert not gives_answer_away(text, answer)
