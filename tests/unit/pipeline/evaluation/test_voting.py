"""Equal answers are one vote in whatever format, and unequal ones never are."""

import itertools
import json
from pathlib import Path

import pytest

from pipeline.evaluation.voting import votes_of
from pipeline.rewards.math import same_answer

PAIRS = Path(__file__).parents[3] / "data" / "answer_pairs.jsonl"


@pytest.mark.parametrize(
    ("answers", "votes"),
    [
        (["1/2", "\\frac{1}{2}", "\\frac12", "0.5", "0.50"], "aaaaa"),
        (["x=5", "5", "5.0", "$5$", "x = 5"], "aaaaa"),
        (["5", None, "", "6"], "a--b"),
        (["25", "25%", "0.25"], "aab"),
        (["25%", "0.25", "25"], "aab"),
        (["12", "12 cm", "12 m", "12 \\text{ cm}"], "aaba"),
        (["(1,2)", "(1, 2)", "(2,1)", "1 and 2", "2, 1"], "aabcc"),
        (["B", "(B)", "\\text{B}", "b", "C"], "aaabc"),
        (["3 1/2", "31/2", "7/2"], "aba"),
        (["Paris", "paris", "London"], "aab"),
        (["x=5", "y=5"], "ab"),
        (["9^{9^{9^9}}", "9^{9^{9^9}}", "9^{9^{9^8}}"], "aab"),
        (["2\\sqrt{3}", "\\sqrt{12}", "3.4641"], "aab"),
        (["1,234", "1234", "1{,}234"], "aaa"),
    ],
)
def test_votes(answers: list[str | None], votes: str) -> None:
    found = votes_of(answers)
    kinds = list(dict.fromkeys(vote for vote in found if vote is not None))
    assert "".join("-" if vote is None else "abcdefgh"[kinds.index(vote)] for vote in found) == votes


def test_no_vote_holds_two_answers_that_the_verifier_tells_apart() -> None:
    """Over all gold answers of the labelled pairs at once, as if they were answers to one problem."""
    golds = [json.loads(line)["gold"] for line in PAIRS.read_text(encoding="utf-8").splitlines()]
    answers = [gold for gold in dict.fromkeys(golds) if not any(word in gold for word in ("\\int", "\\sum", "\\lim"))]
    for first in range(0, len(answers), 40):
        some = answers[first : first + 40]
        members: dict[str, list[str]] = {}
        for answer, vote in zip(some, votes_of(some), strict=True):
            members.setdefault(str(vote), []).append(answer)
        for together in members.values():
            for one, two in itertools.permutations(together, 2):
                assert same_answer(one, two), (one, two)


def test_the_same_answers_are_the_same_votes() -> None:
    answers = ["7", "x=7", "8", "7.0", "7 cm", None] * 5
    assert votes_of(answers) == votes_of(list(answers))
    assert len({vote for vote in votes_of(answers) if vote}) == 2
