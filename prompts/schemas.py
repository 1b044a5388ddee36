"""Schemas of what templates take in and what they ask for, as pydantic models.

The inputs hold texts and lessons only: a label or a reward has no field to travel in. Whether an attempt was right may
be told to the summarizer (`Abstract.outcome`, `Contrast`), whose lesson is for other problems, and to the policy where
all attempts of a group were wrong (`RescueIntra`, a type of its own, so that an `Intra` never tells it).
"""

from __future__ import annotations

import json
import math
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

MAX_SHORT_CHARS, MAX_FLOW_CHARS, MAX_RULES = 2000, 4000, 16
"""Of what is stored: no setting allows more."""
AnswerForm = Literal["boxed", "code"]
"""How the answer is to be given: its sentence is `form_<name>.txt` of the templates."""
Outcome = Literal["right", "wrong"]
UNKNOWN_SOURCE = "another problem"
_CHARS_PER_TOKEN = 2.875
"""Of JSON, on the safe side."""
_JSON_CHARS = 80
"""Of keys, quotes and brackets."""


class Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


SIZE_SETTINGS = {
    "critique": "critique_chars",
    "flow": "flow_chars",
    "rule": "rule_chars",
    "num_principles": "num_principles",
    "num_pitfalls": "num_pitfalls",
}
"""The sizes of `LessonSizes` by the names that they have as settings of `abstraction` and as placeholders."""


class LessonSizes(Schema):
    """How long the parts of a summarizer's reply may be, characters, and how many there may be. Bounds matter: a small
    model under structured outputs runs on until the token limit otherwise. `critique` 0: no critique is asked for."""

    critique: int = 240
    flow: int = 200
    rule: int = 160
    num_principles: int = 2
    num_pitfalls: int = 2

    @property
    def settings(self) -> dict[str, int]:
        """By their names in `SIZE_SETTINGS`."""
        return {setting: getattr(self, size) for size, setting in SIZE_SETTINGS.items()}

    @property
    def lesson_tokens(self) -> int:
        """Of the longest lesson, as it is shown."""
        rules = (self.num_principles + self.num_pitfalls) * self.rule
        return 16 * math.ceil((self.flow + rules + _JSON_CHARS) / _CHARS_PER_TOKEN / 16)

    @property
    def reply_tokens(self) -> int:
        """Of the longest reply of the summarizer."""
        return self.lesson_tokens + 16 * math.ceil(self.critique / _CHARS_PER_TOKEN / 16)


SIZES = {
    "legacy": LessonSizes(critique=0),
    "compact": LessonSizes(),
    "full": LessonSizes(critique=2000, flow=800, rule=320, num_principles=4, num_pitfalls=4),
}
"""By the set of templates; those of `full` for a folder of the user's."""
Short = Annotated[str, Field(min_length=1, max_length=MAX_SHORT_CHARS)]


class Lesson(Schema):
    """What abstraction extracts from a trajectory (LANPO, Relevant Abstraction), as it is stored and shown."""

    flow_of_thought: Annotated[str, Field(min_length=1, max_length=MAX_FLOW_CHARS)]
    principles: Annotated[tuple[Short, ...], Field(min_length=1, max_length=MAX_RULES)]
    pitfalls: Annotated[tuple[Short, ...], Field(max_length=MAX_RULES)] = ()


class Summary(Schema):
    """What a summarizer found: its critique of the attempt, which no reader is shown, and the lesson."""

    critique: str = ""
    lesson: Lesson

    @property
    def reply(self) -> str:
        """The JSON in which a summarizer gives it."""
        values = self.lesson.model_dump(mode="json")
        if self.critique:
            values = {"critique": self.critique, **values}
        return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


@cache
def reply_type(sizes: LessonSizes) -> type[BaseModel]:
    """The JSON that a summarizer must give within `sizes`: first the critique, so that the lesson follows from it."""
    rule = Annotated[str, Field(min_length=1, max_length=sizes.rule)]
    critique: dict[str, Any] = {"critique": (str, Field(min_length=1, max_length=sizes.critique))}
    return create_model(
        "Lesson",
        __config__=ConfigDict(extra="forbid"),
        **(critique if sizes.critique else {}),
        flow_of_thought=(str, Field(min_length=1, max_length=sizes.flow)),
        principles=(tuple[rule, ...], Field(min_length=1, max_length=sizes.num_principles)),
        pitfalls=(tuple[rule, ...], Field((), max_length=sizes.num_pitfalls)),
    )


def summary_of(reply: BaseModel) -> Summary:
    """What a reply of a `reply_type` says."""
    values = reply.model_dump()
    return Summary(critique=values.pop("critique", ""), lesson=Lesson.model_validate(values))


class Scratch(Schema):
    problem: str
    form: AnswerForm = "boxed"


class Inter(Schema):
    """`sources` are the problems that the lessons were drawn from, in their order; none: not known."""

    problem: str
    lessons: tuple[Lesson, ...]
    sources: tuple[str, ...] = ()
    form: AnswerForm = "boxed"


class Intra(Schema):
    problem: str
    attempt: str
    form: AnswerForm = "boxed"


class RescueIntra(Schema):
    """An attempt that is known to be wrong, as all of its group are."""

    problem: str
    attempt: str
    form: AnswerForm = "boxed"


class Abstract(Schema):
    """What the summarizer sees of one attempt; `outcome` is told where `abstraction.outcomes` allows it."""

    problem: str
    trajectory: str
    outcome: Outcome | None = None
    sizes: LessonSizes = SIZES["compact"]


class Contrast(Schema):
    """A right and a wrong attempt at one problem, side by side."""

    problem: str
    right: str
    wrong: str
    sizes: LessonSizes = SIZES["compact"]


class Relevance(Schema):
    """How relevant each of `others` is to `problem`."""

    problem: str
    others: tuple[str, ...]


class JudgeLesson(Schema):
    """Whether `lesson`, drawn from `problem`, is worth keeping."""

    problem: str
    lesson: str


PromptInput = Scratch | Inter | Intra | RescueIntra | Abstract | Contrast
"""What a set of templates renders."""
