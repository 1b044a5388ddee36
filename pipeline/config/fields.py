"""The settings of `Config` as one flat table: by dotted name, with type, default and meaning."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from pipeline.config.root import Config

_SHAPES = {"tuple": "list", "dict": "table", "NoneType": "none"}


class Setting(NamedTuple):
    """A setting, or a section as a whole. `kinds` are the types that its value may have, without their bounds; the
    default of one that must be given is PydanticUndefined."""

    name: str
    kinds: tuple[Any, ...]
    default: Any
    description: str

    @property
    def section(self) -> type[BaseModel] | None:
        """The model of a section; None for a single setting."""
        return next((kind for kind in self.kinds if _is_model(kind)), None)

    @property
    def required(self) -> bool:
        return self.default is PydanticUndefined

    @property
    def type_name(self) -> str:
        """Its type as the help shows it: `int`, `float or none`, `{a,b}`, `list`, `table`."""
        return " or ".join(_type_name(kind) for kind in self.kinds)


@cache
def settings() -> tuple[Setting, ...]:
    """Every setting and section in the order in which they are declared, a section before what it holds."""
    return tuple(_settings(Config, ""))


def known_fields() -> list[str]:
    return [setting.name for setting in settings()]


def _settings(model: type[BaseModel], prefix: str) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        setting = Setting(f"{prefix}{name}", _kinds(field.annotation), default, field.description or "")
        yield setting
        if setting.section is not None:
            yield from _settings(setting.section, f"{setting.name}.")


def _kinds(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return tuple(kind for part in get_args(annotation) for kind in _kinds(part))
    return (annotation,)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _type_name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"{{{','.join(get_args(kind))}}}"
    return "table" if _is_model(kind) else _SHAPES.get(kind.__name__, kind.__name__)
