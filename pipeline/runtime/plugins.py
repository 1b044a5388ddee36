"""A user's own function, named in the configuration as `module:function`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from pipeline.errors import ConfigError


def is_plugin(value: str) -> bool:
    return ":" in value


def load_function(value: str, field: str) -> Callable[..., Any]:
    """The function that `value` ('module:function') names.

    Raises ConfigError that names `field`, the value and the remedy.
    """
    module_name, _, name = value.partition(":")
    if not module_name or not name:
        raise ConfigError(f"{field} = {value!r}: write it as 'module:function', for example 'my_task:score'")
    if "/" in module_name or "\\" in module_name or not all(module_name.split(".")):
        raise ConfigError(
            f"{field} = {value!r}: {module_name!r} is no module's name: a module is named without its folder and .py, "
            f"so write '{_module_of(module_name)}:{name}', and run from the folder that holds it, or install it"
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        if module_name.endswith(".py"):
            remedy = f"write '{_module_of(module_name)}:{name}', without .py"
            raise ConfigError(f"{field} = {value!r}: cannot import {module_name!r} ({error}); {remedy}") from error
        raise ConfigError(
            f"{field} = {value!r}: cannot import {module_name!r} ({error}); run from the folder that holds it, or "
            "install it"
        ) from error
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"{field} = {value!r}: importing {module_name!r} raised {type(error).__name__}: {error}"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(f"{field} = {value!r}: module {module_name!r} has no function {name!r}")
    return function


def _module_of(path: str) -> str:
    """The name of the module that a path seems to mean."""
    return path.replace("\\", "/").rpartition("/")[2].removesuffix(".py").strip(".") or "my_task"
