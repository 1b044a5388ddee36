"""Pydantic's findings as lines for users: the field, the value that was given, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pydantic import ValidationError

from pipeline.config.renamed import RENAMED
from pipeline.text import did_you_mean

SECRET_IN_VALUE = "secret_in_value"  # noqa: S105 - the type of an error whose value must not be shown
# Steps within a type, which pydantic puts between the names of fields.
_NO_FIELDS = ("function-", "tuple[", "constrained-")
_MAX_VALUE_CHARS = 200


class InvalidField(NamedTuple):
    """One finding. `field` is dotted, empty for a whole; `value` is as Python writes it, empty where there is none to
    show."""

    field: str
    value: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (" = ".join(filter(None, (self.field, self.value))), self.message) if part)


def invalid_fields(
    error: ValidationError, known: Iterable[str] = (), *, kind: str = "field", hint: str = ""
) -> list[InvalidField]:
    """Each finding of `error` once. An unknown name is compared with `known`; `hint` follows where none of them is like
    it."""
    known, found = list(known), []
    for item in error.errors():
        parts = [str(part) for part in item["loc"]]
        field = ".".join(part for part in parts if not part.startswith(_NO_FIELDS))
        value = repr(item["input"])
        value = value if len(value) <= _MAX_VALUE_CHARS else f"{value[:_MAX_VALUE_CHARS]}…"
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            renamed = f"was renamed; write {RENAMED[field]}" if field in RENAMED else ""
            message = renamed or f"unknown {kind}{did_you_mean(field, known) or hint}"
        elif item["type"] == "missing":
            value, message = "", f"{message}; it has no default"
        elif item["type"] == SECRET_IN_VALUE or not field:
            value = ""
        else:
            message = message[:1].lower() + message[1:]
        found.append(InvalidField(field, value, message))
    return list(dict.fromkeys(found))
