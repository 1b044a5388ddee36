"""Choices that a row lists in a column of their own: shown behind the question, and what its answer is among them.

Invariant: a column of that name is taken for choices only where the answer is one of them, by its label, its text or
its place (a whole number, from 0); else it is some column, and left alone."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

KEYS = ("choices", "options")


class Choices(NamedTuple):
    """As many labels as texts, two or more."""

    labels: tuple[str, ...]
    texts: tuple[str, ...]

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self | None:
        """Those of a row: a list of texts, a table of `text` and `label` as ARC has it, or one of texts by their
        labels; None where there are none."""
        found = next((values[key] for key in KEYS if values.get(key) is not None), None)
        labels, texts = None, found
        if isinstance(found, dict):
            is_arc = isinstance(found.get("text"), list)
            labels, texts = (found.get("label"), found["text"]) if is_arc else (list(found), list(found.values()))
        if not isinstance(texts, list) or not 2 <= len(texts) <= len(string.ascii_uppercase):
            return None
        if labels is None:
            labels = list(string.ascii_uppercase[: len(texts)])
        if not isinstance(labels, list) or len(labels) != len(texts):
            return None
        if not all(isinstance(part, str) and part.strip() for part in (*labels, *texts)):
            return None
        return cls(tuple(labels), tuple(text.strip() for text in texts))

    def below(self, question: str) -> str:
        """`question` with the choices behind it, unless it shows them itself."""
        if all(text in question for text in self.texts):
            return question
        lines = (f"{label}. {text}" for label, text in zip(self.labels, self.texts, strict=True))
        return "\n".join((question.rstrip(), *lines))

    def answers(self, value: Any, reduced: Sequence[str]) -> tuple[str, ...]:
        """Label and text of the choice that `value` names, which was `reduced` to its gold answers; empty where it
        names none."""
        if len(reduced) != 1:
            return ()
        answer = reduced[0].strip("(). ")
        if isinstance(value, int | float) and 0 <= value < len(self.texts) and value == int(value):
            index = int(value)
        elif reduced[0] in self.texts:
            index = self.texts.index(reduced[0])
        elif answer in self.labels:
            index = self.labels.index(answer)
        else:
            return ()
        return tuple(dict.fromkeys((self.labels[index], self.texts[index])))
