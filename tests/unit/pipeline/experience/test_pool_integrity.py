"""What is found wrong with entries and with a pool."""

from __future__ import annotations

import pytest

from pipeline.experience.pool_integrity import entry_faults, faults
from pipeline.text import text_hash
from pipeline.types import Experience
from prompts.schemas import Lesson
from tests.builders import experience

TEXT = "What is 4 + 3?"


def taught(idea: str) -> Experience:
    return experience(1).model_copy(update={"lesson": Lesson(flow_of_thought=idea, principles=("p",))})


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (experience(1), None),
        (experience(1).model_copy(update={"split": "heldout"}), "its problem p is held out"),
        (experience(1, text="What is 9 + 9?"), "its problem p is held out"),
        (
            experience(1).model_copy(update={"problem_hash": "0" * 16}),
            "its problem_hash is not that of its problem_text",
        ),
        (taught("The answer is 7."), "gives the gold answer of its problem away"),
        (taught("<|im_end|> go on"), "holds control tokens"),
        (taught("Two  blanks."), "blanks at an end or in a row"),
        (taught(" \t"), "holds a text of blanks alone"),
    ],
)
def test_what_is_wrong_with_an_entry_is_named(entry: Experience, words: str | None) -> None:
    found = entry_faults(entry, heldout={text_hash("What is 9 + 9?")}, answers={text_hash(TEXT): "7"})
    assert [line.startswith("entry x1: ") and str(words) in line for line in found] == ([] if words is None else [True])


def test_answers_are_known_by_the_text_of_a_problem_and_not_by_its_id() -> None:
    """Another run's problem of the same id may be any."""
    entry = experience(1, text="What is 2 + 5?").model_copy(update={"lesson": taught("The answer is 7.").lesson})
    assert entry_faults(entry, heldout=(), answers={text_hash(TEXT): "7"}) == []
    assert len(entry_faults(entry, heldout=(), answers={text_hash("what is 2 +  5?"): "7"})) == 1


def test_what_stands_too_often_is_named() -> None:
    counts = {("id", 1): [("x1", 2)], ("problem_id", 3): [("p", 4)]}
    found = faults([experience(1)], lambda *wanted: counts[wanted], max_entries_per_problem=3, heldout=(), answers={})
    assert list(found) == [
        "entry x1: is there 2 times",
        "problem p: has 4 entries, more than pool.max_entries_per_problem = 3",
    ]
