"""Answers to one problem as votes: equal answers in different formats are one vote, unequal ones never are.

No label is needed, so a wrong answer gathers votes as a right one does. The comparison is the verifier's own
(`pipeline.rewards.math`), where it is quick; what it could not compare quickly is equal only to its own text. Being
equal is not transitive (25 is 25%, 25% is 0.25, but 25 is not 0.25), so a vote takes in only what is equal, both ways,
to all that is in it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

from pipeline.rewards.extraction import cleaned
from pipeline.rewards.math import fraction_of, same_quickly

MAX_COMPARISONS = 1000
"""Of one problem's answers; beyond these only texts and plain numbers are compared."""


def votes_of(answers: Sequence[str | None]) -> list[str | None]:
    """For each answer the vote that it is, the first answer of its kind; None abstains. The order of the answers
    decides where an answer goes that two unequal ones are equal to, and nothing else."""
    texts = [cleaned(answer) if answer is not None else "" for answer in answers]
    vote = _votes(tuple(dict.fromkeys(filter(None, texts))))
    return [vote.get(text) for text in texts]


@lru_cache(maxsize=4096)
def _votes(texts: tuple[str, ...]) -> dict[str, str]:
    """The vote of each of these different texts."""
    numbers: dict[Fraction, list[str]] = {}
    votes: list[list[str]] = []
    num_compared = itertools.count(1)
    for text in texts:
        number = fraction_of(text)
        own = numbers.get(number) if number is not None else None
        if own is None:
            own = next((vote for vote in votes if _belongs(text, number, vote, num_compared)), None)
        if own is None:
            own = []
            votes.append(own)
        own.append(text)
        if number is not None:
            numbers.setdefault(number, own)
    return {text: vote[0] for vote in votes for text in vote}


def _belongs(text: str, number: Fraction | None, vote: list[str], num_compared: itertools.count[int]) -> bool:
    """Whether `text` is equal to all of `vote`. Two plain numbers of different values never are."""
    if number is not None and any(fraction_of(other) is not None for other in vote):
        return False
    return all(
        next(num_compared) <= MAX_COMPARISONS and same_quickly(text, other) and same_quickly(other, text)
        for other in vote
    )
