"""The final answer in a text.

Everything here is a pure function of text and linear in its length, so hostile text costs no more than long text.
"""

from __future__ import annotations

from pipeline.rewards.extraction import boxes, conclusion


def strip_think(text: str) -> str:
    """`text` without <think>…</think> blocks, whether or not they were opened in the prompt or closed before the cut."""
    *closed, rest = text.split("</think>")
    kept = [part.partition("<think>")[0] if "<think>" in part else "" for part in closed]
    return ("".join(kept) + rest.partition("<think>")[0]).strip()


def visible(text: str, *, strip: bool) -> str:
    """What of a reply is scored, shown again and learned from; `strip` is `rollout.strip_think`."""
    return strip_think(text) if strip else text


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
