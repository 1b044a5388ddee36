"""Template + input → the text of one user message.

Substitution is a single pass, so inserted text that looks like a placeholder stays text; the opening of chat control
tokens (`<|`) in inserted text is broken up, so stored text cannot open a turn of its own."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from prompts.schemas import Abstract, Inter, Intra, Lesson, PromptInput, Relevance, Scratch

TEMPLATES = Path(__file__).parent / "templates"
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_CONTROL = re.compile(r"<(?=\s*\||/?s>|/?think>|\uff5c)|\|(?=>)|\[(?=/?INST\])", re.IGNORECASE)


@cache
def template(name: str) -> str:
    return (TEMPLATES / f"{name}.txt").read_text(encoding="utf-8").rstrip("\n")


def neutralised(text: str) -> str:
    """`text` with chat control tokens broken by a space; everything else unchanged."""
    return _CONTROL.sub(lambda match: match[0] + " ", text).strip()


def normal_line(text: str) -> str:
    """`text` on one line."""
    return " ".join(text.split())


def render_lessons(lessons: tuple[Lesson, ...]) -> str:
    """Principles and pitfalls as a list; the flow of thought leads each lesson. Never a raw solution."""
    lines = []
    for lesson in lessons:
        lines.append(f"- Idea: {lesson.flow_of_thought}")
        lines += [f"- Do: {principle}" for principle in lesson.principles]
        lines += [f"- Avoid: {pitfall}" for pitfall in lesson.pitfalls]
    return "\n".join(lines)


def render(value: PromptInput) -> str:
    """The user message for `value`. Raises TypeError for any other type, so that no label can be passed by mistake."""
    match value:
        case Scratch(problem=problem):
            return _fill("scratch", problem=problem)
        case Inter(problem=problem, lessons=lessons):
            return _fill("inter", problem=problem, lessons=render_lessons(lessons))
        case Intra(problem=problem, attempt=attempt):
            return _fill("intra", problem=problem, attempt=attempt)
        case Abstract(problem=problem, trajectory=trajectory):
            return _fill("abstract", problem=problem, trajectory=trajectory)
        case Relevance(problem=problem, others=others):
            listed = "\n".join(f"{number}. {normal_line(other)}" for number, other in enumerate(others, 1))
            return _fill("relevance", problem=problem, others=listed)
    raise TypeError(f"{type(value).__name__} is no prompt input")


def _fill(name: str, **values: str) -> str:
    return _PLACEHOLDER.sub(lambda match: neutralised(values[match[1]]), template(name))
