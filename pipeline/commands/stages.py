"""The stages of a session, in their order: seed the model, evaluate it, train beside the learner, add up what it
cost."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.evaluation.heldout import evaluate, read_answers
from pipeline.experience.pool import Pool
from pipeline.inference.client import InferenceClient
from pipeline.inference.local_servers import Serving
from pipeline.loop.learner_link import LearnerLink
from pipeline.loop.reward_watch import check_judged
from pipeline.loop.scheduler import Scheduler
from pipeline.observability.live_view import View
from pipeline.probe.short import short_probe
from pipeline.problems.dataset import ProblemSet
from pipeline.rewards.verifier import Verifier
from pipeline.run import checkpoints
from pipeline.run.folder import LEARNER_LOCK, RunFolder
from pipeline.run.metrics_log import MetricsWriter
from pipeline.run.state import AFTER_RL, AFTER_SFT, BASE_MODEL, RunState, answers_file, skills_file
from pipeline.runtime.stage_clock import StageClock
from pipeline.sft.stage import DONE as SFT_REPORT
from pipeline.sft.stage import seeded_model
from pipeline.weights.publishing import REFERENCE, publish, remove_version, write_version
from pipeline.weights.sync import load_unpublished, sync_server

LEARNER_GRACE_S = 90.0


@dataclass
class Stages:
    """What one session does with its parts. `metrics` and `state` keep what came of it; `clients` are all that cost
    something: the policy's, those of helpers and of judges."""

    run: RunFolder
    config: Config
    problems: ProblemSet
    endpoints: InferenceClient
    verifier: Verifier
    state: RunState
    metrics: MetricsWriter
    clock: StageClock
    view: View
    clients: Mapping[str, InferenceClient]

    async def seed(self, model: Path) -> None:
        """Evaluate the base model, seed the skills, publish the first version."""
        if self.config.sft.enabled and self.config.eval.baseline and BASE_MODEL not in self.state.evals:
            if self.config.endpoints:
                await self._load_base_model(model)
            await self._probe(BASE_MODEL, 0)
            await self._evaluate(BASE_MODEL, 0)
        if self.config.sft.enabled:
            with self.clock.stage("sft"):
                model, report = await seeded_model(self.config, self.run, model, self.view.log)
            self.state.values["sft"] = report
            self.state.save()
        publish(self.run, REFERENCE, lambda folder: _copy(model, folder))

    async def _load_base_model(self, model: Path) -> None:
        """Have endpoints that run elsewhere serve the model that the run begins with.

        They may have another run's weights still. The model comes from the run folder, which they see."""
        folder = self.run.weights / "base_model"
        with self.clock.stage("reload"):
            try:
                await asyncio.to_thread(write_version, folder, lambda beside: _copy(model, beside))
                for endpoint in self.endpoints.endpoints:
                    await load_unpublished(self.run, endpoint.address, folder)
            finally:
                remove_version(folder)

    async def evaluate_start(self) -> None:
        """Evaluate the model that reinforcement learning begins with, unless an earlier session did."""
        name = AFTER_SFT if self.config.sft.enabled else BASE_MODEL
        if name in self.state.evals:
            return
        with self.clock.stage("reload"):
            for endpoint in self.endpoints.endpoints:
                await sync_server(self.run, endpoint.address, REFERENCE)
        await self._probe(name, 0)
        await self._evaluate(name, 0)

    async def evaluate_if_due(self, step: int, learner: LearnerLink) -> None:
        """Evaluate beside the training of `step`, every `eval.every` steps. Raises EndpointError when nothing was
        answered."""
        every = self.config.eval.every
        if every and step and step % every == 0:
            await self._evaluate(f"step {step}", step, learner)

    async def train(
        self, scheduler: Scheduler, pool: Pool, learner: LearnerLink, serving: Serving, first_step: int
    ) -> None:
        """Run the loop until the learner has trained the last step, then evaluate the end."""
        async with contextlib.AsyncExitStack() as stack:
            follower = asyncio.create_task(self.view.follow(self.run.metrics_file))
            stack.callback(follower.cancel)
            stack.enter_context(self.view.live())
            try:
                await _until_first_failure(scheduler.run(first_step), serving)
                await learner.wait_until(lambda status: status.state == "done")
                await asyncio.sleep(1.0)  # the follower shows the last step before the board closes
            finally:
                self.keep_totals(scheduler, pool)
        num_steps = self.config.learner.num_steps
        if self.state.evals.get(AFTER_RL, {}).get("step") != num_steps:
            await self._probe(AFTER_RL, num_steps)
            await self._evaluate(AFTER_RL, num_steps)

    async def _evaluate(self, name: str, step: int, learner: LearnerLink | None = None) -> None:
        """Evaluate and keep the report; beside a `learner`, it tells which weights answered."""
        before = learner.status().version if learner else None
        tasks = self.problems.heldout[: self.config.eval.num_problems]
        out = answers_file(self.run.evals, name)
        with self.clock.stage("eval"):
            progress = self.view.progress(f"evaluating ({name})")
            report = await evaluate(name, tasks, self.config, self.endpoints, self.verifier, out, progress)
        after = learner.status().version if learner else None
        verdicts = [answer.verdict for answer in read_answers(out) if not answer.error]
        check_judged(f"the evaluation ({name})", verdicts, self.config.reward)
        weights = sorted({version for version in (before, after) if version})
        self.state.evals[name] = report.model_dump() | {
            "step": step,
            "weights": weights,
            "accuracy": report.accuracy,
            "interval": report.interval,
        }
        self.state.save()
        numbers = {
            "name": name,
            "accuracy": report.accuracy,
            "mean_reward": report.mean_reward,
            "num_unanswered": report.num_problems - report.num_answered,
            "share_parsable": report.share_parsable,
            "share_cut": report.share_cut,
        }
        self.metrics.write("eval", step, **numbers)
        self.view.board.update({"event": "eval", **numbers})
        spread = f" (weights changed meanwhile: {weights[0]} to {weights[1]})" if len(weights) > 1 else ""
        self.view.log(report.line() + spread)

    async def _probe(self, name: str, step: int) -> None:
        """Measure the skills of the model that is served, and keep what came of it, unless an earlier session did.

        Before the evaluation of the same name, which says that this stage is done."""
        if not self.config.eval.num_probed or self.state.skills.get(name, {}).get("step") == step:
            return
        with self.clock.stage("probe"):
            heldout, out = self.problems.heldout, skills_file(self.run.evals, name)
            report = await short_probe(name, self.config, self.endpoints, self.verifier, heldout, out)
        self.state.skills[name] = report.model_dump(mode="json") | {"step": step}
        self.state.save()
        numbers = {f"{one.skill}, {one.ground}, {rate.name}": rate.value for one in report.skills for rate in one.rates}
        self.metrics.write("probe", step, name=name, **report.verdicts, **numbers)
        self.view.log(f"skills, {name}: {report.line()}")

    def keep_totals(self, scheduler: Scheduler, pool: Pool) -> None:
        """Add what the loop of this session did to the run's totals."""
        self.state.add_to_totals(**scheduler.totals.as_dict())
        self.state.set_total("pool_size", pool.num_entries())

    def keep_costs(self) -> None:
        """Add what this session asked for and how long it took to the run's totals, and save all that is known of the
        run."""
        self.state.add_to_totals(seconds=dict(self.clock.seconds), counts=dict(self.clock.counts))
        for client in self.clients.values():
            self.state.add_to_totals(**client.usage.totals())
        if num_known := self.verifier.num_cached:
            self.state.add_to_totals(num_judged_before=num_known)
        self.state.save()


async def begin_lineage(run: RunFolder, view: View) -> int:
    """Begin a lineage at the newest whole checkpoint, and return that step; 0 without one.

    A learner whose orchestrator was killed may still be writing one. Raises RunFolderError if it does not end."""

    def outlive() -> None:
        with run.locked(LEARNER_LOCK, LEARNER_GRACE_S):
            pass

    await asyncio.to_thread(outlive)
    step = checkpoints.newest_whole(run) or 0
    lineage = run.begin_lineage(step)
    view.log(f"continuing from step {step} as lineage {lineage.number}")
    return step


async def _until_first_failure(loop_of_steps: Coroutine[Any, Any, None], serving: Serving) -> None:
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


def _copy(model: Path, folder: Path) -> None:
    for file in model.iterdir():
        if file.is_file() and file.name != SFT_REPORT:
            shutil.copy2(file, folder)
