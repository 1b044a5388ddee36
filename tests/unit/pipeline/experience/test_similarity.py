"""Measures of similarity, on a real pool where they need one and on canned endpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import MalformedReplyError
from pipeline.experience.pool import Pool
from pipeline.experience.similarity import Embedding, JudgeSimilarity, NormalisedBm25, lexical
from pipeline.inference import protocol
from pipeline.types import Problem
from tests.builders import candidates, experience

TEXTS = [
    "What is 4 + 3?",
    "How many legs have three spiders?",
    "Sort the words: pear, fig, apple",
    "What is the sum of four and three, and what is its square?",
]


async def test_lexical_similarity_is_one_for_the_same_text() -> None:
    same, other = await lexical("what is  4 + 3?", candidates(TEXTS[:2]))
    assert same == 1.0 > other


async def test_normalised_bm25_is_one_for_the_same_words_and_less_for_others(tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    pool.add([experience(number, problem_id=f"p{number}", text=text) for number, text in enumerate(TEXTS)])
    measure = NormalisedBm25(pool)
    for text in TEXTS:
        found = pool.search(text, 9)
        values = dict(zip((candidate.problem_text for candidate in found), await measure(text, found), strict=True))
        assert values.pop(text) == pytest.approx(1.0, abs=0.02)
        assert all(0.0 < value < 0.9 for value in values.values())
    assert await measure("anything", []) == []


class Canned:
    """Answers of an endpoint, and how often it was asked for what."""

    def __init__(self, *replies: str) -> None:
        self.replies = list(replies)
        self.asked: list[Any] = []

    async def embed(self, texts: list[str]) -> list[list[float]]:
        self.asked.append(texts)
        return [[float(len(text)), float(text.count("4")), 1.0] for text in texts]

    async def chat(self, messages: Any, **kwargs: Any) -> protocol.Reply:
        self.asked.append(messages[0].content)
        return protocol.Reply(text=self.replies.pop(0), finish_reason="stop")


async def test_embeddings_are_asked_for_once_a_text() -> None:
    canned = Canned()
    measure = Embedding(canned)
    first = await measure(TEXTS[0], candidates(TEXTS))
    assert first[0] == pytest.approx(1.0)
    assert all(0.0 <= value <= 1.0 for value in first)
    assert await measure(TEXTS[0], candidates(TEXTS)) == first
    assert canned.asked == [TEXTS], "the query's text is a stored one too"


async def test_a_judge_grades_all_in_one_request_and_is_not_asked_twice() -> None:
    canned = Canned(json.dumps({"grades": [10, 0, 3, 7]}))
    measure = JudgeSimilarity(canned)
    problem = Problem(id="q", text="What is 9 + 1?")
    assert await measure(problem.text, candidates(TEXTS)) == [1.0, 0.0, 0.3, 0.7]
    assert await measure(problem.text, candidates(TEXTS)) == [1.0, 0.0, 0.3, 0.7]
    assert len(canned.asked) == 1
    assert "2. How many legs have three spiders?" in canned.asked[0]


@pytest.mark.parametrize(
    "reply",
    [
        "no grades",
        '{"grades": [10, 0, 3]}',
        '{"grades": [85, 0, 3, 7]}',
        '{"grades": [-1, 0, 3, 7]}',
        '{"grades": [1, 2, 3, 4, 5]}',
    ],
)
async def test_grades_that_cannot_be_make_nothing_relevant_and_are_asked_for_again(reply: str) -> None:
    canned = Canned(reply, json.dumps({"grades": [10, 0, 3, 7]}))
    measure = JudgeSimilarity(canned)
    assert await measure(TEXTS[0], candidates(TEXTS)) == [0.0] * 4
    assert measure.num_malformed == 1
    assert await measure(TEXTS[0], candidates(TEXTS)) == [1.0, 0.0, 0.3, 0.7]
    assert await measure(TEXTS[0], candidates(TEXTS)) == [1.0, 0.0, 0.3, 0.7]
    assert (len(canned.asked), measure.num_malformed) == (2, 1)


async def test_what_was_graded_before_is_not_lost_by_a_reply_that_cannot_be_read() -> None:
    canned = Canned(json.dumps({"grades": [10, 2]}), "no grades")
    measure = JudgeSimilarity(canned)
    assert await measure(TEXTS[0], candidates(TEXTS[:2])) == [1.0, 0.2]
    assert await measure(TEXTS[0], candidates(TEXTS)) == [1.0, 0.2, 0.0, 0.0]


async def test_a_judge_that_thinks_aloud_and_fences_its_grades_is_understood() -> None:
    canned = Canned('<think>Both sums: {"grades": [9]}</think>Here:\n```json\n{"grades": [10, 2]}\n```')
    measure = JudgeSimilarity(canned)
    assert await measure("Another?", candidates(TEXTS[:2])) == [1.0, 0.2]


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        [{"index": 0, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": "AAAA"}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [0.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [float("nan")]}],
        [1, 2],
    ],
)
def test_embeddings_that_cannot_be_are_malformed(data: Any) -> None:
    with pytest.raises(MalformedReplyError):
        protocol.parse_embeddings({"data": data}, 2)


def test_embeddings_come_back_in_the_order_of_the_texts() -> None:
    data = [{"index": 1, "embedding": [2, 1]}, {"index": 0, "embedding": [1, 0]}]
    assert protocol.parse_embeddings({"data": data}, 2) == [[1.0, 0.0], [2.0, 1.0]]
