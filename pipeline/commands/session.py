"""One session of a run, top to bottom: model, servers, SFT seeding, learner, loop, evaluations, summary."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config import Config
from pipeline.config.endpoints import EndpointSettings
from pipeline.errors import EndpointError
from pipeline.evaluation.heldout import EvalReport, evaluate
from pipeline.experience.abstraction import Abstractor
from pipeline.experience.pool import Pool
from pipeline.experience.pool_snapshots import rollback
from pipeline.experience.retrieval import retriever_of
from pipeline.experience.usefulness import Usefulness, usefulness_in
from pipeline.inference.capabilities import check_adapters, check_embeddings, check_endpoint, take_label
from pipeline.inference.client import InferenceClient, client_of
from pipeline.inference.endpoint import Endpoint
from pipeline.inference.local_servers import Serving, resolve_model, spare_gpu
from pipeline.loop.learner_link import LearnerLink
from pipeline.loop.rollouts import GroupSampler
from pipeline.loop.scheduler import Scheduler
from pipeline.observability.http_server import OperationsServer
from pipeline.observability.live_view import View
from pipeline.observability.secrets import secrets_of
from pipeline.observability.snapshot import RunSources
from pipeline.observability.summary import render_summary
from pipeline.problems.dataset import ProblemSet, ProblemStream, load_problems
from pipeline.rewards.verifier import Verifier
from pipeline.run import checkpoints
from pipeline.run.folder import LEARNER_LOCK, RunFolder
from pipeline.run.metrics_log import MetricsWriter
from pipeline.runtime.alerts import StuckAlerts
from pipeline.runtime.child_process import PASSIVE_WAITING, Child
from pipeline.runtime.files import write_atomic
from pipeline.runtime.redaction import redact
from pipeline.runtime.stage_clock import StageClock
from pipeline.runtime.watchdog import Watchdog
from pipeline.sft.stage import DONE as SFT_REPORT
from pipeline.sft.stage import seeded_model
from pipeline.storage.claim import check_claim
from pipeline.storage.journal import Journal
from pipeline.types import WeightVersion
from pipeline.weights.lora import adapted_layers
from pipeline.weights.publishing import REFERENCE, latest, path_of, publish, write_version
from pipeline.weights.sync import load_unpublished, resume_if_paused, sync_server, write_servers

LEARNER_GRACE_S = 90.0
BASELINE, AFTER_SFT, AFTER_RL = "base model", "after SFT", "after RL"


class Helpers(NamedTuple):
    """Who does what the policy's endpoints need not do themselves."""

    summarizer: InferenceClient
    similarity: InferenceClient


