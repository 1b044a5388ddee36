"""Small programming problems: seeded, split, and with tests that trivial programs fail."""

import hashlib
import random
import re
from typing import Any

import pytest

from pipeline.config.problems import FamilySettings, ProblemsSection
from pipeline.errors import ConfigError, DataError
from pipeline.problems.code_families import FAMILIES
from pipeline.problems.dataset import load_problems
from pipeline.problems.procedural_code import tells_apart


def settings(**values: Any) -> ProblemsSection:
    return ProblemsSection(source="procedural_code", **{"families": (), "num_train": 200, "num_heldout": 80, **values})


def test_splits_are_disjoint_distinct_and_seeded() -> None:
    narrow = settings(families=(FamilySettings(name="words_chosen"),), num_train=60, num_heldout=40)
    for section in (settings(), narrow):
        first, again, other = load_problems(section, 0), load_problems(section, 0), load_problems(section, 1)
        hashes = {task.problem.text_hash for task in first.train}
        assert len(hashes) == len(first.train) == section.num_train
        assert len(first.heldout_hashes) == section.num_heldout
        assert not hashes & first.heldout_hashes
        assert first == again
        assert first.heldout == other.heldout
        assert first.train != other.train


def test_every_family_makes_programs_with_tests_and_keeps_its_reference_to_itself() -> None:
    problems = load_problems(settings(num_train=380), 0)
    assert len(FAMILIES) >= 12
    assert {task.problem.family for task in problems.train} == set(FAMILIES)
    for task in problems.train + problems.heldout:
        name = task.label.entry["entry_point"]
        assert task.problem.form == "code"
        assert task.label.entry.keys() == {"tests", "entry_point"}
        assert f"function `{name}(" in task.problem.text
        assert "return " not in task.label.entry["tests"] + task.problem.text
        assert task.label.entry["tests"].count(f"assert {name}(") >= 5


@pytest.mark.parametrize("name", FAMILIES)
def test_constants_and_copies_of_an_argument_fail(name: str) -> None:
    """The tests are run here as they are: they are the generator's own."""
    section = settings(families=(FamilySettings(name=name),), num_train=40, num_heldout=10)
    for task in load_problems(section, 0).train:
        tests, entry_point = task.label.entry["tests"], task.label.entry["entry_point"]
        expected = [eval(value) for value in re.findall(r" == (.*)$", tests, re.MULTILINE)]
        programs = [lambda *arguments, value=value: value for value in expected]
        programs += [lambda *arguments: arguments[0], lambda *arguments: arguments[-1], lambda *arguments: None]
        for program in programs:
            with pytest.raises(AssertionError):
                exec(tests, {entry_point: program})


def test_cases_that_tell_nothing_apart_are_told() -> None:
    assert tells_apart([(1, 2), (3, 4)], [3, 7])
    assert not tells_apart([(1, 2), (3, 4)], [2, 4])
    assert not tells_apart([(1,), (3,)], [False, False])


def test_the_exercises_of_a_seed_stay_as_they_are() -> None:
    """They are part of runs, which a resume goes on with."""
    drawn = [family(random.Random(f"{name}:{seed}")) for name, family in FAMILIES.items() for seed in range(40)]
    texts = "\n".join(f"{exercise.question}\n{exercise.reference}{exercise.cases}" for exercise in drawn)
    assert hashlib.sha256(texts.encode()).hexdigest()[:16] == "85b116aa82c71230"


def test_texts_of_a_family_are_many() -> None:
    for name, family in FAMILIES.items():
        rng = random.Random(0)
        assert len({family(rng).question for _ in range(2000)}) >= 200, name


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        (
            {"families": (FamilySettings(name="chain_sum"),)},
            ConfigError,
            r"families\[0\]\.name = 'chain_sum'.*\[\] for all",
        ),
        ({"families": (FamilySettings(name="formulas"),)}, ConfigError, "of formula"),
        ({"families": (FamilySettings(name="bound", params={"a": 1}),)}, ConfigError, "take none"),
        (
            {"families": (FamilySettings(name="bound"),), "num_train": 5000},
            DataError,
            r"'bound' made only \d+ of the 5000 .* lower problems\.num_train",
        ),
    ],
)
def test_bad_settings(values: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        load_problems(settings(**values), 0)
