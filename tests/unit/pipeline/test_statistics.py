"""Estimates, intervals and comparisons, against enumeration, closed forms and simulation."""

from __future__ import annotations

import random
from itertools import combinations
from math import comb

import pytest

from pipeline.statistics import MAX_SAMPLES, at_budget, estimate, holm, majority_curve, paired, pass_at_k, student_t


@pytest.mark.parametrize("k", range(1, 7))
@pytest.mark.parametrize("num_correct", range(7))
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample(num_correct: int, k: int) -> None:
    samples = [index < num_correct for index in range(6)]
    subsets = list(combinations(samples, k))
    assert pass_at_k(6, num_correct, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_pass_at_k_is_unbiased() -> None:
    """Over many draws of n = 5 samples its mean is the true 1 - (1 - p)^k."""
    rng = random.Random(0)
    values = [pass_at_k(5, sum(rng.random() < 0.3 for _ in range(5)), 3) for _ in range(20_000)]
    assert sum(values) / len(values) == pytest.approx(1 - 0.7**3, abs=0.01)


def by_enumeration(votes: list[str | None], right: set[str], k: int) -> float:
    total = 0.0
    for subset in combinations(votes, k):
        counts = {vote: subset.count(vote) for vote in subset if vote is not None}
        leaders = [vote for vote, count in counts.items() if count == max(counts.values())]
        total += sum(vote in right for vote in leaders) / len(leaders) if leaders else 0.0
    return total / comb(len(votes), k)


def test_a_majority_is_that_of_all_subsets() -> None:
    """Votes, abstentions, ties and verdicts drawn at random, against every subset."""
    rng = random.Random(3)
    for _ in range(40):
        votes = [rng.choice(["7", "7", "8", "9", "x", None]) for _ in range(rng.randint(1, 9))]
        right = {vote for vote in ("7", "8", "9") if rng.random() < 0.5}
        curve = majority_curve(votes, [vote in right for vote in votes])
        expected = [by_enumeration(votes, right, k) for k in range(1, len(votes) + 1)]
        assert list(curve) == pytest.approx(expected, abs=1e-12)


def test_ties_share_and_abstentions_decide_nothing() -> None:
    assert majority_curve(["7", "8"], [True, False])[1] == pytest.approx(0.5)
    assert majority_curve([None, None, "7"], [False, False, True])[2] == pytest.approx(1.0)
    assert list(majority_curve([None, None], [False, False])) == [0.0, 0.0]
    assert list(majority_curve(["8", "8"], [False, False])) == [0.0, 0.0]


def test_verdicts_on_equals_that_differ_are_averaged() -> None:
    assert majority_curve(["7", "7"], [True, False])[1] == pytest.approx(0.5)


def test_a_majority_of_many_answers_is_exact_too() -> None:
    """Of two votes the larger wins: a hypergeometric tail."""
    num, count, k = 300, 160, 101
    curve = majority_curve(["7"] * count + ["8"] * (num - count), [True] * count + [False] * (num - count))
    tail = sum(comb(count, t) * comb(num - count, k - t) for t in range(51, k + 1)) / comb(num, k)
    assert curve[k - 1] == pytest.approx(tail, rel=1e-9)
    assert curve[-1] == 1.0
    with pytest.raises(ValueError, match="give 1 to"):
        majority_curve(["7"] * (MAX_SAMPLES + 1), [True] * (MAX_SAMPLES + 1))


@pytest.mark.parametrize("k", [0, 4])
def test_k_is_a_number_of_samples(k: int) -> None:
    with pytest.raises(ValueError, match="k = "):
        pass_at_k(3, 1, k)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """200 evaluations of 80 problems whose 4 samples are alike: a bootstrap over answers would cover about 60 %."""
    rng = random.Random(1)
    num_covered = 0
    for number in range(200):
        values = []
        for _ in range(80):
            skill = 1.0 if rng.random() < 0.4 else 0.0
            values.append(sum(rng.random() < abs(skill - 0.05) for _ in range(4)) / 4)
        found = estimate(values, seed=number)
        num_covered += found.low <= 0.4 * 0.95 + 0.6 * 0.05 <= found.high
    assert num_covered >= 180


def test_the_interval_of_all_or_nothing_has_a_width() -> None:
    assert estimate([1.0] * 20).low == pytest.approx(0.839, abs=0.001)
    assert estimate([0.0] * 20).high == pytest.approx(0.161, abs=0.001)
    assert all(estimate([1.0] * num).high == 1.0 for num in range(1, 50))


def test_an_interval_has_a_width_where_all_problems_are_alike() -> None:
    found = estimate([0.5] * 5)
    assert (found.low, found.high) == pytest.approx((0.17, 0.83), abs=0.01)
    # One problem that departs a little does not make it certain.
    assert estimate([1.0] * 29 + [0.97]).low < 0.9
    compared = paired([1.0] * 3, [0.0] * 3)
    assert compared.p_value == 0.25
    assert compared.low <= 0.0 < compared.high == compared.effect == 1.0
    compared = paired([1.0, 0.0] * 50, [1.0, 0.0] * 50)
    assert compared.low < 0.0 < compared.high
    assert compared.high - compared.low < 0.1


def test_a_comparison_of_few_differences_is_no_more_certain_than_its_test() -> None:
    for num_better in range(1, 9):
        a = [1.0] * num_better + [0.0] * 90
        found = paired(a, [0.0] * len(a))
        assert (found.low > 0) == (found.p_value <= 0.05) == (num_better >= 6)


def test_the_paired_interval_covers_the_truth_with_few_problems() -> None:
    """30 problems, as AIME has: a gains a fifth of those that b fails, and loses a twentieth of the others."""
    rng = random.Random(4)
    num_covered = 0
    for number in range(300):
        a, b = [], []
        for _ in range(30):
            solved = rng.random() < 0.5
            b.append(float(solved))
            a.append(float(rng.random() > 0.05 if solved else rng.random() < 0.2))
        found = paired(a, b, seed=number)
        num_covered += found.low <= 0.5 * 0.2 - 0.5 * 0.05 <= found.high
    assert num_covered >= 282


def test_a_paired_comparison_sees_what_unpaired_intervals_hide() -> None:
    base = [float(number % 2) for number in range(200)]
    better = [1.0 if number < 16 else value for number, value in enumerate(base)]
    found = paired(better, base)
    assert found.effect == pytest.approx(8 / 200)
    assert found.low > 0
    # Eight problems moved, all of them up: 2 / 2^8.
    assert found.p_value == pytest.approx(2 / 256)
    assert estimate(better).low < estimate(base).high


def test_without_a_difference_p_is_uniform() -> None:
    rng = random.Random(2)
    low = 0
    for number in range(300):
        a = [float(rng.random() < 0.5) for _ in range(60)]
        b = [float(rng.random() < 0.5) for _ in range(60)]
        low += paired(a, b, seed=number).p_value <= 0.1
    assert 12 <= low <= 48
    assert paired([1.0, 0.0], [1.0, 0.0]).p_value == 1.0


def test_series_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError):
        paired([1.0], [1.0, 0.0])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.6]) == [1.0, 1.0]


def test_a_budget_lies_between_whole_samples() -> None:
    assert at_budget([0.2, 0.4, 0.5], 1.5) == pytest.approx(0.3)
    assert at_budget([0.2, 0.4, 0.5], 3) == 0.5
    with pytest.raises(ValueError, match=r"budget of 3\.10"):
        at_budget([0.2, 0.4, 0.5], 3.1)


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (5, 2.5706), (30, 2.0423), (10_000, 1.9602)]
)
def test_students_t_is_that_of_the_tables(freedom: int, quantile: float) -> None:
    assert student_t(freedom) == pytest.approx(quantile, rel=0.01)
