"""Makes one validated `Config` of recipe, file and command line.

Order, later wins: the recipe, the file given by --config, the options. Every error names the field, the value and the
remedy."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.config.fields import known_fields
from pipeline.config.renamed import as_meant
from pipeline.config.root import Config
from pipeline.config.validation import invalid_fields
from pipeline.errors import ConfigError
from pipeline.text import did_you_mean

RECIPES = Path(__file__).parent / "recipes"
DEFAULT_RECIPE = "quickstart"


def recipe_names() -> list[str]:
    return sorted(file.stem for file in RECIPES.glob("*.toml"))


def load_recipe(name: str) -> Config:
    """A named configuration. Raises ConfigError for an unknown name."""
    return validated(_recipe_values(name))


def load_config(file: Path | None = None, overrides: dict[str, Any] | None = None) -> Config:
    """Recipe, then `file`, then `overrides` (nested dictionaries). Raises ConfigError."""
    overrides = overrides or {}
    from_file = read_config_file(file) if file else {}
    recipe = overrides.get("recipe") or from_file.get("recipe")
    base = (
        _recipe_values(recipe or DEFAULT_RECIPE)
        if recipe or not file
        else {"recipe": file.stem if file else DEFAULT_RECIPE}
    )
    return validated(merged(merged(base, from_file), overrides))


def read_config_file(file: Path) -> dict[str, Any]:
    """The settings in a TOML file, or in the config.json of a run, which may be older than their names. Raises
    ConfigError."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"--config {file}: {error.strerror or error}; give a TOML file, or the config.json of a run"
        ) from error
    try:
        return as_meant(dict(json.loads(text))) if file.suffix == ".json" else tomllib.loads(text)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"--config {file}: not valid {file.suffix.removeprefix('.').upper() or 'TOML'}: {error}"
        ) from error


def stored_config(file: Path) -> Config:
    """The configuration that a run or an evaluation stored, under whatever names settings had then."""
    return Config.model_validate(as_meant(json.loads(file.read_text(encoding="utf-8"))))


def validated(values: dict[str, Any]) -> Config:
    """`values` as a Config. Raises ConfigError with a line for each problem."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        invalid = invalid_fields(error, known_fields(), kind="setting", hint="; `train --help-all` lists them all")
        raise ConfigError("\n".join(map(str, invalid))) from None


def _recipe_values(name: str) -> dict[str, Any]:
    file = RECIPES / f"{name}.toml"
    if not file.is_file():
        raise ConfigError(
            f"recipe = {name!r}: no such recipe{did_you_mean(name, recipe_names())}; there are "
            f"{', '.join(recipe_names())}"
        )
    return {"recipe": name, **tomllib.loads(file.read_text(encoding="utf-8"))}


def merged(base: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    """`update` over `base`, section by section; lists and free-form tables (params) are replaced whole."""
    result = dict(base)
    for key, value in update.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result
