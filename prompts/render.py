"""Template + input → the text of one user message; lessons as text, and text that is harmless wherever it is shown."""

from __future__ import annotations

import re
from collections.abc import Iterable

from prompts.filling import filled, neutralised
from prompts.schemas import (
    MAX_FLOW_CHARS,
    MAX_SHORT_CHARS,
    UNKNOWN_SOURCE,
    Abstract,
    AnswerForm,
    Contrast,
    Inter,
    Intra,
    JudgeLesson,
    Lesson,
    LessonSizes,
    PromptInput,
    Relevance,
    RescueIntra,
    Scratch,
    Summary,
)
from prompts.sets import Templates, template

_ROLE = re.compile(
    r"^(\W{0,8}(?:system|user|assistant|human|developer|tool|instructions?|response)\W{0,4}?)[ \t]*[:\uff1a]",
    re.IGNORECASE | re.MULTILINE,
)
_TEMPLATE = re.compile(r"\{(?=[{%#])|[}%#](?=\})")


def harmless(text: str) -> str:
    """What a model wrote, as it may be stored and shown to others: no control tokens, no header that opens another's
    turn, no template syntax. `{{` of LaTeX becomes `{ {`, which reads the same there."""
    safe = _TEMPLATE.sub(lambda match: match[0] + " ", neutralised(text))
    # "User:: x" is a header still when its first colon is gone.
    while (without := _ROLE.sub(r"\1 -", safe)) != safe:
        safe = without
    return safe


def harmless_summary(summary: Summary) -> Summary:
    """`summary` with lesson and critique made harmless. Raises ValidationError when nothing is left of a text."""
    return Summary(critique=harmless(summary.critique), lesson=harmless_lesson(summary.lesson))


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


def numbered_lessons(lessons: tuple[Lesson, ...], sources: tuple[str, ...], templates: Templates) -> str:
    """The lessons of a prompt, each under its number and the problem that it was drawn from."""
    shown = []
    for number, lesson in enumerate(lessons, 1):
        source = normal_line(sources[number - 1]) if len(sources) >= number else ""
        points = render_lessons((lesson,))
        shown.append(filled(templates["lesson"], number=str(number), source=source or UNKNOWN_SOURCE, points=points))
    return "\n".join(shown)


def render(value: PromptInput, templates: Templates) -> str:
    """The user message for `value`. Raises TypeError for any other type, so that no label can be passed by mistake."""

    def form(name: AnswerForm) -> str:
        return templates[f"form_{name}"]

    match value:
        case Scratch(problem=problem):
            return filled(templates["scratch"], problem=problem, answer_form=form(value.form))
        case Inter(problem=problem):
            shown = numbered_lessons(value.lessons, value.sources, templates)
            return filled(templates["inter"], problem=problem, lessons=shown, answer_form=form(value.form))
        case Intra(problem=problem, attempt=attempt):
            return filled(templates["intra"], problem=problem, attempt=attempt, answer_form=form(value.form))
        case RescueIntra(problem=problem, attempt=attempt):
            return filled(templates["rescue_intra"], problem=problem, attempt=attempt, answer_form=form(value.form))
        case Abstract(problem=problem, trajectory=trajectory, outcome=outcome):
            outcome_line = templates[f"outcome_{outcome}"] if outcome else ""
            return filled(
                templates["abstract"],
                problem=problem,
                trajectory=trajectory,
                outcome=outcome_line,
                **_limits(value.sizes),
            )
        case Contrast(problem=problem, right=right, wrong=wrong):
            return filled(templates["contrast"], problem=problem, right=right, wrong=wrong, **_limits(value.sizes))
    raise TypeError(f"{type(value).__name__} is no prompt input")


def render_question(value: Relevance | JudgeLesson) -> str:
    """The user message of what is asked beside the method, by a template that belongs to no set."""
    if isinstance(value, JudgeLesson):
        return filled(template("judge_lesson"), problem=value.problem, lesson=value.lesson)
    listed = "\n".join(f"{number}. {normal_line(other)}" for number, other in enumerate(value.others, 1))
    return filled(template("relevance"), problem=value.problem, others=listed)


def _limits(sizes: LessonSizes) -> dict[str, str]:
    return {name: str(size) for name, size in sizes.settings.items()}
