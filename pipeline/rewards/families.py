"""What a task family of reasoning-gym says of an answer, and when its full score is believed.

Its scorers were written to compare models: some find the gold answer anywhere in a text, so that "9 or 5" solves what 9
solves, and some pay for anything. Under training a policy finds that. So a full score of an answer that is not the gold
text itself is believed only of a scorer that pays neither nonsense nor hedges for this problem; of another one, an
answer has to equal the gold one, or, where it may differ (a path, a grid), to be in the same signs and words."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

from pipeline.rewards.math import same_answer
from pipeline.types import Label

NONSENSE = ("zzz", "zzz 5")
HEDGES = ("the answer {gold} or 5", "{gold} or 5", "5 or {gold}", "either {gold} or 5")
# Words of formulas that are right in many forms.
FUNCTIONS = frozenset(
    {
        "sin",
        "cos",
        "tan",
        "sec",
        "csc",
        "cot",
        "asin",
        "acos",
        "atan",
        "sinh",
        "cosh",
        "tanh",
        "exp",
        "log",
        "ln",
        "sqrt",
    }
)
# A gold answer of so few letters is made of signs, as a path of L, R, U and D is.
MAX_SIGNS = 8
_TOKEN = re.compile(r"(?<![\\A-Za-z])[^\W\d_]{2,}|\d+")


def family_score(answer: str, label: Label) -> float:
    """The reasoning-gym family's own score of `answer`."""
    family = label.entry["family"]
    dataset = _family(family, json.dumps(label.entry.get("params", {}), sort_keys=True))
    return float(dataset.score_answer(answer, label.entry))


def judgement(answer: str, label: Label, threshold: float) -> tuple[float, bool]:
    """The family's score of `answer`, and whether it counts as correct from `threshold` on."""
    score = family_score(answer, label)
    return score, _is_solved(answer, score, label, threshold)


def _is_solved(answer: str, score: float, label: Label, threshold: float) -> bool:
    gold = label.answer
    if score < threshold or answer.strip() == gold.strip():
        return score >= threshold
    if any(family_score(text, label) >= threshold for text in NONSENSE):
        return same_answer(gold, answer)
    if any(family_score(text.format(gold=gold), label) >= threshold for text in HEDGES):
        return same_answer(gold, answer) or (not _is_number(gold) and in_the_words_of(gold, answer))
    return True


def in_the_words_of(gold: str, answer: str) -> bool:
    """Whether `answer` has no word and no digit but such as `gold` has. Pure."""
    known = {token.lower() for token in _TOKEN.findall(gold)}
    signs = {sign for sign in gold.lower() if sign.isalpha()}
    has_digits = any(sign.isdigit() for sign in gold)

    def is_known(token: str) -> bool:
        if token.isdigit():
            return has_digits
        return token in known or token in FUNCTIONS or (len(signs) <= MAX_SIGNS and signs.issuperset(token))

    return all(is_known(token.lower()) for token in _TOKEN.findall(answer))


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[\s$]*[-+]?[\d,]*\.?\d+[\s%$]*", text) is not None


@lru_cache(maxsize=64)
def _family(name: str, params: str) -> Any:
    """The family without a problem of its own: its scorer needs none."""
    import reasoning_gym

    return reasoning_gym.create_dataset(name, **json.loads(params), seed=0, size=1)
