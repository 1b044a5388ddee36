"""From recipe, TOML file and command line to one validated `Config`, and back to words when something is wrong.

Order, later wins: the recipe, the file given by --config, the options. Every error names the field, the value and the
remedy."""

from __future__ import annotations

import argparse
import difflib
import json
import tomllib
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from pipeline.config.root import Config
from pipeline.config.run import SECRET_IN_VALUE
from pipeline.errors import ConfigError
from pipeline.runtime.files import flat

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
    """The settings in a TOML file, or in the config.json of a run. Raises ConfigError."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"--config {file}: {error.strerror or error}; give a TOML file, or the config.json of a run"
        ) from error
    try:
        return dict(json.loads(text)) if file.suffix == ".json" else tomllib.loads(text)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"--config {file}: not valid {file.suffix.removeprefix('.').upper() or 'TOML'}: {error}"
        ) from error


def validated(values: dict[str, Any]) -> Config:
    """`values` as a Config. Raises ConfigError that words each problem on a line of its own."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        lines = list(dict.fromkeys(_worded(item) for item in error.errors()))
        raise ConfigError("\n".join(lines)) from None


def _recipe_values(name: str) -> dict[str, Any]:
    file = RECIPES / f"{name}.toml"
    if not file.is_file():
        raise ConfigError(
            f"recipe = {name!r}: no such recipe{_did_you_mean(name, recipe_names())}; there are {', '.join(recipe_names())}"
        )
    return {"recipe": name, **tomllib.loads(file.read_text(encoding="utf-8"))}


def merged(base: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    """`update` over `base`, section by section; lists and free-form tables (params) are replaced whole."""
    result = dict(base)
    for key, value in update.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def _worded(error: Any) -> str:
    field = ".".join(
        str(part) for part in error["loc"] if not str(part).startswith(("function-", "tuple[", "constrained-"))
    )
    if error["type"] == "extra_forbidden":
        return f"{field} = {error['input']!r}: unknown setting{_did_you_mean(field, known_fields())}; `train --help` lists them all"
    message = error["msg"].removeprefix("Value error, ")
    if not field:
        return message
    if error["type"] == "missing":
        return f"{field}: {message}; it has no default"
    if error["type"] == SECRET_IN_VALUE:
        return f"{field}: {message}"
    return f"{field} = {error['input']!r}: {message[0].lower() + message[1:]}"


def known_fields() -> list[str]:
    return [*flat(Config().model_dump(mode="json")), *Config.model_fields]


def _did_you_mean(word: str, words: list[str]) -> str:
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


class FieldOptions:
    """Adds one option for each field of Config to a parser, and reads them back as nested overrides."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        from pydantic_settings import BaseSettings, CliSettingsSource

        class Fields(Config, BaseSettings):  # type: ignore[misc]
            pass

        self._source: Any = CliSettingsSource(Fields, root_parser=parser, cli_hide_none_type=True)

    def overrides(self, arguments: argparse.Namespace) -> dict[str, Any]:
        """What the command line sets. Raises ConfigError for a value that cannot be read."""
        from pydantic_settings import SettingsError

        try:
            return dict(self._source(parsed_args=arguments)())
        except SettingsError as error:
            raise ConfigError(
                f"{error}; lists and tables are written as JSON, for example --learner.report_to '[\"wandb\"]'"
            ) from error


class Parser(argparse.ArgumentParser):
    """argparse that suggests the option one meant."""

    def error(self, message: str) -> NoReturn:
        unknown = next((word.split("=")[0] for word in message.split() if word.startswith("--")), "")
        self.exit(
            2,
            f"{self.prog}: error: {message}{_did_you_mean(unknown, sorted(self._options()))}\nTry {self.prog} --help.\n",
        )

    def _options(self) -> set[str]:
        """Options of this parser and of its subcommands: an unknown one is reported by the outermost."""
        options: set[str] = set()
        for action in self._actions:
            options.update(action.option_strings)
            if isinstance(action, argparse._SubParsersAction):
                for parser in action.choices.values():
                    options |= parser._options()
        return options
