"""Schemas of what templates take in and what they ask for, as pydantic models.

The inputs hold texts and lessons only: a label or a reward has no field to travel in.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_SHORT_CHARS, MAX_FLOW_CHARS = 160, 200
Short = Annotated[str, Field(min_length=1, max_length=MAX_SHORT_CHARS)]
AnswerForm = Literal["boxed", "code"]
"""How the answer is to be given: its sentence is `templates/form_<name>.txt`."""


class Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Lesson(Schema):
    """What abstraction extracts from a trajectory (LANPO, Relevant Abstraction): the reply that the summarizer must
    give.

    Lengths and counts are bounded, because a small model under structured outputs runs on until the token limit
    otherwise."""

    flow_of_thought: Annotated[str, Field(min_length=1, max_length=MAX_FLOW_CHARS)]
    principles: Annotated[tuple[Short, ...], Field(min_length=1, max_length=2)]
    pitfalls: Annotated[tuple[Short, ...], Field(max_length=2)] = ()


class Scratch(Schema):
    problem: str
    form: AnswerForm = "boxed"


class Inter(Schema):
    problem: str
    lessons: tuple[Lesson, ...]
    form: AnswerForm = "boxed"


class Intra(Schema):
    problem: str
    attempt: str
    form: AnswerForm = "boxed"


class Abstract(Schema):
    problem: str
    trajectory: str


class Relevance(Schema):
    """How relevant each of `others` is to `problem`."""

    problem: str
    others: tuple[str, ...]


class JudgeLesson(Schema):
    """Whether `lesson`, drawn from `problem`, is worth keeping."""

    problem: str
    lesson: str


PromptInput = Scratch | Inter | Intra | Abstract | Relevance | JudgeLesson
