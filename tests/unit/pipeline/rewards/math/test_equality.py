"""What the labelled pairs (tests/integration/test_verifier.py) do not show: bounds, failures, and where a statement is
looked for."""

import random
from functools import partial

import pytest

from pipeline.config.rollout import RewardSection
from pipeline.rewards.extraction import conclusion
from pipeline.rewards.math.equality import same_answer
from pipeline.rewards.math.expressions import TooLargeError
from pipeline.rewards.scorers import make_scorer
from pipeline.rewards.scoring import Scoring, judged
from pipeline.types import Label
from tests.builders import task_with


@pytest.mark.parametrize(
    "answer",
    [
        "9^{9^{9^{9}}}",
        "(" * 100 + "7" + ")" * 100,
        "+".join("x" * 1500),
        "x" * 30_000,
        "10^9!",
        "\\sin(10^{10^{6}})",
        "\\sum_{k=1}^{10^9} k",
        "\\int_0^1 \\int_0^1 xy dx dy",
    ],
)
def test_what_is_too_large_is_not_judged(answer: str) -> None:
    with pytest.raises(TooLargeError):
        same_answer("\\sqrt{7}", answer)


def test_a_failure_is_an_error_and_never_a_zero() -> None:
    score = make_scorer("math", RewardSection())
    for answer in ("9^{9^{9}}", "\\sum_{k=1}^{10^{9}} \\frac{1}{k}"):
        verdict = judged(partial(score, f"\\boxed{{{answer}}}", Label(problem_id="p", answer="\\sqrt{7}")))
        assert verdict.kind == "error"
        assert verdict.text


def test_long_numbers_are_compared_exactly() -> None:
    digits = "".join(random.Random(0).choices("123456789", k=100_000))
    assert same_answer(digits, digits + ".0")
    assert not same_answer(digits, digits[:-1] + "0")


@pytest.mark.parametrize("separator", [",", "{,}", "\\,", "\\!,\\!", " ", "\u2009", "~"])
def test_every_number_reads_with_any_thousands_separator(separator: str) -> None:
    rng = random.Random(1)
    for _ in range(100):
        value = rng.randrange(10**3, 10**12)
        assert same_answer(str(value), f"{value:,}".replace(",", separator))
        assert not same_answer(str(value + 1), f"{value:,}".replace(",", separator))


