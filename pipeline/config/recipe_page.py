"""Writes docs/recipes.md: what each recipe is, what it extends, and which settings it has of its own.

python -m pipeline.config.recipe_page > docs/recipes.md"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

from pipeline.config.loading import EXTENDS, RECIPES, recipe_names, recipe_settings
from pipeline.config.root import Config
from pipeline.runtime.files import flat

DEFAULTS = flat(Config().model_dump(mode="json"))

HEAD = """# Recipes

This page is written by `python -m pipeline.config.recipe_page`, and a test compares them. A recipe is a file of
settings in `pipeline/config/recipes/`, begun by `python -m pipeline.orchestrate train --recipe grpo`. One that extends
another has all of its settings but those that it changes; a file of yours may extend a recipe in the same way, or
another file by its path (`extends = "grpo"`, `extends = "shared/base.toml"`, at the top of a file given by `--config`).

| recipe | extends | what it is |
|---|---|---|
"""
CHANGES = """
## What differs

Of the recipes that extend another one: their settings, and what the other one has. A dash stands for the default.

| recipe | setting | value | in what it extends |
|---|---|---|---|
"""


def document() -> str:
    """The whole page."""
    return HEAD + "\n".join(_recipes()) + "\n" + CHANGES + "\n".join(_changes()) + "\n"


def _recipes() -> Iterator[str]:
    for name in recipe_names():
        base = _own(name).get(EXTENDS)
        yield f"| `{name}` | {f'`{base}`' if base else 'the defaults'} | {_what(name)} |"


def _changes() -> Iterator[str]:
    for name in recipe_names():
        own = _own(name)
        if EXTENDS in own:
            before = dict(_flat(recipe_settings(str(own.pop(EXTENDS)))))
            for setting, value in _flat(own):
                if before.get(setting) != value:
                    yield f"| `{name}` | `{setting}` | {_text(value)} | {_text(before.get(setting, '-'))} |"


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by dotted name; what is none by default is one, whatever it holds."""
    for name, value in values.items():
        is_section = isinstance(value, dict) and f"{prefix}{name}" not in DEFAULTS
        yield from _flat(value, f"{prefix}{name}.") if is_section else [(f"{prefix}{name}", value)]


def _own(name: str) -> dict[str, Any]:
    return tomllib.loads((RECIPES / f"{name}.toml").read_text(encoding="utf-8"))


def _what(name: str) -> str:
    """The first sentence of the remark that its file begins with."""
    lines = (RECIPES / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    remark = " ".join(line.removeprefix("#").strip() for line in lines[: lines.index("")])
    return remark.partition(". ")[0].rstrip(".").replace("|", "/")


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} = {_text(one)}" for name, one in value.items())
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    print(document(), end="")
