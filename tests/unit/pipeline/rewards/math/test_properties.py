"""Random expressions that are equal, and unequal, by construction."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.rewards.math import same_answer
from pipeline.rewards.math.expressions import TooLargeError

LETTERS = st.sampled_from(["x", "y", "m", "h", r"\alpha"])
NUMBERS = st.integers(2, 30).map(str)
LEAVES = st.one_of(NUMBERS, LETTERS, st.sampled_from([r"\sqrt{3}", r"\pi", r"\frac{2}{7}"]))


def joined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(parts, parts).map(r"\left({0[0]} + {0[1]}\right)".format),
        st.tuples(parts, parts).map(r"\left({0[0]} - {0[1]}\right)".format),
        st.tuples(parts, parts).map(r"{0[0]} \cdot {0[1]}".format),
        st.tuples(parts, NUMBERS).map(r"\frac{{{0[0]}}}{{{0[1]}}}".format),
        parts.map(r"\left({0}\right)^2".format),
        parts.map(r"\left|{0}\right|".format),
        parts.map(r"\sin\left({0}\right)".format),
    )


TERMS = st.recursive(LEAVES, joined, max_leaves=6)


def same(one: str, two: str) -> bool:
    """Where neither is too large to be judged."""
    try:
        return same_answer(one, two)
    except TooLargeError:
        assume(False)
        raise


@given(TERMS, TERMS, st.integers(2, 9))
def test_terms_in_another_form_are_equal(a: str, b: str, n: int) -> None:
    whole = f"{a} + {b}"
    assert same(whole, f"{b} + {a}")
    assert same(whole, rf"\frac{{{n}\left({a}\right) + {n}\left({b}\right)}}{{{n}}}")
    assert same(whole, rf"{a} - \left(-\left({b}\right)\right) + {n} - {n}")
    assert same(rf"\left({a}\right)\left({a} + {b}\right)", rf"\left({a}\right)^2 + \left({b}\right)\left({a}\right)")


@given(TERMS, TERMS, st.integers(1, 9), st.integers(1, 9))
def test_terms_that_differ_by_a_constant_or_a_multiple_of_a_name_are_not(a: str, b: str, n: int, k: int) -> None:
    whole = f"{a} + {b}"
    assert not same(whole, f"{b} + {a} + {n}")
    assert not same(whole, rf"{whole} - \frac{{{n}}}{{{10**k}}}")
    assert not same(whole, rf"{b} + {a} + {n}z")
    assert not same(rf"{whole} + z^{{{k}}}", rf"{whole} + z^{{{k + 1}}}")


@given(st.lists(st.tuples(st.sampled_from("+-*"), st.integers(1, 400), st.integers(1, 400)), min_size=1, max_size=5))
def test_rational_numbers_are_exact(steps: list[tuple[str, int, int]]) -> None:
    value, text = Fraction(1), "1"
    for sign, top, bottom in steps:
        by = Fraction(top, bottom)
        value = value + by if sign == "+" else value - by if sign == "-" else value * by
        text = rf"\left({text}\right) {sign} \frac{{{top}}}{{{bottom}}}"
    gold = str(value)
    assert same(gold, text)
    assert not same(gold, rf"{text} + \frac{{1}}{{{10**30}}}")
    assert not same(str(value + Fraction(1, 7)), text)


@given(st.integers(0, 5), st.integers(1, 12), st.integers(1, 9), st.integers(0, 3))
def test_sums_are_those_of_their_terms(first: int, num: int, factor: int, power: int) -> None:
    last = first + num - 1
    total = sum(factor * k**power for k in range(first, last + 1))
    text = (
        rf"\sum_{{k={first}}}^{{{last}}} {factor} k^{{{power}}}"
        if power
        else rf"\sum_{{k={first}}}^{{{last}}} {factor}"
    )
    assert same(str(total), text) and not same(str(total + 1), text)
    assert same(rf"\sum_{{i={first + 1}}}^{{{last + 1}}} {factor}(i-1)^{{{power}}}", text) == (first > 0 or power > 0)


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=6, unique=True), st.randoms(use_true_random=False))
def test_lists_are_equal_in_any_order_and_no_other_is(values: list[int], rng) -> None:  # type: ignore[no-untyped-def]
    gold = ", ".join(map(str, values))
    shuffled = rng.sample(values, len(values))
    assert same(gold, ", ".join(map(str, shuffled))) and same(rf"\{{{gold}\}}", " and ".join(map(str, shuffled)))
    assert not same(gold, ", ".join(map(str, shuffled[1:])))
    assert not same(gold, ", ".join(map(str, [*shuffled, 51])))
    assert same(f"({gold})", f"({', '.join(map(str, shuffled))})") == (shuffled == values)
