"""What benchmarks.retrieval counts, on candidates graded by hand."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.families import FAMILIES, problems
from benchmarks.retrieval import ABSENT, Graded, kind_of, quality, queries_of


def test_problems_are_distinct_in_equal_shares_and_the_same_for_the_same_seed() -> None:
    found = problems(540, list(FAMILIES)[:9], range(2), seed=4)
    assert found == problems(540, list(FAMILIES)[:9], range(2), seed=4)
    assert len({one.text for one in found}) == 540
    assert set(Counter((one.family, one.phrasing) for one in found).values()) == {30}


def test_queries_are_of_each_kind() -> None:
    present = [family for family in FAMILIES if family not in ABSENT]
    assert len(present) >= 20
    assert Counter(map(kind_of, queries_of(30, present))) == {"twin": 30, "paraphrase": 30, "unrelated": 30}


def test_what_is_counted() -> None:
    graded = [
        Graded(0, "sum", "twin", 0.9, relevant=True),
        Graded(0, "sum", "twin", 0.8, relevant=False),
        Graded(1, "sum", "paraphrase", 0.4, relevant=True),
        Graded(1, "sum", "paraphrase", 0.6, relevant=False),
        Graded(2, "lcm", "unrelated", 0.2, relevant=False),
    ]
    found = quality(graded, 0.5, Counter({"twin": 1, "paraphrase": 1, "unrelated": 1}))
    assert found.precision == pytest.approx(1 / 3)
    assert (found.recall, found.recall_twins, found.recall_paraphrases) == (0.5, 1.0, 0.0)
    assert (found.shown_twins, found.shown_paraphrases, found.shown_unrelated) == (1.0, 1.0, 0.0)
    assert found.shown_right == 0.5
    assert quality(graded, 0.95, Counter()).precision == 1.0
