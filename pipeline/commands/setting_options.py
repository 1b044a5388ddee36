"""An option for every setting: `--SECTION.FIELD VALUE`, and `--SECTION JSON` for a section as a whole.

Scalars are given as text, which the configuration itself reads. A list is given as JSON or with commas between its
items, and adds up when the option is repeated; a free-form table as JSON or as name=value. What is said of one field
wins over what is said of its section."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Collection
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

from pipeline.config.fields import Setting, settings
from pipeline.config.loading import merged
from pipeline.errors import ConfigError

DEFAULTS = "--help-all shows every one. The defaults are those of a file that sets nothing; a recipe sets others."


def add_setting_options(
    parser: argparse.ArgumentParser, common: Collection[str], *, own: Collection[str] = (), show_all: bool = False
) -> None:
    """Add an option for each setting but those in `own`, which the command uses for something else.

    The help shows `common` settings; with `show_all` every one, by section."""
    group: argparse._ActionsContainer = parser.add_argument_group("settings used most", DEFAULTS)
    for setting in settings():
        if setting.name in own:
            continue
        if show_all and "." not in setting.name:
            group = parser.add_argument_group(setting.name) if setting.section else parser
        group.add_argument(
            f"--{setting.name}",
            action="append",
            metavar=setting.type_name,
            help=_help(setting) if show_all or setting.name in common else argparse.SUPPRESS,
        )


def _help(setting: Setting) -> str:
    if setting.section is not None:
        return setting.description or "The whole section at once."
    default = "must be given" if setting.required else f"default: {_text(setting.default)}"
    return f"{setting.description} ({default})".replace("%", "%%")


def _text(value: Any) -> str:
    """A default as one would write it on the command line."""
    if value is None or isinstance(value, str | Path):
        return "none" if value is None else str(value) or "empty"
    return json.dumps(value, default=lambda model: model.model_dump())


def settings_given(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the command line sets, as nested sections. Raises ConfigError for a list or a table that cannot be read."""
    given: dict[str, Any] = {}
    for setting in settings():
        if setting.name in vars(arguments) and (texts := vars(arguments)[setting.name]) is not None:
            value = _value(setting, texts)
            for part in reversed(setting.name.split(".")):
                value = {part: value}
            given = merged(given, value)
    return given


def _value(setting: Setting, texts: list[str]) -> Any:
    origins = {get_origin(kind) for kind in setting.kinds}
    last = texts[-1]
    if NoneType in setting.kinds and last.lower() in ("none", "null"):
        return None
    if tuple in origins:
        wants_text = any(get_args(kind)[:1] == (str,) for kind in setting.kinds)
        items = [item for text in texts for item in _items(setting.name, text)]
        return [str(item) if wants_text and type(item) in (int, float) else item for item in items]
    if dict in origins:
        return {name: value for text in texts for name, value in _table(setting.name, text).items()}
    return last if setting.section is None else _json(setting.name, last)


def _items(name: str, text: str) -> list[Any]:
    """The items of a list: '["a", "b"]', 'a,b', '{…},{…}'."""
    if text.startswith("["):
        return list(_json(name, text))
    if text.startswith("{"):
        return list(_json(name, f"[{text}]"))
    return [item.strip() for item in next(csv.reader([text], skipinitialspace=True), [])] or [""]


def _table(name: str, text: str) -> dict[str, Any]:
    """A free-form table: '{"a": 1}', 'a=1,b=2', whose values are texts then."""
    if text.startswith("{"):
        return dict(_json(name, text))
    pairs = [item.partition("=") for item in text.split(",")]
    if not all(equals for _, equals, _ in pairs):
        raise ConfigError(
            f"""--{name} {text}: give a table as JSON, for example --{name} '{{"name": true}}', or as name=value"""
        )
    return {key.strip(): value.strip() for key, _, value in pairs}


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(
            f"--{name} {text}: not valid JSON: {error}; lists and tables are written as JSON, for example "
            "--learner.report_to '[\"wandb\"]'"
        ) from error
