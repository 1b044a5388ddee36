"""The final answer in a text.

Everything here is a pure function of text and linear in its length, so hostile text costs no more than long text.
"""

from __future__ import annotations

from pipeline.rewards.extraction import boxes, conclusion


def extract_answer(text: str) -> str | None:
    r"""The answer that `text` ends with (`pipeline.rewards.extraction`): the last closed, non-empty \boxed{…}, `#### x`,
    `answer is x` on the last line … None when there is none; an empty box is no answer.
    """
    answer = conclusion(text)
    return cleaned(answer) or None if answer is not None else None


def boxed(text: str) -> list[str]:
    r"""Contents of every closed \boxed{…}, in the order in which they open."""
    return [text[box.inner : box.end] for box in boxes(text)]


def cleaned(answer: str) -> str:
    """`answer` without what only decorates it: spaces, $…$, **…**, `…`, and the full stop of its sentence."""
    return answer.strip().strip("$*`\"' \t").rstrip(".,;:").strip("$*`\"' \t").replace("\u2212", "-")