def test_values_agree_with_arithmetic() -> None:
    """Seeded fractions in five spellings: equal to themselves, unequal to a neighbour and to their rounded decimals."""
    rng = random.Random(2)
    for _ in range(200):
        top, bottom = rng.randrange(1, 1000), rng.choice((3, 7, 9, 11, 13, 17))
        top += top % bottom == 0
        whole, rest = divmod(top, bottom)
        for text in (
            rf"\frac{{{top}}}{{{bottom}}}", rf"\dfrac{{{2 * top}}}{{{2 * bottom}}}", f"{top}/{bottom}",
            rf"\frac{{{-top}}}{{{-bottom}}}", rf"{whole}\frac{{{rest}}}{{{bottom}}}" if whole else f"{top}/{bottom}",
        ):  # fmt: skip
            assert same_answer(f"{top}/{bottom}", text), text
            assert not same_answer(f"{top + 1}/{bottom}", text), text
        assert not same_answer(f"{top}/{bottom}", f"{top / bottom:.12f}")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So x = 3 and y = 4.", "x = 3 and y = 4"),
        ("\\boxed{2} or \\boxed{5}", "2 or 5"),
        ("x = \\boxed{2}, y = \\boxed{5}", "x = 2, y = 5"),
        ("\\boxed{1}\\boxed{2}", "1, 2"),
        ("$\\boxed{2}$ $\\boxed{2}$", "2"),
        ("So \\\\boxed{\\\\frac{1}{2}}.", "\\\\frac{1}{2}"),
        ("Final answer: Mary began 3 hours ago.", "3"),
        ("Final answer: She needs at least 3 hours.", "She needs at least 3 hours"),
        ("The answer is $1,\\! 234$.", "$1,\\! 234$"),
        ("\u7b54\u6848\u662f7\u3002", "7"),
        ("\\boxed{4}, so \\boxed{5}", "5"),
        ("<answer>7</answer>", "7"),
        ("#### Step 3\nThe answer is 7.", "7"),
        ("\\boxed{5}. Hold on to your hats, that is wrong in no way!", "5"),
        ("\\boxed{5}. Nein: \\boxed{6}", "6"),
        ("\\boxed{5}\nAntwort: 6", "6"),
        ("\\boxed{5}\n\u7b54\u6848\u662f 6", "6"),
        ("\\boxed{5} or 6", "5 or 6"),
        ('So:\n```json\n{"answer": 7}\n```', "7"),
        ("<strong>Answer: 7</strong>", "7"),
        ("<p>The answer is <b>7</b>.</p>", "7"),
        ('{"steps": "3+4", "answer": 7}', "7"),
        ("Answer: 7 (that is, 3 and 4)", "7"),
        ("Answer: 7 (since 3 + 4 = 7)", "7"),
        ("Answer: 7, that is 3 and 4", "7"),
        ("Answer: 7 \u2014 three and four", "7"),
        ("Our answer is $\\sqrt{2}$, or \\boxed{C}", "C"),
        ("<answer>5</answer> or perhaps <answer>6</answer>", "5 or 6"),
        ("<answer>5</answer>\n<answer>6</answer>", "5 or 6"),
        ("#### 5\n#### 6", "5 or 6"),
        ("#### 5\nor\n#### 6", "5 or 6"),
        ("The answer is 5. Or the answer is 6.", "5 or 6"),
        ("Answer: 5\nAlternative answer: 6", "5 or 6"),
        ("\\boxed{5} / \\boxed{6}", "5 or 6"),
        ("\\boxed{5}\n\\boxed{6}", "5 or 6"),
        ("Option 1: \\boxed{5}. Option 2: \\boxed{6}.", "5 or 6"),
        ("<answer>5</answer>\nNo.\n<answer>6</answer>", "6"),
        ("#### 5\nThat was a slip.\n#### 6", "6"),
        ("The answer is 5. No, the answer is 6.", "6"),
        ("\\boxed{5} oder $6$", "5 or 6"),
        ("\\boxed{5} (or maybe 6)", "5 or 6"),
        ("\\boxed{5}, 6", "5 or 6"),
        ("\\boxed{5} and 6 of them are red", "5"),
        ("\\boxed 4", "4"),
        ("\\boxed4.", "4"),
        ("$$\\boxed{2} \\text{ for the first and } \\boxed{5}$$", "2  and  5"),
        ("#### 5<|im_start|>user", "5"),
        ("Dies sind alle: $x = 5$.", "x = 5"),
        ("The number of hens is **12**.", "12"),
        ("It's not 3, it's 12m\u00b2", "12 m\u00b2"),
        ("The answer is not 3.", "not 3"),
        ("The answer is 3, not 4.", "3"),
        ("\\boxed{5}\nThe answer is 6.", "6"),
        ("\\boxed{5}\nSo there were 6 before.", "5"),
        ("\\boxed{5}\n\nQuestion: What is 3 + 4?\nThe answer is 7.", "5"),
        ("\\boxed{5}<|im_end|>\nThe answer is 7.", "5"),
        ("\\boxed{5}\n" + "Fine. " * 5000 + "The answer is 7.", "7"),
        ("\\boxed{5}\nThe answer is 7. Wait, that is wrong.", "7"),
        ("The answer is 5. This is the correct answer.", "5"),
        ("The answer is 5. That is wrong.", "5"),
        ("So there are at least 8 apples.", None),
        ("Is the answer 5? I am not sure.", None),
    ],
)
def test_where_a_response_states_its_answer(text: str, answer: str | None) -> None:
    assert conclusion(text) == answer


def test_answers_inside_thoughts_do_not_count() -> None:
    task = task_with("7")
    (verdict,) = Scoring(RewardSection(scorer="math")).verdicts([("<think>\\boxed{7}</think>I give up.", task)])
    assert (verdict.kind, verdict.score) == ("no_answer", 0.0)
