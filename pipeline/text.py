"""What counts as a word of a problem's text where texts are compared by words: the pool's index and the measure `bm25`.

Words that stand in every text say nothing of what it is about, and to look through their postings was most of a search's time.
The list is that of Lucene's English analyzer."""

from __future__ import annotations

import re

_LUCENE = """
a an and are as at be but by for if in into is it no not of on or such that the their then there these they this to was will with
"""
STOP_WORDS = frozenset(_LUCENE.split())


def words(text: str) -> list[str]:
    """The words of `text` as the index has them, repetitions included."""
    return [word for word in re.findall(r"\w+", text.lower()) if word not in STOP_WORDS]
