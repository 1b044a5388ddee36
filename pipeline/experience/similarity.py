"""Measures of similarity in [0, 1] between problem texts (method.md: γ).

Ours: the paper has a language model judge relevance (`judge`); the others cost less, and `docs/retrieval.md` compares
them. A measure sees texts only. Values that an endpoint computed are cached, up to a bound."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import cache, lru_cache
from typing import Annotated, Any, TypeVar

from cachetools import LRUCache
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from rapidfuzz import fuzz

from pipeline.config import Config
from pipeline.experience.pool import Candidate, Pool
from pipeline.inference.chat_client import ChatClient, EmbeddingClient
from pipeline.inference.structured_output import THINKING_TOKENS, parse_json_reply
from pipeline.text import normalised, text_hash, words
from pipeline.types import Message
from prompts.render import render_question
from prompts.schemas import Relevance

K = TypeVar("K")
V = TypeVar("V")
# Lance's BM25.
K1, B = 1.2, 0.75
# Statistics of terms are counted anew when the pool has grown by this share.
REFRESH_AT_GROWTH = 1.1
NUM_REMEMBERED = 20_000
BEST_RELEVANCE = 10
# The same entries are candidates again and again.
_normalised = lru_cache(NUM_REMEMBERED)(normalised)

Measure = Callable[[str, Sequence[Candidate]], Awaitable[list[float]]]
"""Similarities of a text to each candidate's problem, in [0, 1]. Raises EndpointError where it needs an endpoint."""


async def lexical(text: str, candidates: Sequence[Candidate]) -> list[float]:
    """rapidfuzz's ratio of the normalised texts."""
    own = _normalised(text)
    return [fuzz.ratio(own, _normalised(candidate.problem_text)) / 100.0 for candidate in candidates]


class NormalisedBm25:
    """BM25 of the stored text ÷ BM25 of the query's own text, as if it were stored: 1 for the same bag of words."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._num_counted = 0
        self._num_words = 0
        self._frequency: Counter[str] = Counter()

    async def __call__(self, text: str, candidates: Sequence[Candidate]) -> list[float]:
        if not candidates:
            return []
        await asyncio.to_thread(self._refresh)
        own = self._own_score(text)
        return [min(1.0, candidate.bm25 / own) if own > 0 else 0.0 for candidate in candidates]

    def _refresh(self) -> None:
        if self._pool.num_entries() <= self._num_counted * REFRESH_AT_GROWTH:
            return
        frequency: Counter[str] = Counter()
        num_texts = num_words = 0
        for _, text in self._pool.problem_texts():
            counted = words(text)
            num_texts += 1
            num_words += len(counted)
            frequency.update(set(counted))
        self._frequency, self._num_words, self._num_counted = frequency, num_words, num_texts

    def _own_score(self, text: str) -> float:
        counts = Counter(words(text))
        relative_length = counts.total() * self._num_counted / max(self._num_words, 1)
        return sum(
            self._idf(word) * times * (K1 + 1) / (times + K1 * (1 - B + B * relative_length)) * times
            for word, times in counts.items()
        )

    def _idf(self, word: str) -> float:
        holding = self._frequency[word]
        return math.log(1 + (self._num_counted - holding + 0.5) / (holding + 0.5))


class Embedding:
    """Cosine of sentence embeddings from any `/v1/embeddings` endpoint, negative ones as 0."""

    def __init__(self, endpoints: EmbeddingClient) -> None:
        self._endpoints = endpoints
        self._vectors: LRUCache[str, Any] = LRUCache(NUM_REMEMBERED)

    async def __call__(self, text: str, candidates: Sequence[Candidate]) -> list[float]:
        if not candidates:
            return []
        texts = [text, *(candidate.problem_text for candidate in candidates)]
        query, *others = await _remembered(self._vectors, texts, self._embedded)
        return [max(0.0, min(1.0, float(query @ other))) for other in others]

    async def _embedded(self, texts: list[str]) -> list[Any]:
        import numpy as np

        vectors = [np.asarray(vector, dtype=np.float32) for vector in await self._endpoints.embed(texts)]
        return [vector / np.linalg.norm(vector) for vector in vectors]


class JudgeSimilarity:
    """Relevance of each candidate as a language model judges it, all of a problem's in one request (the paper's kind).

    A reply that is no list of as many grades from 0 to 10 is a failure of that request: nothing that it was about is
    relevant then, and the same request is made again the next time."""

    def __init__(self, endpoints: ChatClient) -> None:
        self._endpoints = endpoints
        self._grades: LRUCache[tuple[str, str], float] = LRUCache(NUM_REMEMBERED)
        self.num_malformed = 0

    async def __call__(self, text: str, candidates: Sequence[Candidate]) -> list[float]:
        own_hash = text_hash(text)
        texts = {candidate.problem_hash: candidate.problem_text for candidate in candidates}

        async def graded(pairs: list[tuple[str, str]]) -> list[float]:
            return await self._graded(text, [texts[other] for _, other in pairs])

        pairs = [(own_hash, candidate.problem_hash) for candidate in candidates]
        try:
            return await _remembered(self._grades, pairs, graded)
        except ValidationError:
            self.num_malformed += 1
            return [self._grades.get(pair, 0.0) for pair in pairs]

    async def _graded(self, text: str, others: list[str]) -> list[float]:
        """Raises ValidationError for a reply that cannot be used."""
        kind = _grades_of(len(others))
        reply = await self._endpoints.chat(
            (Message(role="user", content=render_question(Relevance(problem=text, others=tuple(others)))),),
            max_tokens=THINKING_TOKENS + 8 * len(others),
            temperature=0.0,
            stage="judge",
            schema=kind.model_json_schema(),
        )
        return [grade / BEST_RELEVANCE for grade in parse_json_reply(kind, reply.text).grades]


Grade = Annotated[int, Field(ge=0, le=BEST_RELEVANCE)]


class _Grades(BaseModel):
    model_config = ConfigDict(extra="forbid")
    grades: list[Grade]


@cache
def _grades_of(num: int) -> type[_Grades]:
    """The reply of `num` grades: a list that is shorter or longer says nothing of which grade is whose."""
    return create_model(
        "Grades", __base__=_Grades, grades=(Annotated[list[Grade], Field(min_length=num, max_length=num)], ...)
    )


async def _remembered(
    cache: LRUCache[K, V], keys: Sequence[K], compute: Callable[[list[K]], Awaitable[list[V]]]
) -> list[V]:
    """The value of each key; those that are not in the cache are computed together."""
    values = {key: cache[key] for key in keys if key in cache}
    if missing := list(dict.fromkeys(key for key in keys if key not in values)):
        computed = dict(zip(missing, await compute(missing), strict=True))
        cache.update(computed)
        values |= computed
    return [values[key] for key in keys]


def measure_of(config: Config, pool: Pool, endpoints: EmbeddingClient | None) -> Measure:
    """The measure that `feedback.similarity` names; `endpoints` are those of `feedback.similarity_endpoint`, else the
    policy's, and None where the measure asks none."""
    match config.feedback.similarity:
        case "lexical":
            return lexical
        case "bm25":
            return NormalisedBm25(pool)
        case name:
            assert endpoints is not None, f"feedback.similarity = '{name}' asks an endpoint"
            return Embedding(endpoints) if name == "embedding" else JudgeSimilarity(endpoints)
