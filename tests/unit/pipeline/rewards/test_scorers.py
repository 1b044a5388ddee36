import pytest

from pipeline.config.rollout import RewardSection
from pipeline.rewards.scorers import DISORDERED, math_verdict
from pipeline.types import Label


@pytest.mark.parametrize(
    ("problem", "gold", "answer", "paid"),
    [
        ("Rank the runners from slowest to fastest.", "B, D, A", "B, D, A", True),
        ("Rank the runners from slowest to fastest.", "B, D, A", "A, B, D", False),
        ("Write 3/4, 0.2 and 1/2 in increasing order.", "0.2, 1/2, 3/4", "1/5, 1/2 and 3/4", True),
        ("Write 3/4, 0.2 and 1/2 in increasing order.", "0.2, 1/2, 3/4", r"\frac34, \frac12, \frac15", False),
        ("What are mode and median, in that order?", "7, 9", "9, 7", False),
        ("What are mode and median, in that order?", "7, 9", r"\{7, 9\}", True),
        ("Which numbers solve it?", "7, 9", "9, 7", True),
        ("Give (x, y) in that order.", "(7, 9)", "(7, 9)", True),
        ("List the counts in ascending order.", "1,234", "1234", True),
        ("An order of 7 pens costs 9.", "7, 9", "9, 7", True),
    ],
)
def test_a_list_has_the_order_that_its_problem_asks_for(problem: str, gold: str, answer: str, paid: bool) -> None:
    verdict = math_verdict(f"\\boxed{{{answer}}}", Label(problem_id="p", answer=gold), RewardSection(), problem)
    assert verdict.correct == paid
    assert paid or verdict.text == DISORDERED


def test_a_list_within_the_error_that_is_allowed_is_paid_where_an_order_is_asked_for() -> None:
    label = Label(problem_id="p", answer="1.2, 3.4", entry={"tolerance": [0.05]})
    verdict = math_verdict("\\boxed{1.21, 3.41}", label, RewardSection(), "Find mean and median, respectively.")
    assert verdict.correct
