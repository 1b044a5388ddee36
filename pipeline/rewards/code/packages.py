"""Installed packages that programs may import: which files they are, with those of what they need."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

from pipeline.errors import ConfigError

_REQUIREMENT = re.compile(r"^\s*([\w.-]+)(.*)$", re.DOTALL)


def package_files(packages: Sequence[str]) -> list[Path]:
    """What of the installed files `packages` are, and what they need: folders and modules, each once by its name.

    Raises ConfigError naming a package that is not installed."""
    found: dict[str, Path] = {}
    for one in _with_needed(packages):
        for file in one.files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not top.endswith((".pth", ".dist-info")):
                found.setdefault(top, Path(str(one.locate_file(top))))
    return [path for path in found.values() if path.exists()]


@cache
def modules_of(package: str) -> tuple[str, ...]:
    """The names under which `package` itself is imported."""
    name = _named(package).metadata["Name"]
    found = [module for module, owners in packages_distributions().items() if name in owners]
    return tuple(sorted(module for module in found if not module.startswith("_")))


def _with_needed(packages: Sequence[str]) -> Iterator[Distribution]:
    """The distributions of `packages`, and of those that they need and that are installed."""
    seen: set[str] = set()
    wanted = [(package, True) for package in packages]
    while wanted:
        package, is_named = wanted.pop()
        try:
            one = _named(package)
        except ConfigError:
            if is_named:
                raise
            continue
        if one.metadata["Name"] in seen:
            continue
        seen.add(one.metadata["Name"])
        yield one
        for requirement in one.requires or ():
            match = _REQUIREMENT.match(requirement)
            if match and "extra ==" not in match[2]:
                wanted.append((match[1], False))


def _named(package: str) -> Distribution:
    """The distribution of that name, or that a module of that name comes from."""
    try:
        return distribution(package)
    except PackageNotFoundError:
        if owners := packages_distributions().get(package):
            return distribution(owners[0])
        raise ConfigError(
            f"reward.code.packages: {package!r} is not installed here, so that no program can import it; "
            f"pip install {package}, or leave it out"
        ) from None


def may_import(packages: Sequence[str]) -> str:
    """The sentence of a prompt that says what a program may import; empty where that is the standard library alone."""
    names = [module for package in packages for module in modules_of(package)]
    return f"It may import the standard library and {', '.join(names)}." if names else ""
