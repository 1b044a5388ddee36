"""The loop of the orchestrator against mock endpoints, wired as in a session, with a real store and real verifiers; a
stand-in for the learner's status file only says when weights are live."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from pipeline.config import Config
from pipeline.config.endpoints import EndpointSettings
from pipeline.experience.abstraction import Abstractor
from pipeline.experience.pool import Pool
from pipeline.experience.retrieval import retriever_of
from pipeline.inference.capabilities import check_endpoint
from pipeline.inference.client import InferenceClient, client_of
from pipeline.inference.health import Repair
from pipeline.loop.learner_link import LearnerLink
from pipeline.loop.lessons import LessonStage
from pipeline.loop.reward_watch import RewardWatch
from pipeline.loop.rollouts import GroupSampler
from pipeline.loop.scheduler import Scheduler
from pipeline.loop.step_metrics import StepReporter
from pipeline.problems.dataset import ProblemSet, ProblemStream, load_problems
from pipeline.rewards.judge.verifier import verifier_of
from pipeline.rewards.verifier import Verifier
from pipeline.run.folder import RunFolder
from pipeline.run.metrics_log import MetricsWriter
from pipeline.runtime.child_process import Child
from pipeline.runtime.files import write_atomic
from pipeline.runtime.stage_clock import StageClock
from pipeline.storage.journal import Journal
from pipeline.types import RolloutGroup
from pipeline.weights.publishing import publish
from pipeline.weights.sync import sync_server
from tests.builders import saving, version
from tests.integration.conftest import StartMock

SETTINGS: dict[str, Any] = {
    "problems": {"num_train": 40, "num_heldout": 16},
    "rollout": {"group_size": 4, "num_problems_per_step": 4, "sampling": {"seeded": True}},
    "learner": {"num_steps": 6},
    "eval": {"num_problems": 16},
    "abstraction": {"num_per_step": 4},
}


class LiveChild:
    """A learner process that lives: only `pid`, `check` and `log` are asked of it."""

    pid = os.getpid()
    log = Path("learner.log")

    def check(self) -> None:
        return None


def write_status(run: RunFolder, step: int, lineage: int = 0, **more: Any) -> None:
    status = {"state": "waiting", "step": step, "version": version(step, lineage).label, "pid": LiveChild.pid, **more}
    write_atomic(run.learner_file, json.dumps(status))


class Loop:
    """The wired parts of one session."""

    def __init__(
        self, run: RunFolder, config: Config, problems: ProblemSet, endpoints: InferenceClient, verifier: Verifier
    ) -> None:
        self.run, self.config, self.endpoints, self.verifier = run, config, endpoints, verifier
        self.problems = problems
        self.journal = Journal(run.store)
        self.pool = Pool(run.store, config.pool, ordered=config.rollout.max_staleness == 0)
        self.clock = StageClock()
        self.alerts: list[str] = []

    def scheduler(self, begun: Callable[[int], None] = lambda step: None, link: LearnerLink | None = None) -> Scheduler:
        tasks = {task.problem.id: task for task in self.problems.train}

        async def evaluate_never(step: int) -> None:
            begun(step)

        watch = RewardWatch(self.config, self.alerts.append)
        reporter = StepReporter(MetricsWriter(self.run.metrics_file, "orchestrator"), self.clock, watch)
        retriever = retriever_of(self.config, self.pool, self.endpoints)
        abstractor = Abstractor(self.config, self.endpoints)
        return Scheduler(
            config=self.config,
            problems=ProblemStream(self.problems.train, self.config.run.seed),
            sampler=GroupSampler(self.config, self.endpoints, self.verifier, self.journal, retriever, self.clock),
            lessons=LessonStage(self.config, tasks.__getitem__, abstractor, self.pool, reporter),
            journal=self.journal,
            lineages=self.run.lineages(),
            learner=link or LearnerLink(self.run, cast("Child", LiveChild())),
            evaluate=evaluate_never,
            reporter=reporter,
        )

    async def bring_servers_to(self, step: int, lineage: int = 0) -> None:
        """Publish and load a version, as the learner would, and say so."""
        publish(self.run, version(step, lineage), saving(b"x"))
        for endpoint in self.endpoints.endpoints:
            await sync_server(self.run, endpoint.address, version(step, lineage))
        write_status(self.run, step, lineage)

    def groups(self, num_steps: int) -> list[RolloutGroup]:
        return [group for step in range(num_steps) for group in self.journal.read_step(step, self.run.lineages())]


@asynccontextmanager
async def make_loop(tmp_path: Path, start_mock: StartMock, name: str = "r", **sections: Any) -> AsyncIterator[Loop]:
    values = {key: {**SETTINGS.get(key, {}), **sections.get(key, {})} for key in {*SETTINGS, *sections}}
    config = Config.model_validate({**values, "run": {"root": tmp_path, "name": name}})
    run = RunFolder.create(config)
    async with session(run, config, (await start_mock(accuracy=0.5),)) as loop:
        await loop.bring_servers_to(0)
        yield loop


@asynccontextmanager
async def session(
    run: RunFolder, config: Config, servers: tuple[EndpointSettings, ...], repair: Repair | None = None
) -> AsyncIterator[Loop]:
    """The parts of `run` over `servers`, wired as a training run wires them."""
    problems = load_problems(config.problems, config.run.seed)
    async with (
        client_of(config, servers, repair=repair) as endpoints,
        verifier_of(config, run.judgements_file) as verifier,
    ):
        for endpoint in endpoints.endpoints:
            await check_endpoint(endpoints, endpoint, training=True)
        yield Loop(run, config, problems, endpoints, verifier)
