"""Controls: what they hold in place, and what they take away."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Config
from pipeline.probe.grounds import Operators
from pipeline.probe.lessons import FILLERS, Taught, content_free, rule_lesson
from pipeline.problems.operator_rules import NUM_WORDINGS, RULES
from pipeline.problems.operators import OperatorParams, practice_operator
from prompts.schemas import Lesson

RULE_WORDS = {word for rule in RULES for w in range(NUM_WORDINGS) for word in re.findall(r"\w+", rule.words(w))}


@pytest.mark.parametrize("wording", range(NUM_WORDINGS))
def test_content_free_text_is_as_long_and_says_nothing_of_the_rule(wording: int) -> None:
    for rule in RULES:
        lesson = rule_lesson("dax", rule, wording, "What is 7 dax 3?")
        free = content_free(lesson, keep=("dax",))
        assert [len(text) for text in free.lesson.principles] == [len(text) for text in lesson.lesson.principles]
        assert len(free.lesson.flow_of_thought) == len(lesson.lesson.flow_of_thought)
        words = re.findall(r"\w+", free.lesson.principles[0])
        assert len(words) == len(re.findall(r"\w+", lesson.lesson.principles[0]))
        assert "dax" in words and free.source == lesson.source
        # Words such as "you" and "it" are of the language, not of a rule.
        assert not set(words) & (RULE_WORDS - {"as", "it"})


def test_fillers_have_the_length_that_they_stand_for() -> None:
    assert all(len(word) == length for length, words in FILLERS.items() for word in words)


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=80)


@given(flow=texts, principle=texts)
def test_content_free_text_of_any_lesson_is_as_long(flow: str, principle: str) -> None:
    free = content_free(Taught(Lesson(flow_of_thought=flow, principles=(principle,)), ""))
    assert len(free.lesson.flow_of_thought) == len(flow)
    assert len(free.lesson.principles[0]) == len(principle)
    assert not re.search(r"\d", free.lesson.principles[0])


def test_no_problem_or_lesson_of_the_probe_is_of_practice() -> None:
    import random

    operators = Operators(Config(), 64)
    names = {operators.operator(task).name for task in operators.tasks}
    rng = random.Random(0)
    assert not names & {practice_operator(OperatorParams(), rng).name for _ in range(2000)}
    for number, task in enumerate(operators.tasks):
        assert task.problem.split == "heldout"
        irrelevant = operators.irrelevant(task).lesson.principles[0]
        assert operators.operator(task).name not in irrelevant.split()[1]
        assert operators.numbers(operators.twin(task)) != operators.numbers(task)
        stated = operators.stated_one(task, number)
        assert stated.problem.text.startswith(task.problem.text) and stated.label.answer != ""
        rule = stated.label.entry["metadata"]["rule"]
        contrary = operators.contradicting(stated).lesson.principles[0]
        assert not any(one.words(w) in contrary for one in RULES if one.name == rule for w in range(NUM_WORDINGS))
