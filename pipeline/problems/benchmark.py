"""Benchmarks by name, each with its source, its prompt and its verifier.

The shipped registry is `pipeline/problems/benchmarks.toml`; a file of the user's adds to it and overrides it key by
key. Only registries are read here; `pipeline.problems.benchmark_items` finds a benchmark by what a user calls it, and
reads its items."""

from __future__ import annotations

import json
import re
import tomllib
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from pipeline.config.base import Positive
from pipeline.config.validation import invalid_fields
from pipeline.errors import ConfigError
from pipeline.problems.tasks import RowFormat
from pipeline.runtime.plugins import is_plugin

SHIPPED = Path(__file__).parent / "benchmarks.toml"
NEEDED_FIELDS = {
    "hub": ("dataset", "split"),
    "file": ("file",),
    "package": ("dataset", "file"),
    "reasoning_gym": ("dataset",),
}
"""Of a benchmark, by its source."""


class Benchmark(RowFormat):
    """One benchmark, a table of the registry: where its rows are, how they are read, and who judges."""

    name: Annotated[str, Field(min_length=1)]
    title: str = ""
    source: str = Field(
        "hub",
        description=(
            "'hub' (a Hugging Face data set), 'file', 'package' (a file of an installed one), 'reasoning_gym', or "
            "your own 'module:function'."
        ),
    )
    dataset: str = Field("", description="hub: its id; package: its name for pip; reasoning_gym: the family.")
    config: str = Field("", description="hub: name of the configuration.")
    revision: str = Field("", description="hub: commit of the data set; empty: the newest.")
    split: str = Field("test", description="hub: split.")
    file: str = Field("", description="file: JSONL, may be gzipped; package: the path in site-packages.")
    params: dict[str, Any] = Field(default_factory=dict, description="reasoning_gym: the family's parameters.")
    id_range: tuple[int, int] | None = Field(None, description="First and last id of the rows that belong to it.")
    verifier: str = Field("auto", description="'auto', 'math', 'code', 'judge' or your own 'module:function'.")
    max_tokens: Positive | None = Field(None, description="Suggested bound of a completion.")
    num_items: Annotated[int, Field(ge=0)] = Field(
        0, description="Expected (reasoning_gym: made) items; 0: any number."
    )
    url: str = Field("", description="Its data card or paper.")
    licence: str = ""

    @model_validator(mode="after")
    def _source_is_whole(self) -> Self:
        needed = NEEDED_FIELDS.get(self.source, ())
        if self.source not in NEEDED_FIELDS and not is_plugin(self.source):
            raise ValueError(
                f"source = {self.source!r} is unknown; use {', '.join(NEEDED_FIELDS)} or your own 'module:function'"
            )
        for field in needed:
            if not getattr(self, field):
                raise ValueError(f"source = {self.source!r} needs {field}")
        if self.file and "file" not in needed:
            raise ValueError(f"file = {self.file!r} is not read with source = {self.source!r}; set source = 'file'")
        return self

    @model_validator(mode="after")
    def _verifier_suits_the_form(self) -> Self:
        form = self.form or "boxed"
        if self.verifier not in ("auto", "math", "code", "judge") and not is_plugin(self.verifier):
            raise ValueError(
                f"verifier = {self.verifier!r} is unknown; use auto, math, code, judge or your own 'module:function'"
            )
        if (self.verifier == "code") > (form == "code") or (form == "code" and self.verifier in ("math", "judge")):
            raise ValueError(f"verifier = {self.verifier!r} cannot judge answers of form = {form!r}")
        return self


def registry(extra: Path | None = None) -> dict[str, Benchmark]:
    """Every benchmark by name: the shipped ones, and those of the user's TOML `extra`.

    Its tables win, key by key; one that sets `source` replaces the shipped one whole. Raises ConfigError naming file,
    table, field and value."""
    tables = {name: (table, SHIPPED) for name, table in _shipped().items()}
    for name, table in (_tables(extra) if extra else {}).items():
        assert extra is not None
        known = next((other for other in tables if name_key(other) == name_key(name)), name)
        base = tables[known][0] if known in tables and "source" not in table else {}
        tables[known] = ({**base, **_with_its_file(table, extra)}, extra)
    return {name: validated(name, table, file) for name, (table, file) in tables.items()}


def source_of(benchmark: Benchmark) -> str:
    """Where its items are read, which tells benchmarks of one name apart. Not what is in them: more items may join."""
    place = str(Path(benchmark.file).resolve()) if benchmark.source == "file" else benchmark.file
    parts = (benchmark.source, benchmark.dataset, benchmark.config, benchmark.revision, place)
    made = json.dumps(benchmark.params, sort_keys=True) if benchmark.params else ""
    return " ".join(part for part in (*parts, made) if part)


def name_key(name: str) -> str:
    """Names are compared without case and punctuation: MATH-500 is math500."""
    return re.sub(r"[\W_]", "", name.lower())


def _with_its_file(table: dict[str, Any], registry_file: Path) -> dict[str, Any]:
    """`table` of a user: its file is relative to the registry that names it, and stands in for any other source."""
    if not table.get("file") or not isinstance(table["file"], str) or table.get("source") == "package":
        return table
    return {"source": "file", **table, "file": str(registry_file.parent / table["file"])}


def _tables(file: Path) -> dict[str, dict[str, Any]]:
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"registry {file}: {error.strerror or error}; give a TOML file with one table a benchmark"
        ) from error
    except ValueError as error:  # broken TOML and broken UTF-8 alike
        raise ConfigError(f"registry {file}: not valid TOML: {error}") from error
    for name, table in values.items():
        if not isinstance(table, dict):
            raise ConfigError(
                f"{file}: {name} = {table!r} stands outside of a table; begin a benchmark with [its-name]"
            )
    return values


_shipped = cache(partial(_tables, SHIPPED))


def validated(name: str, table: dict[str, Any], file: Path) -> Benchmark:
    try:
        return Benchmark.model_validate({**table, "name": name})
    except ValidationError as error:
        lines = [f"{file} [{name}] {invalid}" for invalid in invalid_fields(error, Benchmark.model_fields)]
        raise ConfigError("\n".join(lines)) from None
