"""JSON replies of a model: the schema in the prompt where an endpoint knows no structured outputs, and JSON found in a
reply.

Structured outputs give bare JSON. Other endpoints think aloud first, put it into a fence, or introduce it and comment
on it. What is read must still fit the schema in every field; of several such objects the last one counts, as in a
conclusion."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.errors import EndpointError
from pipeline.text import strip_think
from pipeline.types import Message

M = TypeVar("M", bound=BaseModel)
THINKING_TOKENS = 1024
"""Tokens for what a model writes before its JSON; where the endpoint allows nothing but JSON they cost nothing."""
# Hostile text may open an object with each of its characters.
MAX_OPENINGS = 1024
_decoder = json.JSONDecoder()


def parse_json_reply(kind: type[M], text: str) -> M:
    """The last object of this kind in `text`. Raises ValidationError: where none is right, that of the last object
    there is."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        failure = error
    objects = _objects(strip_think(text))
    for index, found in enumerate(reversed(objects)):
        try:
            return kind.model_validate_json(found)
        except ValidationError as error:
            failure = error if index == 0 else failure
    raise failure


# As endpoints put it, each in its own way.
_REFUSAL = re.compile(r"response.?format|json.?(?:schema|object|mode)|structured.?output|guided|grammar", re.IGNORECASE)
_REFUSED = frozenset({"http_400", "http_404", "http_415", "http_422", "http_501"})


def refuses_schema(error: EndpointError) -> bool:
    """Whether an endpoint refused a request for its `response_format`."""
    return error.kind in _REFUSED and _REFUSAL.search(str(error)) is not None


def described(messages: tuple[Message, ...], schema: dict[str, Any]) -> tuple[Message, ...]:
    """`messages` with the schema in the last one, for an endpoint that takes no `response_format`."""
    last = messages[-1]
    content = f"{last.content}\nThe JSON must fit this schema: {json.dumps(schema)}"
    return (*messages[:-1], last.model_copy(update={"content": content}))


def _objects(text: str) -> list[str]:
    """The outermost JSON objects in `text`, in order."""
    found: list[str] = []
    begin, num_openings = text.find("{"), 0
    while begin >= 0 and num_openings < MAX_OPENINGS:
        num_openings += 1
        try:
            _, end = _decoder.raw_decode(text, begin)
        except (ValueError, RecursionError):
            end = begin + 1
        else:
            found.append(text[begin:end])
        begin = text.find("{", end)
    return found
