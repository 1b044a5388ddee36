"""Words, hashes and likeness of texts: those of problems and replies, and names that a user may have mistyped.

Stop words stand in every text and say nothing of what it is about; the list is that of Lucene's English analyzer."""

from __future__ import annotations

import difflib
import hashlib
import re
import unicodedata
from collections.abc import Container, Iterable

_LUCENE = """
a an and are as at be but by for if in into is it no not of on or such that the their then there these they
this to was will with
"""
STOP_WORDS = frozenset(_LUCENE.split())


def words(text: str) -> list[str]:
    """The words of `text` as the index has them, repetitions included."""
    return [word for word in re.findall(r"\w+", text.lower()) if word not in STOP_WORDS]


# What mathematics is set in, and what ends a sentence: neither makes another problem.
_TYPESETTING = re.compile(r"\\(?:[()\[\]]|left(?![a-z])|right(?![a-z])|[,;!]|displaystyle(?![a-z]))|\$")
_BLANK_BESIDE_A_SIGN = re.compile(r"(?<![^\W_])\s+|\s+(?![^\W_])")
_LOOK_ALIKE = str.maketrans({"−": "-", "–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "⋅": "·"})


# A number, a word without digits, or a sign; what only divides or groups is none.
_PIECE = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+|[^\w\s]")
_DIVIDERS = frozenset(".,:;!?\"'`()[]{}")


def normalised(text: str) -> str:
    """Text as similarity compares it: lower case, single spaces, numbers kept."""
    return re.sub(r"\s+", " ", text).strip().lower()


def text_hash(text: str) -> str:
    """Identity of a problem's text: 16 hex digits of SHA-256 over what is left without case, typesetting, blanks beside
    signs, and signs at the end. Words, numbers and the blanks between them stay: a number-swapped twin is another
    problem."""
    return short_hash(_BLANK_BESIDE_A_SIGN.sub("", _plain(text)).rstrip(".?!:;,="))


def _plain(text: str) -> str:
    """`text` without case, typesetting and what looks alike."""
    plain = _TYPESETTING.sub("", unicodedata.normalize("NFKC", text).translate(_LOOK_ALIKE)).replace("dfrac", "frac")
    return normalised(plain)


def short_hash(text: str) -> str:
    """16 hex digits of SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def pieces(text: str) -> list[str]:
    """The numbers, words and signs of a problem's text, repetitions included; punctuation and brackets are none."""
    return [piece for piece in _PIECE.findall(_plain(text)) if piece not in _DIVIDERS]


def bag_hash(text: str) -> str:
    """Identity of a problem's numbers, words and signs whatever their order: "divisible by 7 and 3" has that of
    "divisible by 3 and 7". 16 hex digits, those of no `text_hash`."""
    return hash_of_pieces(pieces(text))


def hash_of_pieces(found: Iterable[str]) -> str:
    """As `bag_hash`, of the pieces of a text."""
    return short_hash("bag " + " ".join(sorted(found)))


def is_among(text: str, keys: Container[str]) -> bool:
    """Whether a problem's text is one of those whose hashes and bags are `keys`."""
    return key_among(text, keys) is not None


def key_among(text: str, keys: Container[str]) -> str | None:
    """The one of `keys` that is the hash or the bag of a problem's text; None where neither is."""
    return next((key for hashed in (text_hash, bag_hash) if (key := hashed(text)) in keys), None)


def strip_think(text: str) -> str:
    """`text` without <think>…</think> blocks, whether or not they were opened in the prompt or closed before the
    cut."""
    *closed, rest = text.split("</think>")
    kept = [part.partition("<think>")[0] if "<think>" in part else "" for part in closed]
    return ("".join(kept) + rest.partition("<think>")[0]).strip()


def visible(text: str, *, strip: bool) -> str:
    """What of a reply is scored, shown again and learned from; `strip` is `rollout.strip_think`."""
    return visible_each([text], strip=strip)[0]


def visible_each(texts: list[str], *, strip: bool) -> list[str]:
    """As `visible`, of several replies."""
    return [strip_think(text) for text in texts] if strip else texts


def did_you_mean(name: str, names: Iterable[str], *, num: int = 1, cutoff: float = 0.6) -> str:
    """ "; did you mean X?" with those of `names` that are most like `name`; empty where none is like it."""
    close = nearest(name, names, num=num, cutoff=cutoff)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def nearest(name: str, names: Iterable[str], *, num: int = 1, cutoff: float = 0.6) -> list[str]:
    """At most `num` of `names` whose likeness to `name` is `cutoff` or more, the most like first."""
    scored = [(_likeness(name, other), other) for other in names]
    likely = sorted((one for one in scored if one[0] >= cutoff), key=lambda one: one[0], reverse=True)
    return [other for _, other in likely[:num]]


def _likeness(name: str, other: str) -> float:
    """0 to 1. The last part of a dotted name counts twice as much as what stands before it, and initials count as the
    word that they are of: `learner.lr` is more like `learner.learning_rate` than like `learner.lr_scheduler`."""
    name, other = (each.lower().lstrip("-").replace("-", "_") for each in (name, other))
    section, _, last = name.rpartition(".")
    its_section, _, its_last = other.rpartition(".")
    if len(last) > 1 and last == "".join(word[:1] for word in its_last.split("_")):
        of_last = 1.0
    else:
        # `lora_rank` is as much of `lora.rank` as of `rank`.
        rest, its_rest = (each.partition(".")[2] or each for each in (name, other))
        of_last = max(_ratio(last, its_last), _ratio(rest, its_rest))
    return (_ratio(section, its_section) + 2 * of_last) / 3 if section else of_last


def _ratio(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b).ratio()
