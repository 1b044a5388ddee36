"""The settings of `Config` as one flat table: by dotted name, with type, default and meaning."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from pipeline.config.root import Config


class Setting(NamedTuple):
    """A setting, or a section as a whole."""

    name: str
    type: Any
    default: Any
    description: str

    @property
    def section(self) -> type[BaseModel] | None:
        """The model of a section; None for a single setting."""
        models = (kind for kind in kinds(self.type) if isinstance(kind, type) and issubclass(kind, BaseModel))
        return next(models, None)

    @property
    def required(self) -> bool:
        """Whether its section cannot be without it."""
        return self.default is PydanticUndefined


@cache
def settings() -> tuple[Setting, ...]:
    """Every setting and section in the order in which they are declared, a section before what it holds."""
    return tuple(_settings(Config, ""))


def _settings(model: type[BaseModel], prefix: str) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        setting = Setting(f"{prefix}{name}", field.annotation, default, field.description or "")
        yield setting
        if setting.section is not None:
            yield from _settings(setting.section, f"{setting.name}.")


def known_fields() -> list[str]:
    """The names of all settings and sections, and of the fields of those that come in lists (`endpoints.url`)."""
    names = []
    for setting in settings():
        names.append(setting.name)
        for element in (element for kind in kinds(setting.type) for element in get_args(kind)[:1]):
            if isinstance(element, type) and issubclass(element, BaseModel):
                names += [f"{setting.name}.{field}" for field in element.model_fields]
    return names


def kinds(annotation: Any) -> tuple[Any, ...]:
    """The types that a value may have, without their bounds."""
    if get_origin(annotation) is Annotated:
        return kinds(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return tuple(kind for part in get_args(annotation) for kind in kinds(part))
    return (annotation,)


def type_name(annotation: Any) -> str:
    """A type as the help shows it: `int`, `float or none`, `{a,b}`, `[str,…]`."""
    return " or ".join(dict.fromkeys(_kind_name(kind) for kind in kinds(annotation)))


def _kind_name(kind: Any) -> str:
    arguments = get_args(kind)
    if get_origin(kind) is Literal:
        return f"{{{','.join(map(str, arguments))}}}"
    if get_origin(kind) is tuple:
        return f"[{','.join('…' if part is ... else type_name(part) for part in arguments)}]"
    if get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return "JSON"
    return "none" if kind is NoneType else str(kind.__name__)
