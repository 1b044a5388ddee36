"""What can be evaluated: benchmarks by name, each with its source, its prompt and its verifier.

The shipped registry is `pipeline/problems/benchmarks.toml`; a file of the user's adds to it and overrides it key by key. Invariants
of a benchmark's items: all are there (fewer or more than stated is an error), repeated texts too; ids are unique and do not
depend on what was sampled; the sample of a smaller limit is part of that of a larger one."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from pipeline.config.base import Positive, Section
from pipeline.errors import ConfigError
from pipeline.problems.benchmark_items import SUFFIXES, first_row, tasks_of
from pipeline.problems.benchmark_rows import PLACEHOLDER, TEXT_LINE, is_code
from pipeline.runtime.plugins import is_plugin
from pipeline.types import Task
from prompts.schemas import AnswerForm

SHIPPED = Path(__file__).parent / "benchmarks.toml"
GENERATED = "reasoning_gym:"
OTHER_FORMATS = (".json", ".csv", ".tsv", ".parquet", ".xlsx", ".txt")
_PLACEHOLDERS = {"boxed": {"question"}, "code": {"question", "tests"}}


class Benchmark(Section):
    """One benchmark: a table of the registry. `pipeline.problems.benchmark_items` reads its items."""

    name: Annotated[str, Field(min_length=1)]
    title: str = ""
    source: str = Field(
        "hub",
        description="'hub' (a Hugging Face data set), 'file', 'package' (a file of an installed one), 'reasoning_gym', or "
        "your own 'module:function'.",
    )
    dataset: str = Field("", description="hub: its id; package: its name for pip; reasoning_gym: the family.")
    config: str = Field("", description="hub: name of the configuration.")
    revision: str = Field("", description="hub: commit of the data set; empty: the newest.")
    split: str = Field("test", description="hub: split.")
    file: str = Field("", description="file: JSONL, may be gzipped; package: the path in site-packages.")
    params: dict[str, Any] = Field(default_factory=dict, description="reasoning_gym: the family's parameters.")
    question_column: str = Field("question", description="Where it is missing, question, problem or prompt is read.")
    context_column: str = Field("", description="Text that stands before the question, in rows that have it.")
    answer_column: str = Field("answer", description="Where it is missing, answer is read.")
    tolerance_column: str = Field(
        "",
        description="Error that a numerical answer may have, in rows that have it; commas separate those of several.",
    )
    id_column: str = Field("id", description="A row without it is named by its position.")
    id_range: tuple[int, int] | None = Field(None, description="First and last id of the rows that belong to it.")
    prompt: str = Field("{{question}}", description="Text of the problem; may show {{tests}} of code.")
    form: AnswerForm = Field("boxed", description="How the answer is to be given.")
    verifier: str = Field("auto", description="'auto', 'math', 'code', 'judge' or your own 'module:function'.")
    max_tokens: Positive | None = Field(None, description="Suggested bound of a completion.")
    num_items: Annotated[int, Field(ge=0)] = Field(
        0, description="Expected (reasoning_gym: made) items; 0: any number."
    )
    url: str = Field("", description="Its data card or paper.")
    licence: str = ""

    @model_validator(mode="after")
    def _source_is_whole(self) -> Self:
        needs = {"hub": ("dataset", "split"), "file": ("file",), "package": ("dataset", "file")}
        needs["reasoning_gym"] = ("dataset",)
        if self.source not in needs and not is_plugin(self.source):
            raise ValueError(
                f"source = {self.source!r} is unknown; use {', '.join(needs)} or your own 'module:function'"
            )
        for field in needs.get(self.source, ()):
            if not getattr(self, field):
                raise ValueError(f"source = {self.source!r} needs {field}")
        if self.file and "file" not in needs.get(self.source, ()):
            raise ValueError(f"file = {self.file!r} is not read with source = {self.source!r}; set source = 'file'")
        return self

    @model_validator(mode="after")
    def _prompt_and_verifier_suit_the_form(self) -> Self:
        known, found = _PLACEHOLDERS[self.form], set(PLACEHOLDER.findall(self.prompt))
        if "question" not in found or found - known:
            shown = " and ".join(f"{{{{{name}}}}}" for name in sorted(known))
            raise ValueError(f"prompt = {self.prompt!r}: must hold {{{{question}}}}, and may hold {shown} only")
        if self.verifier not in ("auto", "math", "code", "judge") and not is_plugin(self.verifier):
            raise ValueError(
                f"verifier = {self.verifier!r} is unknown; use auto, math, code, judge or your own 'module:function'"
            )
        if (self.verifier == "code") > (self.form == "code") or (
            self.form == "code" and self.verifier in ("math", "judge")
        ):
            raise ValueError(f"verifier = {self.verifier!r} cannot judge answers of form = {self.form!r}")
        return self


def registry(extra: Path | None = None) -> dict[str, Benchmark]:
    """Every benchmark by name: the shipped ones, and those of the user's TOML `extra`. Its tables win, key by key; one that
    sets `source` replaces the shipped one whole. Raises ConfigError naming file, table, field and value."""
    tables = {name: (table, SHIPPED) for name, table in _tables(SHIPPED).items()}
    for name, table in (_tables(extra) if extra else {}).items():
        assert extra is not None
        known = next((other for other in tables if _key(other) == _key(name)), name)
        base = tables[known][0] if known in tables and "source" not in table else {}
        tables[known] = ({**base, **_with_its_file(table, extra)}, extra)
    return {name: _validated(name, table, file) for name, (table, file) in tables.items()}


def benchmark(name: str, extra: Path | None = None) -> Benchmark:
    """The benchmark called `name`, in the registry or in the user's TOML `extra`; a JSONL file by its path; a family by
    `reasoning_gym:FAMILY`. Raises ConfigError for an unknown name, DataError for a file that cannot be read."""
    if name.endswith(SUFFIXES):
        return _of_file(name)
    if name.lower().removesuffix(".gz").endswith(OTHER_FORMATS):
        raise ConfigError(
            f"benchmark {name!r}: only JSONL files are read; convert it, one JSON object a line such as {TEXT_LINE}, and name the "
            "file so that it ends in .jsonl (pandas: `read_csv(…).to_json(file, orient='records', lines=True)`)"
        )
    known = registry(extra)
    found = {_key(each): each for each in known}
    if _key(name) in found and not name.startswith(GENERATED):
        return known[found[_key(name)]]
    if name.startswith(GENERATED):
        family = name.removeprefix(GENERATED)
        return _validated(
            name, {"source": "reasoning_gym", "dataset": family, "title": f"reasoning-gym: {family}"}, SHIPPED
        )
    close = [found[key] for key in difflib.get_close_matches(_key(name), found, n=3, cutoff=0.5)]
    raise ConfigError(
        f"benchmark {name!r} is unknown{'; did you mean ' + ' or '.join(close) + '?' if close else ''}; there are "
        f"{', '.join(known)}, {GENERATED}FAMILY, and files that end in .jsonl"
    )


def source_of(benchmark: Benchmark) -> str:
    """Where its items are read, which tells benchmarks of one name apart. Not what is in them: more items may join."""
    place = str(Path(benchmark.file).resolve()) if benchmark.source == "file" else benchmark.file
    parts = (benchmark.source, benchmark.dataset, benchmark.config, benchmark.revision, place)
    made = json.dumps(benchmark.params, sort_keys=True) if benchmark.params else ""
    return " ".join(part for part in (*parts, made) if part)


def items(benchmark: Benchmark, limit: int | None = None, seed: int = 0, data: Path | None = None) -> list[Task]:
    """The items in the source's order: all, or the `limit` that rank first by a hash of seed, name and id.

    A generator whose number is not stated makes as many as are asked for, where that is more than its default. `data` is a folder
    whose `NAME.jsonl` (or `.jsonl.gz`) is read in place of the source. Raises ConfigError and DataError."""
    if limit is not None and limit < 1:
        raise ConfigError(
            f"limit = {limit}: give the number of items to sample, 1 or more, or leave it out for all of them"
        )
    return sampled(tasks_of(benchmark, data, limit or 0), benchmark.name, limit, seed)


def sampled(tasks: list[Task], name: str, limit: int | None, seed: int) -> list[Task]:
    """Of `tasks` the `limit` that rank first by a hash of seed, name and id, in the order given; all of them for None."""
    if limit is None:
        return tasks
    ranked = sorted(range(len(tasks)), key=lambda i: _rank(seed, name, tasks[i].problem.id))
    return [tasks[i] for i in sorted(ranked[:limit])]


def _rank(seed: int, name: str, identity: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}:{identity}".encode()).digest()


def _of_file(path: str) -> Benchmark:
    """A JSONL file as a benchmark of its own; its first row says whether its answers are programs, and whether the tests
    have to be shown, as MBPP's, because nothing else names the function."""
    name = Path(path).name.removesuffix(".gz").removesuffix(".jsonl")
    table: dict[str, Any] = {"source": "file", "file": path, "title": path}
    row = first_row(path).values
    if is_code(row):
        table |= {"form": "code", "verifier": "code", "id_column": "task_id" if "task_id" in row else "id"}
        table |= {} if row.get("entry_point") else {"prompt": registry()["mbpp"].prompt}
    return _validated(name, table, Path(path))


