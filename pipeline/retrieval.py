"""Lessons for a problem: candidates from the pool, their similarities, and the context that the policy makes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pipeline.config import Config, FeedbackSection
from pipeline.contexts import Found, Weighing, exclusions, inter_context
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
        excluded = exclusions(problem, candidates)
        # What may not be shown is not worth an endpoint's time.
        asked = [candidate for candidate, reason in zip(candidates, excluded, strict=True) if reason is None]
        similarities = iter(await self._measure(problem.text, asked))
        found = [
            Found(candidate, next(similarities)) if reason is None else Found(candidate, excluded=reason)
            for candidate, reason in zip(candidates, excluded, strict=True)
        ]
        return inter_context(found, self._settings, Weighing(step, self._usefulness))


def retriever_of(
    config: Config,
    pool: Pool,
    endpoints: EndpointPool,
    usefulness: Callable[[str], float | None] = lambda entry_id: None,
) -> Retriever:
    """As `config` wants it; `endpoints` are those of `feedback.similarity_endpoint`, else the policy's."""
    return Retriever(pool, measure_of(config, pool, endpoints), config.feedback, usefulness)
