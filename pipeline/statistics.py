"""Estimates from k of n samples, majorities, intervals and tests: pure functions of numbers.

Suffix: `_P` by problem. Intervals are of 95 %: problems are resampled with all of their samples (a cluster bootstrap),
because samples of one problem are not independent (Miller 2024, "Adding Error Bars to Evals"). The bootstrap knows only
the spread that it has seen: where nearly all problems came out alike it would promise a precision that nobody has.
There an estimate has Wilson's interval, with each problem as one trial; a comparison resamples two problems more, one
won and one lost (Bonett and Price 2012, for paired proportions), and its interval holds 0 wherever the test does not
refuse it.

A majority of k answers (Wang 2022, self-consistency) is computed for every k at once and exactly. A subset of k answers
decides for its most frequent vote; votes that tie share the decision; without a vote nothing is decided, which is not
correct. Of all subsets, those in which a vote leads with t answers are counted by generating functions: x counts
answers, y the rivals that have t as well, and 1/(1 + ties) is the integral of y^ties over [0, 1], exact by
Gauss-Legendre nodes."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from functools import lru_cache
from statistics import fmean as mean
from typing import NamedTuple

import numpy as np

NUM_RESAMPLES = 4000
NUM_FLIPS = 20_000
MIN_DEPARTING = 5
"""Fewer problems than this that differ from the others tell the bootstrap too little of the spread."""
PSEUDO_DIFFERENCES = (1.0, -1.0)
"""Of two problems that a paired interval adds to those that were seen (Bonett and Price 2012)."""
EXACT_FLIPS = 14
"""Up to so many problems that differ, every assignment of signs is taken."""
CHUNK = 256
MAX_SAMPLES = 1000
"""Shares of subsets of more answers leave the range of floating-point numbers."""
Z = 1.959964
"""The 97.5 % point of the normal distribution."""


class Estimate(NamedTuple):
    """A mean over problems with its interval."""

    value: float
    low: float
    high: float
    num_problems: int


class Paired(NamedTuple):
    """The mean difference a − b over the problems that both have, and a two-sided p-value (sign-flip permutation
    test)."""

    effect: float
    low: float
    high: float
    p_value: float
    num_problems: int


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Probability that k of the samples hold a correct one, without bias: 1 − C(n − c, k) / C(n, k) (Chen 2021, eq. 1).

    Raises ValueError for k over the number of samples."""
    if not 1 <= k <= num_samples:
        raise ValueError(f"k = {k} of {num_samples} samples: k must be from 1 to the number of samples")
    return 1.0 - math.comb(num_samples - num_correct, k) / math.comb(num_samples, k)


def majority_curve(votes: Sequence[Hashable | None], correct: Sequence[bool]) -> np.ndarray:
    """Probabilities (n,) that the majority of k = 1, …, n of the answers is correct.

    `votes` are answers in a form that equals share; None abstains. Should verdicts on equals differ, their mean is
    taken. Raises ValueError for no answers, or more than MAX_SAMPLES."""
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
            curve += mean(verdicts) * _share_won(counts[vote], rivals, num)
    return np.clip(curve, 0.0, 1.0)


def _share_won(count: int, rivals: list[int], num: int) -> np.ndarray:
    """(num,) The share of the decision that falls to a vote with `count` answers, beside `rivals`' and those that
    abstain."""
    own = _subsets(count)
    most = min(count, max(rivals, default=0))
    # With more than any rival can have, it leads alone.
    won = np.convolve(np.where(np.arange(count + 1) > most, own, 0.0), _subsets(num - count))
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
        won[t : t + len(found)] += found
    return won[1:] / _subsets(num)[1:]