def _key(name: str) -> str:
    """Names are compared without case and punctuation: MATH-500 is math500."""
    return re.sub(r"[\W_]", "", name.lower())


def _with_its_file(table: dict[str, Any], registry_file: Path) -> dict[str, Any]:
    """`table` of a user: its file is relative to the registry that names it, and stands in for any other source."""
    if not table.get("file") or not isinstance(table["file"], str) or table.get("source") == "package":
        return table
    return {"source": "file", **table, "file": str(registry_file.parent / table["file"])}


def _tables(file: Path) -> dict[str, dict[str, Any]]:
    values = _shipped() if file == SHIPPED else _read(file)
    for name, table in values.items():
        if not isinstance(table, dict):
            raise ConfigError(
                f"{file}: {name} = {table!r} stands outside of a table; begin a benchmark with [its-name]"
            )
    return values


@cache
def _shipped() -> dict[str, Any]:
    return _read(SHIPPED)


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"registry {file}: {error.strerror or error}; give a TOML file with one table a benchmark"
        ) from error
    except ValueError as error:  # broken TOML and broken UTF-8 alike
        raise ConfigError(f"registry {file}: not valid TOML: {error}") from error


def _validated(name: str, table: dict[str, Any], file: Path) -> Benchmark:
    try:
        return Benchmark.model_validate({**table, "name": name})
    except ValidationError as error:
        lines = [_worded(item, f"{file} [{name}]") for item in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def _worded(item: Any, where: str) -> str:
    field = ".".join(map(str, item["loc"]))
    if item["type"] == "extra_forbidden":
        close = difflib.get_close_matches(field, Benchmark.model_fields, n=1)
        return f"{where} {field}: unknown field{f'; did you mean {close[0]}?' if close else ''}"
    message = item["msg"].removeprefix("Value error, ")
    return f"{where} {field} = {item['input']!r}: {message}" if field else f"{where} {message}"
