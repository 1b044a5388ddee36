"""What a retriever finds in a real pool, whatever else is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.experience import FeedbackSection
from pipeline.experience.pool import Pool
from pipeline.experience.retrieval import Retriever
from pipeline.experience.similarity import lexical
from pipeline.problems.duplicates import NearDuplicates
from pipeline.types import Problem
from tests.builders import experience, task_with

OWN = Problem(id="own", text="A shop sells 12 apples for 3 dollars each. What is the total?")
TWIN = "A shop sells 15 apples for 3 dollars each. What is the total?"
CAP = 32


def retriever(pool: Pool, **settings: float) -> Retriever:
    return Retriever(pool, lexical, FeedbackSection.model_validate(settings))


async def test_a_problem_at_its_cap_still_finds_its_twins(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    pool.add([experience(number, problem_id="own", text=OWN.text) for number in range(CAP)])
    pool.add([experience(100 + number, problem_id="twin", text=TWIN) for number in range(5)])
    for opened in (pool, Pool(tmp_path, version=pool.version)):
        context = await retriever(opened).context(OWN)
        assert context.kind == "inter"
        reasons = {one.id: one.outcome for one in context.considered}
        assert sum(reason == "same_problem" for reason in reasons.values()) == CAP
        assert reasons[context.lesson_ids[0]] == "shown"


async def test_one_twin_with_many_entries_does_not_crowd_out_the_others(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    pool.add([experience(number, problem_id="much", text=TWIN) for number in range(CAP)])
    others = [TWIN.replace("3 dollars", f"{number} dollars") for number in range(4, 12)]
    pool.add([experience(100 + number, problem_id=f"p{number}", text=text) for number, text in enumerate(others)])
    context = await retriever(pool, num_candidates=8).context(OWN)
    admissible = {one.id for one in context.considered if one.outcome not in ("crowded_out", "same_problem")}
    assert len(admissible) == 8
    assert sum(identity < "x100" or len(identity) < 4 for identity in admissible) == 4
    assert len([identity for identity in admissible if len(identity) == 4]) == 4


async def test_of_equal_lessons_the_newest_is_shown(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    pool.add([experience(number, text=TWIN).model_copy(update={"step": number}) for number in (3, 9, 6)])
    assert (await retriever(pool).context(OWN)).lesson_ids == ("x9",)


async def test_the_words_of_every_problem_find_nothing(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    pool.add([experience(1, text="What is the sum of it and this?")])
    assert pool.search("the and of it", 4) == []
    assert [found.id for found in pool.search("the sum", 4)] == ["x1"]


def operator_text(name: str, a: int, b: int) -> str:
    return f"In {name} arithmetic the sign {name} joins two numbers. What is {a} {name} {b}?"


async def test_of_an_operator_whose_rule_is_hidden_the_lessons_stay_and_near_duplicates_go(tmp_path: Path) -> None:
    texts = {
        "relevant": operator_text("dax", 8, 5),
        "swapped": operator_text("dax", 3, 7),
        "other": operator_text("wugbimkop", 7, 4),
    }
    pool = Pool(tmp_path)
    pool.add([experience(i, problem_id=name, text=text) for i, (name, text) in enumerate(texts.items())])
    own = Problem(id="own", text=operator_text("dax", 7, 3))
    context = await retriever(pool, similarity_threshold=0.9).context(own)
    found = {one.id: one for one in context.considered}
    assert {name: one.outcome for name, one in found.items()} == {
        "x0": "shown",
        "x1": "near_duplicate",
        "x2": "below_threshold",
    }
    assert found["x0"].similarity == pytest.approx(0.97, abs=0.01)
    assert found["x1"].similarity is None


async def test_what_has_the_same_gold_answer_numbers_and_words_is_told_where_the_answers_are_known(
    tmp_path: Path,
) -> None:
    own = task_with("4", "own", "How many numbers below 100 are divisible by 7 and 3?")
    near = task_with("4", "near", "How many of the numbers below 100 are divisible by 3 and by 7?")
    pool = Pool(tmp_path)
    pool.add([experience(1, problem_id="near", text=near.problem.text)])
    blind, knowing = NearDuplicates(), NearDuplicates([own, near])
    for known, outcome in ((blind, "below_threshold"), (knowing, "near_duplicate")):
        settings = FeedbackSection(similarity_threshold=1.0)
        context = await Retriever(pool, lexical, settings, near=known).context(own.problem)
        assert [one.outcome for one in context.considered] == [outcome]
