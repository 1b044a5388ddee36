"""The registry of benchmarks: what is shipped parses, a user's tables are read, mistakes are named."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.problems.benchmark import SHIPPED, Benchmark, registry
from pipeline.problems.benchmark_items import find_benchmark
from tests.unit.pipeline.problems.test_benchmark_items import ids, items, jsonl, sums, toml

NAMES = ("GSM8K", "MATH-500", "AIME24", "AIME25", "AMC23", "HMMT25", "OlympiadBench", "Minerva", "HumanEval", "MBPP")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shipped_has_source_prompt_and_verifier(name: str) -> None:
    found = find_benchmark(name)
    assert find_benchmark(name.lower()) == found
    assert found.num_items and found.max_tokens and found.title and found.url.startswith("https://")
    assert found.verifier == ("code" if found.form == "code" else "math")
    assert found.source == "package" or len(found.revision) == 40


def test_nothing_else_is_shipped() -> None:
    assert sorted(registry()) == sorted(find_benchmark(name).name for name in NAMES)


def test_the_users_tables_win_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    jsonl(tmp_path / "mine" / "g.jsonl", [{"question": "1 + 1?", "answer": "… #### 2"}])
    extra = toml(
        tmp_path / "mine" / "r.toml",
        '[GSM-8K]\nfile = "g.jsonl"\nnum_items = 1\nprompt = "Q: {{question}}"\n[own]\nsource = '
        '"my_own:load"\nverifier = "judge"\n[math500]\nsource = "reasoning_gym"\ndataset = "chain_sum"\n',
    )
    changed = find_benchmark("gsm8k", extra)
    assert (changed.source, changed.verifier, changed.max_tokens) == ("file", "math", 1024)
    task = items(changed)[0]
    assert (task.problem.text, task.label.answer, task.problem.id) == ("Q: 1 + 1?", "2", "gsm8k-0000")
    assert find_benchmark("own", extra).verifier == "judge"
    assert find_benchmark("math500", extra).num_items == 0, "a table with a source replaces the shipped one whole"
    assert find_benchmark("gsm8k").source == "hub"
    assert list(registry(extra)) == [*registry(), "own"]


def test_a_users_function_is_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("my_own")
    module.load = lambda: iter(sums(3))  # type: ignore[attr-defined]
    module.number = lambda: 3  # type: ignore[attr-defined]
    module.words = lambda: ["a"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_own", module)

    def of(function: str) -> Benchmark:
        return find_benchmark("own", toml(tmp_path / "r.toml", f'[own]\nsource = "my_own:{function}"\n'))

    assert ids(items(of("load"))) == ["own-0000", "own-0001", "own-0002"]
    with pytest.raises(DataError, match="'my_own:number' returned int; return an iterable"):
        items(of("number"))
    with pytest.raises(DataError, match="my_own:words item 1 is a str"):
        items(of("words"))
    with pytest.raises(ConfigError, match="has no function 'none'"):
        items(of("none"))


def test_an_unknown_name_gets_near_matches_and_the_list() -> None:
    with pytest.raises(ConfigError, match=r"'gsm9k' is unknown; did you mean gsm8k\?.*math500.*reasoning_gym:FAMILY"):
        find_benchmark("gsm9k")
    with pytest.raises(ConfigError, match="'zzzz' is unknown; there are"):
        find_benchmark("zzzz")


@pytest.mark.parametrize("name", ["my.csv", "data/my.json", "my.parquet", "my.csv.gz"])
def test_a_file_of_another_format_is_to_be_converted(name: str) -> None:
    with pytest.raises(ConfigError, match=r"only JSONL files are read; convert it, one JSON object a line"):
        find_benchmark(name)


@pytest.mark.parametrize(
    ("table", "reported"),
    [
        ("[a]\nsourc = 'hub'\n", r"\[a\] sourc = 'hub': unknown field; did you mean source"),
        ("[a]\nsource = 'web'\n", "source = 'web' is unknown; use hub, file, package, reasoning_gym"),
        ("[a]\n", "source = 'hub' needs dataset"),
        ("[a]\nsource = 'file'\n", "source = 'file' needs file"),
        ("[a]\nsource = 'hub'\ndataset = 'd'\nfile = 'f'\n", "not read with source = 'hub'"),
        ("[gsm8k]\nprompt = 'Solve.'\n", r"prompt = 'Solve.': must hold \{\{question\}\}"),
        ("[gsm8k]\nprompt = '{{question}} {{answer}}'\n", r"may hold \{\{question\}\} only"),
        ("[gsm8k]\nverifier = 'regex'\n", "verifier = 'regex' is unknown"),
        ("[gsm8k]\nverifier = 'code'\n", "verifier = 'code' cannot judge answers of form = 'boxed'"),
        ("[mbpp]\nverifier = 'math'\n", "verifier = 'math' cannot judge answers of form = 'code'"),
        ("[gsm8k]\nnum_items = -1\n", r"\[gsm8k\] num_items = -1"),
        ("num_items = 3\n", "num_items = 3 stands outside of a table"),
        ("[gsm8k\n", "not valid TOML"),
    ],
)
def test_a_mistake_in_a_registry_names_file_table_and_field(table: str, reported: str, tmp_path: Path) -> None:
    extra = toml(tmp_path / "r.toml", table)
    with pytest.raises(ConfigError, match=reported) as caught:
        registry(extra)
    assert str(extra) in str(caught.value)


def test_a_registry_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"registry .*none\.toml: No such file"):
        registry(tmp_path / "none.toml")
    assert SHIPPED.is_file()
