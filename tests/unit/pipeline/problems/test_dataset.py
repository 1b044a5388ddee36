import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.problems import FamilySettings, ProblemsSection
from pipeline.errors import ConfigError, DataError
from pipeline.problems.dataset import ProblemStream, load_problems
from pipeline.problems.drawing import shares
from pipeline.problems.duplicates import keys_of
from pipeline.text import is_among

SMALL = FamilySettings(name="chain_sum", params={"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1})


def settings(**values: Any) -> ProblemsSection:
    return ProblemsSection(**{"num_train": 60, "num_heldout": 20, **values})


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def rows(num: int, start: int = 0) -> list[dict[str, str]]:
    return [{"question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(start, start + num)]


def test_splits_are_disjoint_distinct_and_seeded() -> None:
    # 200 distinct problems in all and 140 wanted: chance repetitions are certain without the check.
    section = settings(families=(SMALL,), num_train=100, num_heldout=40)
    first, again, other = load_problems(section, 0), load_problems(section, 0), load_problems(section, 1)
    hashes = [task.problem.text_hash for task in first.train]
    assert len(set(hashes)) == 100
    assert not first.heldout_hashes & set(hashes)
    assert len(first.heldout_hashes) == 40
    assert first == again
    assert first.heldout == other.heldout
    assert first.train != other.train


def test_neighbouring_seeds_share_no_order_of_problems() -> None:
    one, two = (load_problems(settings(num_train=200), seed).train for seed in (0, 1))
    assert len({task.problem.text for task in one} & {task.problem.text for task in two}) < 40


def test_procedural_tasks_carry_what_they_need() -> None:
    task = load_problems(settings(), 0).train[0]
    assert task.problem.id == f"chain_sum-{task.problem.text_hash}"
    assert (task.problem.family, task.problem.split) == ("chain_sum", "train")
    assert task.label.problem_id == task.problem.id
    assert json.loads(json.dumps(task.label.entry)) == task.label.entry
    assert task.label.entry["answer"] == task.label.answer


def test_weights_share_out_the_problems() -> None:
    section = settings(families=(FamilySettings(name="chain_sum", weight=3), FamilySettings(name="products")))
    families = [task.problem.family for task in load_problems(section, 0).train]
    assert families.count("chain_sum") == 45
    assert families.count("products") == 15
    assert families != sorted(families)  # mixed, so that the first few are of every family
    assert shares([1, 1, 1], 4) == [2, 1, 1]


def test_metadata_that_json_cannot_hold_is_carried_as_text() -> None:
    tasks = load_problems(settings(families=(FamilySettings(name="gsm_symbolic"),), num_train=100), 0).train
    assert all(json.dumps(task.label.entry) for task in tasks)


@pytest.mark.parametrize(
    ("family", "error", "words"),
    [
        (FamilySettings(name="chain_sums"), ConfigError, ["problems.families[0].name = 'chain_sums'", "chain_sum"]),
        (FamilySettings(name="chain_sum", params={"terms": 2}), ConfigError, ["{'terms': 2}", "min_terms"]),
        (FamilySettings(name="chain_sum", params={"min_terms": 9}), ConfigError, ["{'min_terms': 9}", "max_terms"]),
        (FamilySettings(name="chain_sum", params={"seed": 1}), ConfigError, ["sets seed", "run.seed"]),
        (FamilySettings(name="rush_hour"), DataError, ["'rush_hour'", "choose another family"]),
    ],
)
def test_bad_families(family: FamilySettings, error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        load_problems(settings(families=(family,)), 0)
    assert all(word in str(caught.value) for word in words), caught.value


def test_exhausted_family_names_the_setting() -> None:
    with pytest.raises(DataError, match=r"only 180 of the 181 distinct train .*lower problems\.num_train"):
        load_problems(settings(families=(SMALL,), num_train=181, drop_near_duplicates=False), 0)
    with pytest.raises(DataError, match=r"no near-duplicates of held-out ones.*problems\.drop_near_duplicates = false"):
        load_problems(settings(families=(SMALL,), num_train=181), 0)


@pytest.mark.parametrize("families", [(SMALL,), (FamilySettings(name="products"), FamilySettings(name="count_primes"))])
def test_no_generated_training_problem_is_a_near_duplicate_of_a_held_out_one(
    families: tuple[FamilySettings, ...],
) -> None:
    def num_near(**values: Any) -> int:
        problems = load_problems(settings(families=families, num_heldout=40, **values), 0)
        held_out = frozenset[str]().union(*map(keys_of, problems.heldout))
        assert len(problems.train) == 60
        return sum(not held_out.isdisjoint(keys_of(task)) for task in problems.train)

    assert num_near() == 0
    assert families != (SMALL,) or num_near(drop_near_duplicates=False) > 5


def test_rows_that_are_near_duplicates_of_held_out_ones_are_left_out_and_counted(tmp_path: Path) -> None:
    questions = [
        "How many numbers below 100 are divisible by 3 and 7?",
        "How many of the numbers below 100 are divisible by 7 and by 3?",
        "How many numbers below 100 are divisible by 3 and 8?",
    ]
    section = settings(
        source="jsonl",
        num_heldout=1,
        train_file=write(tmp_path / "train.jsonl", [{"question": text, "answer": "4"} for text in questions]),
        heldout_file=write(
            tmp_path / "held.jsonl", [{"question": "How many numbers below 100 are divisible by 7 and 3?", "answer": 4}]
        ),
    )
    problems = load_problems(section, 0)
    assert [task.problem.text for task in problems.train] == questions[2:]
    assert problems.num_near == 2
    assert all(is_among(text, problems.heldout_keys) for text in questions[:1])
    assert problems.heldout_keys is problems.heldout_keys, "they cost a pass over all held-out texts"
    kept = load_problems(section.model_copy(update={"drop_near_duplicates": False}), 0)
    assert len(kept.train) == 3
    assert kept.heldout_keys == kept.heldout_hashes


def test_jsonl_reads_every_key_and_drops_worked_solutions(tmp_path: Path) -> None:
    train = [
        {"question": "Q1", "answer": "3 + 4 = 7\n#### 7"},
        {"problem": "Q2", "answer": 5, "id": "my-2"},
        "",
        {"prompt": "Q3", "answer": "Paris", "extra": None},
        {"prompt": " q3 ", "answer": "again"},
        {"prompt": "H0", "answer": "in both"},
    ]
    section = settings(
        source="jsonl",
        num_heldout=1,
        train_file=write(tmp_path / "sums.jsonl", train),
        heldout_file=write(
            tmp_path / "test.jsonl", [{"question": "h0", "answer": "1"}, {"question": "h1", "answer": "2"}]
        ),
    )
    problems = load_problems(section, 0)
    assert [(task.problem.text, task.label.answer) for task in problems.train] == [
        ("Q1", "7"),
        ("Q2", "5"),
        ("Q3", "Paris"),
    ]
    assert problems.train[0].problem.id == f"sums-{problems.train[0].problem.text_hash}"
    assert problems.train[1].problem.id == "my-2"
    assert [task.problem.text for task in problems.heldout] == ["h0"]
    assert problems.heldout[0].problem.split == "heldout"
    assert problems.num_dropped == 2


def test_jsonl_without_heldout_file_holds_out_its_end(tmp_path: Path) -> None:
    problems = load_problems(
        settings(source="jsonl", train_file=write(tmp_path / "a.jsonl", rows(50)), num_heldout=20), 0
    )
    assert [task.label.answer for task in problems.heldout] == [str(i + 1) for i in range(30, 50)]
    assert len(problems.train) == 30


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"question": "Q", ', "not JSON"),
        ('["Q", "7"]', "a JSON list"),
        ({"text": "Q", "answer": "7"}, "none of the keys question, problem, prompt"),
        ({"question": "Q"}, "no key 'answer'"),
        ({"question": "Q", "answer": [["7"]]}, "neither text nor number"),
        ({"question": "Q", "answer": "3 + 4 #### "}, "holds no answer"),
        ({"question": " ", "answer": "7"}, "is no text"),
        ({"question": "Q", "answer": "7", "id": 1.5}, "id = 1.5"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: Any, words: str) -> None:
    file = write(tmp_path / "a.jsonl", [*rows(2), line, *rows(40, 2)])
    with pytest.raises(DataError) as caught:
        load_problems(settings(source="jsonl", train_file=file), 0)
    assert f"{file}, line 3" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", b"question,answer\nQ?,7\n"), ("a.json", b'[{"question": "Q?"}]'), ("a.parquet", b"PAR1\xff")],
)
def test_a_file_of_another_format_is_named_with_the_way_to_convert_it(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"line 1: .*only JSONL files are read, so convert it \(pandas: `read_csv"):
        load_problems(settings(source="jsonl", train_file=str(tmp_path / name)), 0)


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"source": "csv"}, ConfigError, "problems.source = 'csv' is unknown"),
        ({"source": "jsonl"}, ConfigError, "problems.train_file = ''"),
        (
            {"source": "jsonl", "train_file": "missing.jsonl"},
            DataError,
            "problems.train_file = 'missing.jsonl': there is no such",
        ),
        ({"source": "hub"}, ConfigError, "problems.dataset = ''"),
        ({"source": "no_such_module:f"}, ConfigError, "cannot import 'no_such_module'"),
        ({"source": "json:no_such"}, ConfigError, "has no function 'no_such'"),
        ({"source": "json:"}, ConfigError, "'module:function'"),
        ({"families": ()}, ConfigError, "problems.families is empty"),
    ],
)
def test_bad_settings(values: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        load_problems(settings(**values), 0)
    assert words in str(caught.value)


def test_too_few_problems_and_ids_used_twice(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", rows(20))
    with pytest.raises(DataError, match=r"20 problems, too few .*num_heldout = 20"):
        load_problems(settings(source="jsonl", train_file=file), 0)
    with pytest.raises(DataError, match=r"only 20 held-out problems, but problems\.num_heldout = 21"):
        load_problems(settings(source="jsonl", train_file=file, heldout_file=file, num_heldout=21), 0)
    with pytest.raises(DataError, match="no training problem is left"):
        load_problems(settings(source="jsonl", train_file=file, heldout_file=file), 0)
    twice = [{**row, "id": "same"} for row in rows(30)]
    with pytest.raises(DataError, match="id 'same' names two problems"):
        load_problems(settings(source="jsonl", train_file=write(tmp_path / "b.jsonl", twice)), 0)


def fake_datasets(monkeypatch: pytest.MonkeyPatch, load: Callable[..., Any]) -> None:
    module = types.ModuleType("datasets")
    module.load_dataset = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)


def test_hub_reads_both_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def load(name: str, config: str | None, *, split: str) -> list[dict[str, str]]:
        calls.append((name, config, split))
        return rows(30, 0 if split == "train" else 100)

    fake_datasets(monkeypatch, load)
    problems = load_problems(settings(source="hub", dataset="openai/gsm8k", dataset_config="main"), 0)
    assert sorted(calls) == [("openai/gsm8k", "main", "test"), ("openai/gsm8k", "main", "train")]
    assert (len(problems.train), len(problems.heldout)) == (30, 20)
    assert problems.train[0].problem.id.startswith("gsm8k-")


def test_unreachable_hub_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route")

    fake_datasets(monkeypatch, load)
    with pytest.raises(
        DataError, match=r"(?s)'openai/gsm8k'.*no route.*problems\.source = 'jsonl' with problems\.train_file"
    ):
        load_problems(settings(source="hub", dataset="openai/gsm8k"), 0)


@pytest.fixture
def user_source(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], str]:
    def install(items: Any) -> str:
        module = types.ModuleType("my_source")
        module.load = lambda: items  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "my_source", module)
        return "my_source:load"

    return install


