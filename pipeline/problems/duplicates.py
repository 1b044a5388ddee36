"""Near-duplicates: problems that differ from one another in wording alone, whose lessons would be answers.

Two problems are near-duplicates when they have the same numbers, words and signs in any order; or the same gold answer,
numbers, signs and words but for function words and repetitions. Never because they are alike: of two problems with one
rule and other numbers, which are 97 % alike, each is the other's best lesson."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from pipeline.text import STOP_WORDS, bag_hash, hash_of_pieces, normalised, pieces, short_hash
from pipeline.types import Label, Task

NUM_REMEMBERED = 20_000
# The same entries are candidates again and again.
_bag_of = lru_cache(NUM_REMEMBERED)(bag_hash)


def keys_of(task: Task) -> frozenset[str]:
    """What a problem shares with its near-duplicates, of which each has one of these keys at least."""
    found = pieces(task.problem.query_text)
    return frozenset(key for key in (hash_of_pieces(found), _gold_key(found, task.label)) if key)


def keys_of_all(tasks: Iterable[Task]) -> frozenset[str]:
    """The keys of all `tasks`: a problem that has one of them is a near-duplicate of one of these."""
    return frozenset[str]().union(*map(keys_of, tasks))


def _gold_key(found: list[str], label: Label) -> str:
    """Of the pieces of a problem; empty where no gold answer is known."""
    tests = label.entry.get("tests")
    gold = sorted(map(normalised, label.answers)) if label.answer else repr(tests) if tests else ""
    named = sorted({piece for piece in found if piece[0].isalpha()} - STOP_WORDS)
    others = sorted(piece for piece in found if not piece[0].isalpha())
    return short_hash("gold " + repr((gold, named, others))) if gold else ""


def keys_apart(tasks: Iterable[Task], *, near: bool) -> frozenset[str]:
    """What no text that is to be kept apart from `tasks` may have: their hashes and, with `near`, the keys of their
    near-duplicates (`pipeline.text.is_among`)."""
    tasks = list(tasks)
    return frozenset(task.problem.text_hash for task in tasks).union(keys_of_all(tasks) if near else ())


class NearDuplicates:
    """Tells whether a stored problem is a near-duplicate of another; gold answers are known of `tasks` alone, and no
    more than a hash of them is kept."""

    def __init__(self, tasks: Iterable[Task] = ()) -> None:
        self._gold_keys = {
            task.problem.text_hash: _gold_key(pieces(task.problem.query_text), task.label) for task in tasks
        }

    def keys(self, own_hash: str, text: str) -> frozenset[str]:
        """Those of the problem `text`, whose text hash is `own_hash`."""
        return frozenset(key for key in (_bag_of(text), self._gold_keys.get(own_hash)) if key)
