"""The three modes: what is asked, in which order, and what is kept of it."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.config import Config
from pipeline.errors import FinalEndpointError
from pipeline.evaluation.modes import Inference, Searched, ShownLessons
from pipeline.experience import contexts
from pipeline.inference.protocol import Reply
from pipeline.types import Message, Problem
from tests.builders import candidates

PROBLEM = Problem(id="p", text="What is 4 + 3?", split="heldout")


class Endpoint:
    """Answers in turn, and refuses prompts that are longer than it takes."""

    def __init__(self, *texts: str, most_chars: int = 10_000) -> None:
        self.asked: list[tuple[Message, ...]] = []
        self._texts = list(texts)
        self._most_chars = most_chars

    async def __call__(self, messages: tuple[Message, ...], sample: int) -> Reply:
        if sum(len(message.content) for message in messages) > self._most_chars:
            raise FinalEndpointError("http_400", "HTTP 400: This model's maximum context length is 9 tokens")
        self.asked.append(messages)
        text = self._texts.pop(0)
        return Reply(text=text, finish_reason="stop", num_prompt_tokens=10, num_completion_tokens=len(text))


class Lessons:
    """A search that finds one lesson, for 50 tokens."""

    num_asked = 0

    async def __call__(self, problem: Problem) -> ShownLessons:
        self.num_asked += 1
        found = contexts.RetrievalResult(candidates(["What is 4 + 5?"])[0], 0.95)
        return ShownLessons(contexts.inter_context([found], Config().feedback), Searched("http://judge", 40, 10))


async def test_zero_shot_shows_the_problem_alone() -> None:
    endpoint = Endpoint("\\boxed{7}")
    inferred = await Inference(Config(), endpoint).infer(PROBLEM, "zero-shot")
    (turn,) = inferred.turns
    assert turn.text == "\\boxed{7}"
    assert turn.messages == endpoint.asked[0]
    assert turn.messages[-1].content.startswith("What is 4 + 3?\nSolve it step by step.")


async def test_retrieval_shows_lessons_and_keeps_the_trace() -> None:
    endpoint = Endpoint("\\boxed{7}")
    inferred = await Inference(Config(), endpoint, Lessons()).infer(PROBLEM, "retrieval")
    assert inferred.lesson_ids == ("x0",)
    assert inferred.search == Searched("http://judge", 40, 10)
    assert [(one.id, one.outcome) for one in inferred.considered] == [("x0", "shown")]
    assert "- Idea: idea 1" in endpoint.asked[0][-1].content


async def test_lessons_are_looked_for_once_for_all_samples() -> None:
    lessons = Lessons()
    inference = Inference(Config(), Endpoint(*["\\boxed{7}"] * 5), lessons)
    found = await asyncio.gather(*(inference.infer(PROBLEM, "retrieval", sample) for sample in range(5)))
    assert lessons.num_asked == 1
    assert {one.lesson_ids for one in found} == {("x0",)}


async def test_reflect_critiques_its_own_last_answer_each_round() -> None:
    endpoint = Endpoint("<think>hm</think>first: \\boxed{8}", "second: \\boxed{6}", "third: \\boxed{7}")
    config = Config.model_validate({"eval": {"num_rounds": 2}})
    inferred = await Inference(config, endpoint).infer(PROBLEM, "reflect")
    assert [turn.text.partition(":")[0] for turn in inferred.turns] == ["<think>hm</think>first", "second", "third"]
    assert "An earlier attempt, which may be right or wrong:\nfirst: \\boxed{8}\n" in endpoint.asked[1][-1].content
    assert "An earlier attempt, which may be right or wrong:\nsecond: \\boxed{6}\n" in endpoint.asked[2][-1].content


async def test_an_empty_answer_is_not_critiqued() -> None:
    endpoint = Endpoint("  ")
    assert len((await Inference(Config(), endpoint).infer(PROBLEM, "reflect")).turns) == 1


async def test_a_context_too_long_for_the_endpoint_is_cut() -> None:
    endpoint = Endpoint("x" * 1500 + "\\boxed{8}", "\\boxed{7}", most_chars=900)
    inferred = await Inference(Config(), endpoint).infer(PROBLEM, "reflect")
    assert inferred.num_trimmed == 2
    assert "…" in endpoint.asked[1][-1].content


async def test_a_prompt_that_cannot_be_cut_is_a_failure() -> None:
    with pytest.raises(FinalEndpointError, match="maximum context length"):
        await Inference(Config(), Endpoint("x", most_chars=20)).infer(PROBLEM, "zero-shot")
