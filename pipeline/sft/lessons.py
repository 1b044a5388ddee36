"""Hand-written lessons per task family (`lessons.toml`): what SFT seeding shows as lessons and what it teaches to
write."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

from prompts.schemas import Lesson

_FILE = Path(__file__).with_name("lessons.toml")


@cache
def _by_family() -> dict[str, tuple[Lesson, ...]]:
    families = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return {name: tuple(map(Lesson.model_validate, lessons)) for name, lessons in families.items()}


def all_lessons() -> list[Lesson]:
    return [lesson for lessons in _by_family().values() for lesson in lessons]


def lessons_of(family: str) -> tuple[Lesson, ...]:
    """The variants of `family`; the general ones for a family without its own."""
    return _by_family().get(family) or _by_family()["general"]
