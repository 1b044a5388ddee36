"""The scheduler with its real parts and no learner, for benchmarks: weights become fresh enough at once, nothing is
trained."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import aiohttp

from pipeline.config import Config
from pipeline.experience.abstraction import Abstractor
from pipeline.experience.pool import Pool
from pipeline.experience.retrieval import retriever_of
from pipeline.inference.client import InferenceClient
from pipeline.loop.learner_link import LearnerLink, LearnerStatus
from pipeline.loop.lessons import LessonStage
from pipeline.loop.rollouts import GroupSampler
from pipeline.loop.scheduler import Scheduler
from pipeline.loop.step_metrics import StepReporter
from pipeline.problems.dataset import ProblemStream, load_problems
from pipeline.rewards.verifier import Verifier
from pipeline.run.lineage import Lineage
from pipeline.run.metrics_log import MetricsWriter
from pipeline.runtime.stage_clock import StageClock
from pipeline.storage.journal import Journal
from pipeline.types import WeightVersion

# How far back a resume would go.
STEPS_KEPT = 10


class _ReadyLearner:
    """Relabels the weights of the only endpoint as soon as a step asks for newer ones."""

    def __init__(self, pool: InferenceClient) -> None:
        (self._endpoint,) = pool.endpoints
        self._step = 0

    async def wait_for_step(self, step: int, lineage: int) -> LearnerStatus:
        if step > self._step:
            self._step = step
            await _label(self._endpoint.url, _version(step))
        return LearnerStatus(state="waiting", step=step, version=_version(step))


def _version(step: int) -> str:
    return WeightVersion(lineage=0, step=step).label


async def _label(url: str, version: str) -> None:
    async with (
        aiohttp.ClientSession(url) as session,
        session.post("/update_weight_version", json={"new_version": version}) as response,
    ):
        response.raise_for_status()


async def accept_weights(pool: InferenceClient, max_model_len: int) -> None:
    """Label the only endpoint's weights as the run's first, and use its token routes."""
    (endpoint,) = pool.endpoints
    endpoint.has_token_route, endpoint.max_model_len = True, max_model_len
    await _label(endpoint.url, _version(0))


def scheduler_in(folder: Path, config: Config, pool: InferenceClient, verifier: Verifier) -> tuple[Scheduler, Journal]:
    """A scheduler with its store and metrics in `folder`, and the journal that it writes."""
    journal, store, clock = Journal(folder), Pool(folder, config.pool), StageClock()
    problems = load_problems(config.problems, config.run.seed)
    tasks = {task.problem.id: task for task in problems.train}

    async def evaluate_never(step: int) -> None:
        return None

    reporter = StepReporter(MetricsWriter(folder / "metrics.jsonl", "orchestrator"), clock)
    scheduler = Scheduler(
        config=config,
        problems=ProblemStream(problems.train, config.run.seed),
        sampler=GroupSampler(config, pool, verifier, journal, retriever_of(config, store, pool), clock),
        lessons=LessonStage(
            config,
            tasks.__getitem__,
            Abstractor(config, pool),
            store,
            reporter,
            oldest_checkpoint=lambda: scheduler.step - STEPS_KEPT,
        ),
        journal=journal,
        lineages=[Lineage(number=0, start_step=0)],
        learner=cast("LearnerLink", _ReadyLearner(pool)),
        evaluate=evaluate_never,
        reporter=reporter,
    )
    return scheduler, journal
