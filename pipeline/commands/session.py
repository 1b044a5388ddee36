"""One session of a run, wired: model, servers, endpoints and their helpers, store, learner, loop. What it does:
`stages`."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from pipeline.commands.stages import LEARNER_GRACE_S, Stages, begin_lineage
from pipeline.config import Config
from pipeline.config.endpoints import EndpointSettings
from pipeline.errors import EndpointError
from pipeline.experience.abstraction import Abstractor
from pipeline.experience.pool import Pool
from pipeline.experience.pool_snapshots import rollback
from pipeline.experience.retrieval import retriever_of
from pipeline.experience.usefulness import usefulness_in
from pipeline.experience.wording import checked, keep
from pipeline.inference.capabilities import check_adapters, check_embeddings, check_endpoint, take_label
from pipeline.inference.client import InferenceClient, client_of
from pipeline.inference.endpoint import Endpoint
from pipeline.inference.local_servers import Serving, resolve_model, spare_gpu
from pipeline.loop.learner_link import LearnerLink
from pipeline.loop.lessons import LessonStage
from pipeline.loop.reward_watch import RewardWatch
from pipeline.loop.rollouts import GroupSampler
from pipeline.loop.scheduler import Scheduler
from pipeline.loop.step_metrics import StepReporter
from pipeline.observability.http_server import OperationsServer
from pipeline.observability.live_view import View
from pipeline.observability.secrets import secrets_of
from pipeline.observability.snapshot import RunSources
from pipeline.observability.summary import render_summary
from pipeline.preflight.settled import settled
from pipeline.problems.dataset import ProblemSet, ProblemStream, load_problems
from pipeline.rewards.judge.verifier import verifier_of
from pipeline.rewards.verifier import Verifier
from pipeline.rewards.version import reward_version
from pipeline.run import checkpoints
from pipeline.run.folder import RunFolder
from pipeline.run.metrics_log import MetricsWriter
from pipeline.run.state import RunState
from pipeline.runtime.child_process import Child
from pipeline.runtime.files import write_atomic
from pipeline.runtime.redaction import redact
from pipeline.runtime.stage_clock import StageClock
from pipeline.runtime.watchdog import StuckAlerts, Watchdog
from pipeline.storage.claim import check_claim
from pipeline.storage.journal import Journal
from pipeline.types import WeightVersion
from pipeline.weights.lora import adapted_layers
from pipeline.weights.publishing import REFERENCE, latest, path_of
from pipeline.weights.sync import resume_if_paused, sync_server, write_servers


class Session:
    """The parts of one session, wired once."""

    def __init__(self, run: RunFolder, config: Config, view: View) -> None:
        self.run = run
        self.config = config
        self.view = view
        self.state = RunState(run)
        self.metrics = MetricsWriter(run.metrics_file, "orchestrator")
        self.clock = StageClock()
        self.watchdog = Watchdog(StuckAlerts(self._alert), config.operations.stuck_after_s)
        self.secrets = secrets_of(config)
        self.sources = RunSources(clock=lambda: self.clock, watchdog=self.watchdog)

    def _alert(self, message: str) -> None:
        self.metrics.write("alert", 0, message=redact(message, self.secrets))

    def _warn(self, message: str) -> None:
        self.view.warn(redact(message, self.secrets))

    async def work(self, resumed: bool) -> None:
        """The whole session, from the model to the summary."""
        config, run = self.config, self.run
        self.state.values["sessions"] += 1
        model = await resolve_model(config, run, self.view.log)
        if config.learner.transfer == "lora":
            adapted_layers(config, model)
        with self.clock.stage("problems"):
            packages = config.reward.code.packages
            problems = await asyncio.to_thread(load_problems, config.problems, config.run.seed, packages)
        if not config.endpoints:
            config = await self._settle(model, problems)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(
                OperationsServer(config.operations.port, self.sources, secrets=self.secrets)
            )
            with self.clock.stage("server_start"):
                serving = await stack.enter_async_context(Serving(config, run, model, self.view.log))
            endpoints = await self._policy(stack, serving)
            verifier = await self._verifier(stack)
            self._note_rewards()
            await self._check_policy(endpoints, resumed)
            if config.endpoints:
                config = await self._settle(model, problems, endpoints.max_model_len)
            summarizer = await self._helper(stack, "summarizer", config.abstraction.endpoint) or endpoints
            embeds, measured_by = config.feedback.similarity == "embedding", config.feedback.similarity_endpoint
            similarity = await self._helper(stack, "similarity", measured_by, embeds=embeds) or endpoints
            write_servers(run, [endpoint.address for endpoint in endpoints.endpoints])
            stages = self.stages(problems, endpoints, verifier)
            if not self._is_begun:
                await stages.seed(model)
            await stages.evaluate_start()
            await self._train(stages, serving, summarizer, similarity, resumed)
        for line in render_summary(run, self.state.values):
            self.view.log(line)

    @property
    def _is_begun(self) -> bool:
        """Whether the model that training begins with is there already."""
        return path_of(self.run, REFERENCE).exists()

    async def _settle(self, model: Path, problems: ProblemSet, served: int | None = None) -> Config:
        """The configuration with what it left open settled, which is logged and stored: learner and servers read it."""
        found = await asyncio.to_thread(settled, self.config, model, problems.train, served, is_begun=self._is_begun)
        if found.config != self.config:
            for line in found.lines:
                self.view.log(line)
            self.config = found.config
            write_atomic(self.run.config_file, self.config.model_dump_json(indent=2))
        keep(self.run, checked(self.config))
        return self.config

    def _note_rewards(self) -> None:
        """Keep which scorers give the rewards, and tell when they are others than before."""
        before, now = self.state.values.get("reward_version"), reward_version(self.config.reward)
        if before not in (None, now):
            self.view.log(f"rewards are of version {now} from here on, of {before} before: a scorer's code changed")
        self.state.values["reward_version"] = now
        self.state.save()

    def stages(self, problems: ProblemSet, endpoints: InferenceClient, verifier: Verifier) -> Stages:
        return Stages(
            self.run, self.config, problems, endpoints, verifier, self.state, self.metrics, self.clock, self.view,
            clients=self.sources.pools,
        )  # fmt: skip

    async def _policy(self, stack: AsyncExitStack, serving: Serving) -> InferenceClient:
        """The client over the servers of the policy, which have to have the run's weights."""

        async def repair(endpoint: Endpoint) -> None:
            """Bring a server that came back to the newest published version, before it gets requests again."""
            await sync_server(self.run, endpoint.address, latest(self.run) or WeightVersion(lineage=0, step=0))

        endpoints = await stack.enter_async_context(
            client_of(
                self.config,
                serving.endpoints,
                repair=repair,
                has_weights=lambda: latest(self.run) is not None,
                adapters=self.config.learner.transfer == "lora",
                watchdog=self.watchdog,
                on_trouble=self._warn,
            )
        )
        self.sources.pools["policy"] = endpoints
        return endpoints

    async def _check_policy(self, endpoints: InferenceClient, resumed: bool) -> None:
        """Raises EndpointSetupError for an endpoint that cannot train this run."""
        config = self.config
        for endpoint in endpoints.endpoints:
            if resumed:
                await resume_if_paused(self.run, endpoint.address)
            await check_endpoint(endpoints, endpoint, training=True, temperature=config.rollout.sampling.temperature)
            if config.endpoints:
                await take_label(self.run, endpoint)
            if config.learner.transfer == "lora" and config.endpoints:
                await check_adapters(endpoints, endpoint, config, self.run.path)

    async def _verifier(self, stack: AsyncExitStack) -> Verifier:
        """What gives the rewards; judges among it keep what they say in the run folder."""
        verifier = await stack.enter_async_context(
            verifier_of(
                self.config, self.run.judgements_file, clock=self.clock, watchdog=self.watchdog, on_trouble=self._warn
            )
        )
        self.sources.pools |= verifier.clients
        return verifier

    async def _helper(
        self, stack: AsyncExitStack, name: str, endpoint: EndpointSettings | None, *, embeds: bool = False
    ) -> InferenceClient | None:
        """A client over one endpoint beside the policy's, checked; None where there is none."""
        if endpoint is None:
            return None
        client = await stack.enter_async_context(
            client_of(self.config, (endpoint,), watchdog=self.watchdog, on_trouble=self._warn)
        )
        self.sources.pools[name] = client
        if embeds:
            await check_embeddings(client, client.endpoints[0])
        else:
            await check_endpoint(client, client.endpoints[0], training=False)
        return client

    async def _train(
        self, stages: Stages, serving: Serving, summarizer: InferenceClient, similarity: InferenceClient, resumed: bool
    ) -> None:
        """Start the learner, run the loop beside it, evaluate the end, close the learner.

        `summarizer` and `similarity` may be the policy's own client."""
        first_step = await begin_lineage(self.run, self.view) if resumed else 0
        await asyncio.to_thread(check_claim, self.run)
        journal = await asyncio.to_thread(Journal, self.run.store)
        usefulness = await asyncio.to_thread(usefulness_in, journal, self.run.lineages())
        # With S = 0 a resumed run equals an unbroken one.
        ordered = self.config.rollout.max_staleness == 0
        pool = await asyncio.to_thread(Pool, self.run.store, self.config.pool, uses=usefulness.of, ordered=ordered)
        pool.set_heldout(stages.problems.heldout_keys)
        if resumed:
            await asyncio.to_thread(rollback, pool, first_step)
        reporter = StepReporter(self.metrics, self.clock, RewardWatch(self.config, self._alert))
        retriever = retriever_of(
            self.config,
            pool,
            similarity,
            lambda entry_id: usefulness.of(entry_id).mean_reward,
            stages.problems.train if self.config.retrieves else (),
        )
        lessons = LessonStage(
            self.config,
            {task.problem.id: task for task in stages.problems.train}.__getitem__,
            Abstractor(self.config, summarizer),
            pool,
            reporter,
            usefulness=usefulness,
            oldest_checkpoint=lambda: checkpoints.oldest_whole(self.run) or 0,
            watchdog=self.watchdog,
        )
        child = await self._start_learner()
        learner = LearnerLink(self.run, child)
        self.sources.learner = learner.status

        async def evaluate_if_due(step: int) -> None:
            try:
                await stages.evaluate_if_due(step, learner)
            except EndpointError as error:
                self._alert(f"the evaluation at step {step} was given up: {error}")

        try:
            self.sources.scheduler = scheduler = Scheduler(
                self.config,
                ProblemStream(stages.problems.train, self.config.run.seed),
                GroupSampler(self.config, stages.endpoints, stages.verifier, journal, retriever, self.clock),
                lessons,
                journal,
                self.run.lineages(),
                learner,
                evaluate_if_due,
                reporter,
                self.watchdog,
            )
            await stages.train(scheduler, pool, learner, serving, first_step)
            child.close_stdin()
            async with asyncio.timeout(LEARNER_GRACE_S):
                await child.wait()
        finally:
            stages.keep_costs()
            self.sources.learner = None
            await child.stop(LEARNER_GRACE_S)

    async def _start_learner(self) -> Child:
        log = self.run.logs / "learner.log"
        self.view.log(f"starting the learner (log: {log})")
        command = [sys.executable, "-m", "trainer.learner", "--run", str(self.run.path)]
        # Of an earlier learner, whose process number this one may get after a restart of the machine or container.
        self.run.learner_file.unlink(missing_ok=True)
        env = spare_gpu(self.config) if self.config.learner.num_processes == 1 else {}
        return await Child.start("learner", command, log, env=env, stdin=True)
