"""Retrieves lessons for a problem: candidates from the pool, their similarities, and the context that the policy makes
of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from pipeline.config import Config
from pipeline.config.experience import FeedbackSection
from pipeline.experience.contexts import RetrievalResult, Weighing, exclusions, inter_context
from pipeline.experience.pool import MAX_FOUND, Candidate, Pool
from pipeline.experience.similarity import Measure, measure_of
from pipeline.inference.chat_client import EmbeddingClient
from pipeline.problems.duplicates import NearDuplicates
from pipeline.text import text_hash
from pipeline.types import Context, Problem, SearchOutcome, Task


class Retriever:
    """`usefulness` is the mean reward of the rollouts that saw an entry, asked only where the settings weigh it;
    `near` tells near-duplicates, whose lessons are not shown."""

    def __init__(
        self,
        pool: Pool,
        measure: Measure,
        settings: FeedbackSection,
        usefulness: Callable[[str], float | None] = lambda entry_id: None,
        near: NearDuplicates | None = None,
    ) -> None:
        self._near = near or NearDuplicates()
        self._pool = pool
        self._measure = measure
        self._settings = settings
        self._usefulness = usefulness

    async def context(self, problem: Problem, step: int = 0) -> Context:
        """An inter context for `problem`, scratch where nothing is admissible. Raises EndpointError (of the
        measure)."""
        return inter_context(await self.found(problem), self._settings, Weighing(step, self._usefulness))

    async def found(self, problem: Problem) -> list[RetrievalResult]:
        """The candidates for `problem` as BM25 ranks them, each with its similarity or why it may not be shown. Raises
        EndpointError (of the measure)."""
        text = problem.query_text
        candidates, excluded = await asyncio.to_thread(self._candidates, problem, text)
        # What may not be shown is not worth an endpoint's time.
        asked = [candidate for candidate, reason in zip(candidates, excluded, strict=True) if reason is None]
        similarities = iter(await self._measure(text, asked))
        return [
            RetrievalResult(candidate, next(similarities))
            if reason is None
            else RetrievalResult(candidate, excluded=reason)
            for candidate, reason in zip(candidates, excluded, strict=True)
        ]

    def _candidates(self, problem: Problem, text: str) -> tuple[list[Candidate], list[SearchOutcome | None]]:
        """The best `num_candidates` that may be shown, and those on the way to them that may not, with the reason.
        Blocks.

        The problem's own entries rank first, and as many may be of one twin: what is left out is asked for again."""
        settings = self._settings
        num_wanted, own_hash = settings.num_candidates, text_hash(text)
        own_keys = self._near.keys(own_hash, text)

        def is_near(candidate: Candidate) -> bool:
            return not own_keys.isdisjoint(self._near.keys(candidate.problem_hash, candidate.problem_text))

        num_asked = min(num_wanted + self._pool.num_of_problem(problem.id), MAX_FOUND)
        while True:
            found = self._pool.search(text, num_asked)
            excluded = exclusions(problem.id, own_hash, found, settings.num_candidates_per_problem, is_near)
            admissible = [place for place, reason in enumerate(excluded, start=1) if reason is None]
            if len(admissible) >= num_wanted or len(found) < num_asked or num_asked == MAX_FOUND:
                break
            num_asked = min(4 * num_asked, MAX_FOUND)
        end = admissible[num_wanted - 1] if len(admissible) >= num_wanted else len(found)
        return found[:end], excluded[:end]


def retriever_of(
    config: Config,
    pool: Pool,
    endpoints: EmbeddingClient | None,
    usefulness: Callable[[str], float | None] = lambda entry_id: None,
    tasks: Iterable[Task] = (),
) -> Retriever:
    """As `config` wants it; `endpoints` are those of `feedback.similarity_endpoint`, else the policy's, and None where
    the measure asks none. Of `tasks` the gold answers are known, by which some near-duplicates are told."""
    measure = measure_of(config, pool, endpoints)
    return Retriever(pool, measure, config.feedback, usefulness, NearDuplicates(tasks))
