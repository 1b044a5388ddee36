"""Makes one validated `Config` of recipe, file and command line.

Order, later wins: the recipe, the files that the one given by --config extends, that file, the options. What a file or
a recipe extends is named by `extends`: a recipe's name, or a path relative to the file. Every error names the field,
the value and the remedy."""

from __future__ import annotations

import json
import os
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
EXTENDS = "extends"
"""The key by which a file names what it is based on. It is resolved while reading, so no configuration holds it."""


def recipe_names() -> list[str]:
    return sorted(file.stem for file in RECIPES.glob("*.toml"))


def load_recipe(name: str) -> Config:
    """A named configuration. Raises ConfigError for an unknown name."""
    return validated(_recipe_values(name))


def recipe_settings(name: str) -> dict[str, Any]:
    """What a recipe and those that it extends set, as nested sections; nothing for a name that is no recipe's."""
    return _recipe_values(name) if name in recipe_names() else {}


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


def read_config_file(file: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The settings in a TOML file and in the files that it extends, or in the config.json of a run, which may be older
    than their names. The recipe that the last of them extends is its `recipe`. `above` are the files that led here.
    Raises ConfigError."""
    where = f"--config {' → '.join(map(str, (*above, file)))}"
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{where}: {error.strerror or error}; give a TOML file, or the config.json of a run"
        ) from error
    try:
        values = as_meant(dict(json.loads(text))) if file.suffix == ".json" else tomllib.loads(text)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{where}: not valid {file.suffix.removeprefix('.').upper() or 'TOML'}: {error}") from error
    if EXTENDS not in values:
        return values
    base = _extended(values, where)
    if "recipe" in values:
        raise ConfigError(
            f"{where}: recipe = {values['recipe']!r} and extends = {base!r} both say what it is based on; leave out one"
        )
    if not _is_path(base):
        _check_recipe(base, f"{where}: extends")
        return {**values, "recipe": base}
    path = Path(os.path.normpath(file.parent / Path(base).expanduser()))
    if any(path.resolve() == one.resolve() for one in (*above, file)):
        raise ConfigError(f"{where} → {path}: files that extend one another in a circle; leave out one `extends`")
    return merged(read_config_file(path, (*above, file)), values)


def _extended(values: dict[str, Any], where: str) -> str:
    """Take out what `values` extend. Raises ConfigError where that is no text."""
    base = values.pop(EXTENDS)
    if not isinstance(base, str) or not base:
        raise ConfigError(f"{where}: extends = {base!r}: give one recipe by its name, or a file by its path")
    return base


def _is_path(base: str) -> bool:
    return "/" in base or Path(base).suffix in (".toml", ".json")


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


def _recipe_values(name: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """The settings of a recipe and of those that it extends. Raises ConfigError."""
    _check_recipe(name, " → ".join(f"recipe {one}" for one in above) + ": extends" if above else "recipe")
    values = tomllib.loads((RECIPES / f"{name}.toml").read_text(encoding="utf-8"))
    if EXTENDS in values:
        chain = (*above, name)
        base = _extended(values, f"recipe {name}")
        if base in chain:
            raise ConfigError(f"recipes extend one another in a circle: {' → '.join((*chain, base))}; leave out one")
        values = merged(_recipe_values(base, chain), values)
    return {**values, "recipe": name}


def _check_recipe(name: str, where: str) -> None:
    if name not in recipe_names():
        raise ConfigError(
            f"{where} = {name!r}: no such recipe{did_you_mean(name, recipe_names())}; there are "
            f"{', '.join(recipe_names())}"
        )


def merged(base: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    """`update` over `base`, section by section; lists and free-form tables (params) are replaced whole."""
    result = dict(base)
    for key, value in update.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result