class Session:
    """The parts of one session, wired once."""

    def __init__(self, run: RunFolder, config: Config, view: View) -> None:
        self.run = run
        self.config = config
        self.view = view
        self.metrics = MetricsWriter(run.metrics_file, "orchestrator")
        self.clock = StageClock()
        self.watchdog = Watchdog(StuckAlerts(self._alert), config.operations.stuck_after_s)
        self.secrets = secrets_of(config)
        self.sources = RunSources(clock=lambda: self.clock, watchdog=self.watchdog)
        self.state: dict[str, Any] = (
            json.loads(run.state_file.read_text(encoding="utf-8")) if run.state_file.exists() else {}
        )
        self.state.setdefault("evals", {})
        self.state.setdefault("sessions", 0)

    def _alert(self, message: str) -> None:
        self.metrics.write("alert", 0, message=redact(message, self.secrets))

    def save_state(self) -> None:
        write_atomic(self.run.state_file, json.dumps(self.state, indent=1))

    async def work(self, resumed: bool) -> None:
        config, view = self.config, self.view
        self.state["sessions"] += 1
        model = await resolve_model(config, self.run, view.log)
        adapters = config.learner.transfer == "lora"
        if adapters:
            adapted_layers(config, model)
        with self.clock.stage("problems"):
            problems = await asyncio.to_thread(load_problems, config.problems, config.run.seed)
        first_version = path_of(self.run, REFERENCE).exists()
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(
                OperationsServer(config.operations.port, self.sources, secrets=self.secrets)
            )
            with self.clock.stage("server_start"):
                serving = await stack.enter_async_context(Serving(config, self.run, model, view.log))
            endpoints = await stack.enter_async_context(
                client_of(
                    config,
                    serving.endpoints,
                    repair=self._repair,
                    has_weights=lambda: latest(self.run) is not None,
                    adapters=adapters,
                    watchdog=self.watchdog,
                )
            )
            self.sources.pools["policy"] = endpoints
            verifier = await stack.enter_async_context(Verifier(config.reward))
            for endpoint in endpoints.endpoints:
                if resumed:
                    await resume_if_paused(self.run, endpoint.address)
                await check_endpoint(
                    endpoints, endpoint, training=True, temperature=config.rollout.sampling.temperature
                )
                if config.endpoints:
                    await take_label(self.run, endpoint)
                if adapters and config.endpoints:
                    await check_adapters(endpoints, endpoint, config, self.run.path)
            helpers = Helpers(endpoints, endpoints)
            if config.abstraction.endpoint is not None:
                summarizer = await self._helper(stack, "summarizer", config.abstraction.endpoint)
                await check_endpoint(summarizer, summarizer.endpoints[0], training=False)
                helpers = helpers._replace(summarizer=summarizer)
            if config.feedback.similarity_endpoint is not None:
                comparer = await self._helper(stack, "similarity", config.feedback.similarity_endpoint)
                if config.feedback.similarity == "embedding":
                    await check_embeddings(comparer, comparer.endpoints[0])
                else:
                    await check_endpoint(comparer, comparer.endpoints[0], training=False)
                helpers = helpers._replace(similarity=comparer)
            write_servers(self.run, [endpoint.address for endpoint in endpoints.endpoints])
            if not first_version:
                await self._seed(model, problems, endpoints, verifier)
            await self._after_sft(problems, endpoints, verifier)
            await self._train(problems, endpoints, helpers, verifier, serving, resumed)
        self._finish()

    async def _helper(self, stack: contextlib.AsyncExitStack, name: str, endpoint: EndpointSettings) -> InferenceClient:
        """A pool over one endpoint beside the policy's."""
        pool = await stack.enter_async_context(client_of(self.config, (endpoint,), watchdog=self.watchdog))
        self.sources.pools[name] = pool
        return pool

    async def _seed(self, model: Path, problems: ProblemSet, endpoints: InferenceClient, verifier: Verifier) -> None:
        """Evaluate the base model, seed the skills, publish the first version."""
        if self.config.sft.enabled and self.config.eval.baseline and BASELINE not in self.state["evals"]:
            if self.config.endpoints:
                await self._load_base_model(model, endpoints)
            await self._evaluate(BASELINE, 0, problems, endpoints, verifier)
        if self.config.sft.enabled:
            with self.clock.stage("sft"):
                model, self.state["sft"] = await seeded_model(self.config, self.run, model, self.view.log)
            self.save_state()
        publish(self.run, REFERENCE, lambda folder: _copy(model, folder))

    async def _load_base_model(self, model: Path, endpoints: InferenceClient) -> None:
        """Have endpoints that run elsewhere serve the model that the run begins with: they may have another run's weights still. It
        comes from the run folder, which they see."""
        folder = self.run.weights / BASELINE
        with self.clock.stage("reload"):
            try:
                await asyncio.to_thread(write_version, folder, lambda beside: _copy(model, beside))
                for endpoint in endpoints.endpoints:
                    await load_unpublished(self.run, endpoint.address, folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    async def _after_sft(self, problems: ProblemSet, endpoints: InferenceClient, verifier: Verifier) -> None:
        """Evaluate the model that reinforcement learning begins with."""
        name = AFTER_SFT if self.config.sft.enabled else BASELINE
        if name in self.state["evals"]:
            return
        with self.clock.stage("reload"):
            for endpoint in endpoints.endpoints:
                await sync_server(self.run, endpoint.address, REFERENCE)
        await self._evaluate(name, 0, problems, endpoints, verifier)

    async def _evaluate(
        self,
        name: str,
        step: int,
        problems: ProblemSet,
        endpoints: InferenceClient,
        verifier: Verifier,
        learner: LearnerLink | None = None,
    ) -> EvalReport:
        """Evaluate and keep the report; beside a `learner`, it tells which weights answered."""
        before = learner.status().version if learner else None
        out = self.run.evals / f"{name.replace(' ', '_')}.jsonl"
        tasks = problems.heldout[: self.config.eval.num_problems]
        with self.clock.stage("eval"):
            report = await evaluate(
                name, tasks, self.config, endpoints, verifier, out, self.view.progress(f"evaluating ({name})")
            )
        after = learner.status().version if learner else None
        weights = sorted({version for version in (before, after) if version})
        self.state["evals"][name] = report.model_dump() | {
            "step": step,
            "weights": weights,
            "accuracy": report.accuracy,
            "interval": report.interval,
        }
        self.save_state()
        self.metrics.write(
            "eval",
            step,
            name=name,
            accuracy=report.accuracy,
            share_parsable=report.share_parsable,
            share_cut=report.share_cut,
        )
        self.view.board.accuracy[name] = report.accuracy
        spread = f" (weights changed meanwhile: {weights[0]} to {weights[1]})" if len(weights) > 1 else ""
        self.view.log(report.line() + spread)
        return report

    async def _train(
        self,
        problems: ProblemSet,
        endpoints: InferenceClient,
        helpers: Helpers,
        verifier: Verifier,
        serving: Serving,
        resumed: bool,
    ) -> None:
        """Start the learner, run the loop beside it, evaluate the end, close the learner."""
        first_step = await self._begin_lineage() if resumed else 0
        lineages = self.run.lineages()
        await asyncio.to_thread(check_claim, self.run)
        journal = await asyncio.to_thread(Journal, self.run.store)
        usefulness = await asyncio.to_thread(usefulness_in, journal, lineages)
        # With S = 0 a resumed run equals an unbroken one.
        ordered = self.config.rollout.max_staleness == 0
        pool = await asyncio.to_thread(Pool, self.run.store, self.config.pool, uses=usefulness.of, ordered=ordered)
        pool.set_heldout(problems.heldout_hashes)
        if resumed:
            await asyncio.to_thread(rollback, pool, first_step)
        self.view.log(f"starting the learner (log: {self.run.logs / 'learner.log'})")
        command = [sys.executable, "-m", "trainer.learner", "--run", str(self.run.path)]
        # Of an earlier learner, whose process number this one may get after a restart of the machine or container.
        self.run.learner_file.unlink(missing_ok=True)
        env = PASSIVE_WAITING | (spare_gpu(self.config) if self.config.learner.num_processes == 1 else {})
        learner = await Child.start("learner", command, self.run.logs / "learner.log", env=env, stdin=True)
        link = LearnerLink(self.run, learner)
        self.sources.learner = link.status
        try:
            self.sources.scheduler = scheduler = self._scheduler(
                problems, endpoints, helpers, verifier, journal, pool, usefulness, link
            )
            async with contextlib.AsyncExitStack() as stack:
                follower = asyncio.create_task(self.view.follow(self.run.metrics_file))
                stack.callback(follower.cancel)
                stack.enter_context(self.view.live())
                try:
                    await self._until_first_failure(scheduler.run(first_step), serving)
                    await link.wait_until(lambda status: status.state == "done")
                    await asyncio.sleep(1.0)  # the follower shows the last step before the board closes
                finally:
                    self._keep_totals(scheduler, pool)
            num_steps = self.config.learner.num_steps
            if self.state["evals"].get(AFTER_RL, {}).get("step") != num_steps:
                await self._evaluate(AFTER_RL, num_steps, problems, endpoints, verifier)
            learner.close_stdin()
            async with asyncio.timeout(LEARNER_GRACE_S):
                await learner.wait()
        finally:
            self._keep_costs(endpoints)
            self.sources.learner = None
            await learner.stop(LEARNER_GRACE_S)

    def _scheduler(
        self,
        problems: ProblemSet,
        endpoints: InferenceClient,
        helpers: Helpers,
        verifier: Verifier,
        journal: Journal,
        pool: Pool,
        usefulness: Usefulness,
        link: LearnerLink,
    ) -> Scheduler:
        tasks = {task.problem.id: task for task in problems.train}

        async def evaluate_if_due(step: int) -> None:
            every = self.config.eval.every
            if not (every and step and step % every == 0):
                return
            try:
                await self._evaluate(f"step {step}", step, problems, endpoints, verifier, link)
            except EndpointError as error:
                self._alert(f"the evaluation at step {step} was given up: {error}")

        retriever = retriever_of(
            self.config, pool, helpers.similarity, lambda entry_id: usefulness.of(entry_id).mean_reward
        )
        return Scheduler(
            config=self.config,
            problems=ProblemStream(problems.train, self.config.run.seed),
            labels=tasks.__getitem__,
            sampler=GroupSampler(self.config, endpoints, verifier, journal, retriever, self.clock),
            abstractor=Abstractor(self.config, helpers.summarizer),
            journal=journal,
            pool=pool,
            learner=link,
            metrics=self.metrics,
            clock=self.clock,
            lineages=self.run.lineages(),
            evaluate=evaluate_if_due,
            all_unavailable=lambda: endpoints.all_unavailable,
            oldest_checkpoint=lambda: checkpoints.oldest_whole(self.run) or 0,
            usefulness=usefulness,
            watchdog=self.watchdog,
        )

    async def _until_first_failure(self, loop_of_steps: Coroutine[Any, Any, None], serving: Serving) -> None:
        """Run the loop, and fail as soon as a server's launcher gave up."""

        async def watch() -> None:
            while True:
                serving.check()
                await asyncio.sleep(1.0)

        steps, watcher = asyncio.ensure_future(loop_of_steps), asyncio.ensure_future(watch())
        try:
            done, _ = await asyncio.wait({steps, watcher}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (steps, watcher):
                task.cancel()
            await asyncio.gather(steps, watcher, return_exceptions=True)

    async def _begin_lineage(self) -> int:
        """The step to continue from: that of the newest whole checkpoint, 0 without one.

        A learner whose orchestrator was killed may still be writing one. Raises RunFolderError if it does not end."""

        def outlive() -> None:
            with self.run.locked(LEARNER_LOCK, LEARNER_GRACE_S):
                pass

        await asyncio.to_thread(outlive)
        step = checkpoints.newest_whole(self.run) or 0
        lineage = self.run.begin_lineage(step)
        self.view.log(f"continuing from step {step} as lineage {lineage.number}")
        return step

    async def _repair(self, endpoint: Endpoint) -> None:
        """Bring a server that came back to the newest published version, before it gets requests again."""
        version = latest(self.run)
        await sync_server(self.run, endpoint.address, version or WeightVersion(lineage=0, step=0))

    def _keep_totals(self, scheduler: Scheduler, pool: Pool) -> None:
        totals = self.state.setdefault("totals", {})
        for name, value in scheduler.totals.as_dict().items():
            totals[name] = _added(totals.get(name), value)
        totals["pool_size"] = pool.num_entries()

    def _keep_costs(self, endpoints: InferenceClient) -> None:
        totals = self.state.setdefault("totals", {})
        totals["usage"] = _added(totals.get("usage"), endpoints.usage.by_stage())
        if cost := endpoints.usage.cost():
            totals["cost"] = totals.get("cost", 0.0) + cost
        totals["seconds"] = _added(totals.get("seconds"), dict(self.clock.seconds))
        totals["counts"] = _added(totals.get("counts"), dict(self.clock.counts))
        self.clock = StageClock()
        self.save_state()

    def _finish(self) -> None:
        for text in render_summary(self.run, self.state):
            self.view.log(text)


def _copy(model: Path, folder: Path) -> None:
    for file in model.iterdir():
        if file.is_file() and file.name != SFT_REPORT:
            shutil.copy2(file, folder)


def _added(old: Any, new: Any) -> Any:
    """Sum of two nested tables of numbers; either may be missing."""
    if isinstance(new, dict):
        old = old or {}
        return {key: _added(old.get(key), new.get(key, 0)) for key in {**old, **new}} if old else new
    if isinstance(old, dict):
        return old
    return (old or 0) + (new or 0)
