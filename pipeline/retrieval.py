"""Lessons for a problem: candidates from the pool, their similarities, and the context that the policy makes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pipeline.config import Config, FeedbackSection
from pipeline.contexts import Ranking, admissible, inter_context
from pipeline.endpoints import EndpointPool
from pipeline.pool import Pool
from pipeline.records import Context, Problem
from pipeline.similarity import Measure, measure_of


class Retriever:
    """`usefulness` is the mean reward of the rollouts that saw an entry, asked only where the settings weigh it."""

    def __init__(
        self,
        pool: Pool,
        measure: Measure,
        settings: FeedbackSection,
        usefulness: Callable[[str], float | None] = lambda entry_id: None,
    ) -> None:
        self._pool = pool
        self._measure = measure
        self._settings = settings
        self._usefulness = usefulness

    async def context(self, problem: Problem, step: int = 0) -> Context:
        """An inter context for `problem`, scratch where nothing is admissible. Raises EndpointError (of the measure)."""
        candidates = await asyncio.to_thread(self._pool.search, problem.text, self._settings.num_candidates)
        # What may not be shown is not worth an endpoint's time.
        asked = [candidate for candidate in candidates if admissible(problem, candidate)]
        found = dict(zip((candidate.id for candidate in asked), await self._measure(problem.text, asked), strict=True))
        similarities = [found.get(candidate.id, 0.0) for candidate in candidates]
        return inter_context(problem, Ranking(candidates, similarities, step, self._usefulness), self._settings)


def retriever_of(
    config: Config,
    pool: Pool,
    endpoints: EndpointPool,
    usefulness: Callable[[str], float | None] = lambda entry_id: None,
) -> Retriever:
    """As `config` wants it; `endpoints` are those of `feedback.similarity_endpoint`, else the policy's."""
    return Retriever(pool, measure_of(config, pool, endpoints), config.feedback, usefulness)
