"""What a majority of k of n answers to one problem decides, for every k at once and exactly (Wang 2022, self-consistency).

A subset of k answers decides for its most frequent vote; votes that tie share the decision; without a vote nothing is decided, which
is not correct. Of all subsets, those in which a vote leads with t answers are counted by generating functions: x counts answers, y the
rivals that have t as well, and 1/(1 + ties) is the integral of y^ties over [0, 1], exact by Gauss-Legendre nodes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from functools import lru_cache
from statistics import fmean as mean

import numpy as np

MAX_SAMPLES = 1000
"""Shares of subsets of more answers leave the range of floating-point numbers."""


def majority_curve(votes: Sequence[Hashable | None], correct: Sequence[bool]) -> np.ndarray:
    """Probabilities (n,) that the majority of k = 1, …, n of the answers is correct.

    `votes` are answers in a form that equals share; None abstains. Should verdicts on equals differ, their mean is taken.
    Raises ValueError for no answers, or more than MAX_SAMPLES."""
    num = len(votes)
    if not 1 <= num <= MAX_SAMPLES:
        raise ValueError(f"a majority of {num} answers; give 1 to {MAX_SAMPLES}")
    of_vote: defaultdict[Hashable, list[bool]] = defaultdict(list)
    for vote, right in zip(votes, correct, strict=True):
        if vote is not None:
            of_vote[vote].append(right)
    counts = {vote: len(verdicts) for vote, verdicts in of_vote.items()}
    curve = np.zeros(num)
    for vote, verdicts in of_vote.items():
        if any(verdicts):
            rivals = [count for other, count in counts.items() if other != vote]
            curve += mean(verdicts) * _share_led(counts[vote], rivals, num)
    return np.clip(curve, 0.0, 1.0)


def _share_led(count: int, rivals: list[int], num: int) -> np.ndarray:
    """(num,) The share of the decision that falls to a vote with `count` answers, beside `rivals`' and those that abstain."""
    own = _subsets(count)
    most = min(count, max(rivals, default=0))
    # With more than any rival can have, it leads alone.
    led = np.convolve(np.where(np.arange(count + 1) > most, own, 0.0), _subsets(num - count))
    for t in range(1, most + 1):
        tying = [rival for rival in rivals if rival >= t]
        # All others may be in the subset in any number: those that abstain, and rivals that cannot reach t.
        others = _subsets(num - count - sum(tying))
        nodes, weights = _nodes(len(tying))
        ways = np.outer(np.ones(len(nodes)), others)
        for rival in tying:
            each = np.outer(np.ones(len(nodes)), _subsets(rival)[: t + 1])
            each[:, t] *= nodes
            ways = _product(ways, each)
        found = own[t] * (weights @ ways)[: num + 1 - t]
        led[t : t + len(found)] += found
    return led[1:] / _subsets(num)[1:]


def _product(polynomials: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Row by row the product of two polynomials, lowest power first."""
    width = polynomials.shape[1]
    result = np.zeros((len(polynomials), width + factors.shape[1] - 1))
    for power in range(factors.shape[1]):
        result[:, power : power + width] += factors[:, power : power + 1] * polynomials
    return result


@lru_cache(maxsize=2 * MAX_SAMPLES)
def _subsets(num: int) -> np.ndarray:
    """(num + 1,) Subsets of each size of `num` answers, as shares of all of them, so that products stay within range."""
    return np.array([math.comb(num, size) / 2**num for size in range(num + 1)])


@lru_cache(maxsize=MAX_SAMPLES)
def _nodes(degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [0, 1] by which a polynomial of this degree is integrated exactly."""
    nodes, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    return (nodes + 1) / 2, weights / 2
