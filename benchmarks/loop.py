"""The scheduler with its real parts and no learner, for benchmarks: weights are always fresh enough, nothing is trained."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import aiohttp

from pipeline.abstraction import Abstractor
from pipeline.config import Config
from pipeline.endpoints import EndpointPool
from pipeline.journal import Journal
from pipeline.learner_status import LearnerLink, LearnerStatus
from pipeline.metrics import MetricsWriter, StageClock
from pipeline.pool import Pool
from pipeline.problems import ProblemStream, load_problems
from pipeline.rewards import Verifier
from pipeline.rollouts import GroupSampler
from pipeline.run import Lineage
from pipeline.scheduler import Scheduler

VERSION = "l0-s000000"


class _ReadyLearner:
    async def wait_for_step(self, step: int, lineage: int) -> LearnerStatus:
        return LearnerStatus(state="waiting", step=step, version=VERSION)


async def accept_weights(pool: EndpointPool, max_model_len: int) -> None:
    """Label the only endpoint's weights as the run's first, and use its token routes."""
    (endpoint,) = pool.endpoints
    endpoint.has_token_route, endpoint.max_model_len = True, max_model_len
    async with aiohttp.ClientSession(endpoint.url) as session:
        await session.post("/update_weight_version", json={"new_version": VERSION})


def scheduler_in(folder: Path, config: Config, pool: EndpointPool, verifier: Verifier) -> tuple[Scheduler, Journal]:
    """A scheduler with its store and metrics in `folder`, and the journal that it writes."""
    journal, store, clock = Journal(folder), Pool(folder, config.pool.max_entries_per_problem), StageClock()
    problems = load_problems(config.problems, config.run.seed)
    tasks = {task.problem.id: task for task in problems.train}

    async def evaluate_never(step: int) -> None:
        return None

    scheduler = Scheduler(
        config=config,
        problems=ProblemStream(problems.train, config.run.seed),
        labels=tasks.__getitem__,
        sampler=GroupSampler(config, pool, verifier, journal, store, clock),
        abstractor=Abstractor(config, pool),
        journal=journal,
        pool=store,
        learner=cast("LearnerLink", _ReadyLearner()),
        metrics=MetricsWriter(folder / "metrics.jsonl", "orchestrator"),
        clock=clock,
        lineages=[Lineage(number=0, start_step=0)],
        evaluate=evaluate_never,
    )
    return scheduler, journal
