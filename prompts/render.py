"""Template + input → the text of one user message.

Substitution is a single pass, so inserted text that looks like a placeholder stays text; the opening of chat control
tokens (`<|`) in inserted text is broken up, so stored text cannot open a turn of its own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from prompts.schemas import (
    MAX_FLOW_CHARS,
    MAX_SHORT_CHARS,
    Abstract,
    Inter,
    Intra,
    JudgeLesson,
    Lesson,
    PromptInput,
    Relevance,
    Scratch,
)

TEMPLATES = Path(__file__).parent / "templates"
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
# Openings of the control tokens of the chat formats in use: ChatML, Llama 2 to 4, Mistral, Gemma, DeepSeek, Qwen, Phi.
_NAMED = (
    "s|bos|eos|pad|unk|mask|cls|sep|think|tool_call|tool_response|start_of_turn|end_of_turn|start_of_image|end_of_image"
)
_CONTROL = re.compile(
    rf"<(?=\s*\||\s*/?\s*(?:{_NAMED})\s*>|<\s*/?\s*SYS\s*>>|\uff5c)|[|\uff5c](?=>)"
    r"|\[(?=\s*/?\s*(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\s*\])",
    re.IGNORECASE,
)
_ROLE = re.compile(
    r"^(\W{0,8}(?:system|user|assistant|human|developer|tool|instructions?|response)\W{0,4}?)[ \t]*[:\uff1a]",
    re.IGNORECASE | re.MULTILINE,
)
_TEMPLATE = re.compile(r"\{(?=[{%#])|[}%#](?=\})")


@cache
def template_hash(name: str) -> str:
    """Identity of a template's text: 12 hex digits of its SHA-256."""
    return hashlib.sha256(template(name).encode()).hexdigest()[:12]


@cache
def template(name: str) -> str:
    return (TEMPLATES / f"{name}.txt").read_text(encoding="utf-8").rstrip("\n")


def neutralised(text: str) -> str:
    """`text` with chat control tokens broken by a space; everything else unchanged."""
    return _CONTROL.sub(lambda match: match[0] + " ", text).strip()


def harmless(text: str) -> str:
    """What a model wrote, as it may be stored and shown to others: no control tokens, no header that opens another's
    turn, no template syntax. `{{` of LaTeX becomes `{ {`, which reads the same there."""
    safe = _TEMPLATE.sub(lambda match: match[0] + " ", neutralised(text))
    # "User:: x" is a header still when its first colon is gone.
    while (without := _ROLE.sub(r"\1 -", safe)) != safe:
        safe = without
    return safe


def harmless_lesson(lesson: Lesson) -> Lesson:
    """`lesson` with each of its texts made harmless on one line; one that came from here comes back as it is.

    Raises ValidationError when nothing is left of a text."""
    return Lesson(
        flow_of_thought=_bounded(lesson.flow_of_thought, MAX_FLOW_CHARS),
        principles=tuple(_bounded(text, MAX_SHORT_CHARS) for text in lesson.principles),
        pitfalls=tuple(_bounded(text, MAX_SHORT_CHARS) for text in lesson.pitfalls),
    )


def _bounded(text: str, max_chars: int) -> str:
    """`text` harmless, on one line, within its bound: broken-up tokens take a little more space than they had.

    Repeated until nothing changes: a line that lost its beginning to blanks, or its end to the bound, is another one.
    That ends, as each round separates two characters, replaces a colon, or shortens the text."""
    line = normal_line(harmless(text))[:max_chars].rstrip()
    while (safe := normal_line(harmless(line))[:max_chars].rstrip()) != line:
        line = safe
    return line


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


def render_each(lessons: Iterable[Lesson]) -> list[str]:
    """The lists of several lessons, each by itself."""
    return [render_lessons((lesson,)) for lesson in lessons]


def render(value: PromptInput) -> str:
    """The user message for `value`. Raises TypeError for any other type, so that no label can be passed by mistake."""
    match value:
        case Scratch(problem=problem, form=form):
            return filled(template("scratch"), problem=problem, answer_form=template(f"form_{form}"))
        case Inter(problem=problem, lessons=lessons, form=form):
            shown = render_lessons(lessons)
            return filled(template("inter"), problem=problem, lessons=shown, answer_form=template(f"form_{form}"))
        case Intra(problem=problem, attempt=attempt, form=form):
            return filled(template("intra"), problem=problem, attempt=attempt, answer_form=template(f"form_{form}"))
        case Abstract(problem=problem, trajectory=trajectory):
            return filled(template("abstract"), problem=problem, trajectory=trajectory)
        case Relevance(problem=problem, others=others):
            listed = "\n".join(f"{number}. {normal_line(other)}" for number, other in enumerate(others, 1))
            return filled(template("relevance"), problem=problem, others=listed)
        case JudgeLesson(problem=problem, lesson=lesson):
            return filled(template("judge_lesson"), problem=problem, lesson=lesson)
    raise TypeError(f"{type(value).__name__} is no prompt input")


def filled(text: str, **values: str) -> str:
    """`text` with each `{{name}}` replaced by that value, neutralised, in a single pass."""
    return _PLACEHOLDER.sub(lambda match: neutralised(values[match[1]]), text)