def test_a_users_source_with_and_without_splits(user_source: Callable[[Any], str]) -> None:
    problems = load_problems(settings(source=user_source(iter(rows(50)))), 0)
    assert (len(problems.train), len(problems.heldout)) == (30, 20)
    marked = [{**row, "split": "heldout"} for row in rows(20)] + rows(7, 20)
    problems = load_problems(settings(source=user_source(marked)), 0)
    assert [task.label.answer for task in problems.train] == [str(i + 1) for i in range(20, 27)]


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (7, "returned int"),
        (["Q"], "item 1 is a str"),
        ([{"question": "Q", "answer": "7", "split": "dev"}], "split = 'dev'"),
    ],
)
def test_a_users_source_gone_wrong(user_source: Callable[[Any], str], items: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load_problems(settings(source=user_source(items)), 0)


def test_the_stream_needs_no_state_and_repeats_none_within_an_epoch() -> None:
    tasks = load_problems(settings(), 0).train
    stream = ProblemStream(tasks, seed=3)
    order = [stream.problem_at(i).problem.id for i in range(120)]
    assert len(set(order[:60])) == len(set(order[60:])) == 60
    assert order[:60] != order[60:]
    assert [ProblemStream(tasks, seed=3).problem_at(i).problem.id for i in (119, 0, 61)] == [
        order[119],
        order[0],
        order[61],
    ]
    assert [ProblemStream(tasks, seed=4).problem_at(i).problem.id for i in range(60)] != order[:60]
    with pytest.raises(ValueError, match="at least one"):
        ProblemStream([], seed=0)


def test_columns_are_read_under_the_names_that_a_source_gives_them(tmp_path: Path) -> None:
    table = [
        {
            "Problem": f"Q{i}?",
            "meta": {"gold": i, "key": f"k{i}"},
            "CoT": f"We count to {i}.",
            "Text": "See:",
            "answer": 0,
        }
        for i in range(3)
    ]
    names = {"question": "Problem", "answer": "meta.gold", "solution": "CoT", "id": "meta.key", "context": "Text"}
    section = settings(source="jsonl", num_heldout=1, train_file=write(tmp_path / "a.jsonl", table), columns=names)
    problems = load_problems(section, 0)
    (first, _), (held,) = problems.train, problems.heldout
    assert (first.problem.id, first.problem.text, first.label.answer) == ("k0", "See:\nQ0?", "0")
    assert (first.solution, held.label.answer) == ("We count to 0.", "2")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            {"question": "Problem"},
            "problems.columns.question = 'Problem': there is no such column; there are 'q",
        ),
        ({"answer": "gold.value"}, "problems.columns.answer = 'gold.value': there is no such column"),
    ],
)
def test_a_column_that_is_named_and_missing_is_an_error_although_another_could_be_read(
    tmp_path: Path, columns: dict[str, str], words: str
) -> None:
    file = write(tmp_path / "a.jsonl", rows(50))
    with pytest.raises(DataError) as caught:
        load_problems(settings(source="jsonl", train_file=file, columns=columns), 0)
    assert f"{file}, line " in str(caught.value) and words in str(caught.value)
