"""Which replies become lessons, and which trajectories are asked about."""

from __future__ import annotations

import json

import pytest

from pipeline.abstraction import Rejection, check_reply, choose_rollouts
from pipeline.records import Label
from prompts.schemas import Lesson
from tests.builders import group, rollout

GOOD = {"flow_of_thought": "Go term by term.", "principles": ["Watch each sign."], "pitfalls": ["Losing a minus sign."]}


def checked(reply: object, answer: str = "-7", finish_reason: str = "stop") -> Lesson | Rejection:
    text = reply if isinstance(reply, str) else json.dumps(reply)
    return check_reply(text, finish_reason, "r", Label(problem_id="p", answer=answer))


def test_a_lesson_is_accepted_as_it_was_written() -> None:
    lesson = checked(GOOD)
    assert isinstance(lesson, Lesson)
    assert lesson.principles == ("Watch each sign.",)


@pytest.mark.parametrize(
    ("reply", "answer", "finish_reason", "reason"),
    [
        ('{"flow_of_thought": "Go', "7", "length", "cut"),
        ("Here is a lesson.", "7", "stop", "malformed"),
        ({**GOOD, "principles": []}, "7", "stop", "malformed"),
        ({**GOOD, "reward": 1.0}, "7", "stop", "malformed"),
        ({**GOOD, "flow_of_thought": "x" * 500}, "7", "stop", "malformed"),
        ({**GOOD, "principles": ["The answer is -7."]}, "-7", "stop", "gives_answer"),
        ({**GOOD, "flow_of_thought": "Box it: \\boxed{-7}"}, "-7", "stop", "gives_answer"),
        ({**GOOD, "pitfalls": ["Do not forget 1234 here."]}, "1234", "stop", "gives_answer"),
    ],
)
def test_a_reply_is_rejected_with_its_reason(reply: object, answer: str, finish_reason: str, reason: str) -> None:
    outcome = checked(reply, answer, finish_reason)
    assert isinstance(outcome, Rejection)
    assert outcome.reason == reason


def test_one_finished_rollout_of_as_many_groups_as_asked_the_same_for_the_same_seed() -> None:
    groups = [group(slot=slot) for slot in range(8)]
    chosen = choose_rollouts(groups, 3, seed=1)
    assert chosen == choose_rollouts(groups, 3, seed=1)
    assert len({owner.id for owner, _ in chosen}) == 3
    assert all(picked in owner.rollouts for owner, picked in chosen)


def test_rollouts_that_were_cut_short_are_not_summarised() -> None:
    cut = group().model_copy(update={"rollouts": (rollout().model_copy(update={"finish_reason": "length"}),)})
    assert choose_rollouts([cut], 4, seed=1) == []