def _product(polynomials: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Row by row the product of two polynomials, lowest power first."""
    width = polynomials.shape[1]
    result = np.zeros((len(polynomials), width + factors.shape[1] - 1))
    for power in range(factors.shape[1]):
        result[:, power : power + width] += factors[:, power : power + 1] * polynomials
    return result


@lru_cache(maxsize=2 * MAX_SAMPLES)
def _subsets(num: int) -> np.ndarray:
    """(num + 1,) Subsets of each size of `num` answers, as shares of all of them, so that products stay within
    range."""
    return np.array([math.comb(num, size) / 2**num for size in range(num + 1)])


@lru_cache(maxsize=MAX_SAMPLES)
def _nodes(degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [0, 1] by which a polynomial of this degree is integrated exactly."""
    nodes, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    return (nodes + 1) / 2, weights / 2


def estimate(values_P: Sequence[float], seed: int = 0) -> Estimate:
    """Mean of values in [0, 1], and its interval."""
    value, num = mean(values_P), len(values_P)
    (_, num_alike) = Counter(values_P).most_common(1)[0]
    if num - num_alike < MIN_DEPARTING:
        low, high = wilson_interval(value * num, num)
    else:
        low, high = _bootstrap(values_P, seed)
    # Rounding must not put the value outside.
    return Estimate(value, min(low, value), max(high, value), num)


def paired(a_P: Sequence[float], b_P: Sequence[float], seed: int = 0) -> Paired:
    """Compare two series, in [0, 1], of the same problems in the same order. Raises ValueError when their lengths
    differ."""
    differences = np.asarray([x - y for x, y in zip(a_P, b_P, strict=True)])
    effect, p_value = float(differences.mean()), _sign_flip_p(differences, seed)
    low, high = _bootstrap(np.append(differences, PSEUDO_DIFFERENCES), seed)
    if p_value > 0.05:
        low, high = min(low, 0.0), max(high, 0.0)
    return Paired(effect, min(low, effect), max(high, effect), p_value, len(differences))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for their number (Holm 1979), in the order given."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def at_budget(curve: Sequence[float], budget: float) -> float:
    """The value of `curve` (of k = 1, 2, …) at a `budget` in samples, linear between whole ones.

    Raises ValueError for a budget outside of 1 to len(curve)."""
    if not 1 <= budget <= len(curve):
        raise ValueError(f"a budget of {budget:.2f} samples, but the curve has 1 to {len(curve)}")
    below = math.floor(budget)
    share = budget - below
    return curve[below - 1] * (1 - share) + (curve[below] * share if share else 0.0)


def _bootstrap(values_P: Sequence[float] | np.ndarray, seed: int) -> tuple[float, float]:
    values = np.asarray(values_P, dtype=float)
    rng = np.random.default_rng(seed)
    means = []
    for begin in range(0, NUM_RESAMPLES, CHUNK):
        drawn = rng.integers(0, len(values), (min(CHUNK, NUM_RESAMPLES - begin), len(values)))
        means.append(values[drawn].mean(axis=1))
    low, high = middle_95(np.concatenate(means))
    return low, high


def _sign_flip_p(differences: np.ndarray, seed: int) -> float:
    """Under "no difference" the sign of each problem's difference is a coin's. Problems without a difference say
    nothing."""
    moved = np.abs(differences[differences != 0])
    if not len(moved):
        return 1.0
    observed = abs(differences.sum()) * (1 - 1e-12)
    if len(moved) <= EXACT_FLIPS:
        signs = 1 - 2 * ((np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved))) & 1)
        return float((np.abs(signs @ moved) >= observed).mean())
    rng = np.random.default_rng(seed)
    num_extreme = 0
    for begin in range(0, NUM_FLIPS, CHUNK):
        signs = rng.integers(0, 2, (min(CHUNK, NUM_FLIPS - begin), len(moved))) * 2 - 1
        num_extreme += int((np.abs(signs @ moved) >= observed).sum())
    return (num_extreme + 1) / (NUM_FLIPS + 1)


def middle_95(values: np.ndarray) -> tuple[float, ...]:
    """The bounds of the middle 95 % of `values`; none of nothing."""
    return tuple(float(np.quantile(values, share)) for share in (0.025, 0.975)) if len(values) else ()


def wilson_interval(num_successes: float, num_trials: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927); (0, 1) without trials."""
    if num_trials == 0:
        return 0.0, 1.0
    share = num_successes / num_trials
    centre = share + Z * Z / (2 * num_trials)
    spread = Z * math.sqrt(share * (1 - share) / num_trials + Z * Z / (4 * num_trials**2))
    scale = 1 + Z * Z / num_trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def cohen_kappa(both: int, only_second: int, neither: int, only_first: int) -> float | None:
    """Agreement of two raters beyond chance, from how often they said yes; None where one of them always says the
    same."""
    total = both + only_second + neither + only_first
    if not 0 < both + only_first < total or not 0 < both + only_second < total:
        return None
    first, second = (both + only_first) / total, (both + only_second) / total
    chance = first * second + (1 - first) * (1 - second)
    return ((both + neither) / total - chance) / (1 - chance)


def student_t(freedom: int) -> float:
    """The 97.5 % point of Student's t: known for one and two degrees of freedom, else by Abramowitz and Stegun 26.7.5.

    That series is within 1 % of it."""
    if freedom <= 2:
        return (12.7062, 4.3027)[freedom - 1]
    return (
        Z
        + (Z**3 + Z) / (4 * freedom)
        + (5 * Z**5 + 16 * Z**3 + 3 * Z) / (96 * freedom**2)
        + (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / (384 * freedom**3)
    )
