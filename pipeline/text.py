"""What counts as a word of a problem's text where texts are compared by words: the pool's index and the measure `bm25`.

Words that stand in every text say nothing of what it is about, and to look through their postings was most of a search's time.
The list is that of Lucene's English analyzer."""

from __future__ import annotations

import hashlib
import re
import unicodedata

_LUCENE = """
a an and are as at be but by for if in into is it no not of on or such that the their then there these they this to was will with
"""
STOP_WORDS = frozenset(_LUCENE.split())


def words(text: str) -> list[str]:
    """The words of `text` as the index has them, repetitions included."""
    return [word for word in re.findall(r"\w+", text.lower()) if word not in STOP_WORDS]


# What mathematics is set in, and what ends a sentence: neither makes another problem.
_TYPESETTING = re.compile(r"\\(?:[()\[\]]|left(?![a-z])|right(?![a-z])|[,;!]|displaystyle(?![a-z]))|\$")
_BLANK_BESIDE_A_SIGN = re.compile(r"(?<![^\W_])\s+|\s+(?![^\W_])")
_LOOK_ALIKE = str.maketrans({"−": "-", "–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "⋅": "·"})


def normalised(text: str) -> str:
    """Text as similarity compares it: lower case, single spaces, numbers kept."""
    return re.sub(r"\s+", " ", text).strip().lower()


def text_hash(text: str) -> str:
    """Identity of a problem's text: 16 hex digits of SHA-256 over what is left without case, typesetting, blanks beside signs, and
    signs at the end. Words, numbers and the blanks between them stay: a number-swapped twin is another problem."""
    plain = _TYPESETTING.sub("", unicodedata.normalize("NFKC", text).translate(_LOOK_ALIKE)).replace("dfrac", "frac")
    bare = _BLANK_BESIDE_A_SIGN.sub("", normalised(plain)).rstrip(".?!:;,=")
    return hashlib.sha256(bare.encode()).hexdigest()[:16]


def strip_think(text: str) -> str:
    """`text` without <think>…</think> blocks, whether or not they were opened in the prompt or closed before the cut."""
    *closed, rest = text.split("</think>")
    kept = [part.partition("<think>")[0] if "<think>" in part else "" for part in closed]
    return ("".join(kept) + rest.partition("<think>")[0]).strip()


def visible(text: str, *, strip: bool) -> str:
    """What of a reply is scored, shown again and learned from; `strip` is `rollout.strip_think`."""
    return strip_think(text) if strip else text
