"""One session of an evaluation: opens its folder and its endpoints, answers what the plan still lacks, writes the
report."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config import Config
from pipeline.config.endpoints import EndpointSettings
from pipeline.errors import ConfigError, EndpointError, FinalEndpointError, RunFolderError
from pipeline.evaluation.benchmarks import fitted, load_benchmarks
from pipeline.evaluation.comparison import Other
from pipeline.evaluation.cost import cost_of, failed_attempts, spending
from pipeline.evaluation.defaults import Explicit, adapted, with_templates
from pipeline.evaluation.folder import EvalFolder
from pipeline.evaluation.judging import opened_judge
from pipeline.evaluation.lessons import CachedClient, LessonSearch, copied
from pipeline.evaluation.markdown import page
from pipeline.evaluation.plan import BenchmarkCells, BenchmarkTasks, Plan, planned
from pipeline.evaluation.plots import plot_accuracy, plot_compute
from pipeline.evaluation.report import BenchmarkReport, report
from pipeline.evaluation.results import cells, scored_answers
from pipeline.evaluation.runner import EvalRun, Scoring
from pipeline.experience.pool_integrity import check_pool
from pipeline.experience.retrieval import retriever_of
from pipeline.hashing import digest
from pipeline.inference.capabilities import check_embeddings, check_endpoint
from pipeline.inference.client import InferenceClient, client_of
from pipeline.inference.local_servers import Serving, resolve_model
from pipeline.inference.reply_cache import ReplyCache
from pipeline.inference.trouble import remedy_of
from pipeline.inference.usage import Prices, Usage
from pipeline.observability import logs
from pipeline.observability.progress import progress
from pipeline.observability.secrets import secrets_of
from pipeline.rewards.judge.model import AnswerJudge, own_rules
from pipeline.rewards.verifier import Verifier
from pipeline.rewards.version import verifier_version
from pipeline.run.folder import RunFolder
from pipeline.run.provenance import model_fingerprint
from pipeline.runtime import event_loop
from pipeline.runtime.files import write_atomic
from pipeline.runtime.watchdog import Watchdog


class EvalOptions(NamedTuple):
    """What an evaluation was given: its configuration, and the options of the command that are no settings.

    `explicit` are the settings that the user gave; `model_name` names the folder of a model that is served here,
    `lessons` is the run or file of the pool for retrieval; `num_parameters` are those of a model folder."""

    config: Config
    explicit: Explicit
    model_name: str
    registry: Path | None = None
    data: Path | None = None
    lessons: Path | None = None
    num_parameters: Callable[[Path], int | None] = lambda model: None
    judge: EndpointSettings | None = None
    compare: Path | None = None
    out: Path | None = None
    fresh: bool = False
    moved: bool = False


class Outcome(NamedTuple):
    """How a session ended.

    `report` is None where it was stopped; `failure` ended it early, and what was answered is reported all the same;
    `first_failure` is of the answers that could not be had."""

    folder: EvalFolder
    report: BenchmarkReport | None = None
    failure: EndpointError | None = None
    first_failure: str = ""


class EvaluationSession:
    """Wires the parts of one evaluation, top to bottom. `log` takes what the user should read on the way,
    `warn` what needs a look."""

    def __init__(self, options: EvalOptions, log: Callable[[str], None], warn: Callable[[str], None]) -> None:
        self._options = options
        self._config = _patient(options.config)
        self._log = log
        self._warn = warn
        self._clients: list[InferenceClient] = []
        self._run: EvalRun | None = None
        self._stack = contextlib.AsyncExitStack()
        self._prices = Prices(self._config.endpoints, self._config.feedback.similarity_endpoint)
        self._judge_prices = Prices()
        self._own_rules = own_rules(self._config.reward)
        self._usages: list[Usage] = []
        self._notes: list[str] = []
        self._begin_s = time.monotonic()

    async def run(self) -> Outcome:
        """Raises ConfigError, DataError, RunFolderError, and EndpointError where nothing could be answered."""
        task = asyncio.current_task()
        assert task is not None
        with event_loop.on_stop(lambda: self._stop(task)):
            return await self._evaluated()

    def _stop(self, task: asyncio.Task[Any]) -> None:
        """After a signal: nothing begins any more, what only waits ends, what is in flight is paid for and ends as it
        would."""
        if self._run is None:
            self._log("stopping before anything was asked; what earlier commands answered is kept")
            task.cancel()
            return
        num_in_flight = sum(endpoint.num_in_flight for client in self._clients for endpoint in client.endpoints)
        waited_for = (
            f"{num_in_flight} requests in flight are waited for and kept" if num_in_flight else "none is in flight"
        )
        self._log(f"stopping: no request begins any more, {waited_for} (a second signal ends at once)")
        self._run.stop()
        self._end_waits(FinalEndpointError("stopped", "the evaluation was stopped"))

    def _end_waits(self, error: EndpointError) -> None:
        for client in self._clients:
            client.stop(error)

    async def _evaluated(self) -> Outcome:
        options = self._options
        benchmarks = await asyncio.to_thread(load_benchmarks, self._config, options.registry, options.data)
        self._config = adapted(self._config, options.explicit, benchmarks)
        async with self._stack:
            folder, endpoints = await self._opened()
            replies = await self._stack.enter_async_context(ReplyCache(folder.replies_file))
            plan = folder.plan()
            answers = await asyncio.to_thread(scored_answers, folder, self._prices)
            benchmarks = [self._fitted(one, endpoints.max_model_len) for one in benchmarks]
            search, pool_key = await self._lessons(folder, endpoints, replies, benchmarks)
            judge = await self._judge(benchmarks, replies)
            own_judge = judge.by(self._own_rules) if judge and self._own_rules.by_rubric else None
            wanted = self._planned(benchmarks, pool_key, judge, plan)
            plan.write(folder.plan_file)
            scoring = Scoring(await self._verifiers(benchmarks), judge, own_judge, self._prices)
            num_answers = sum(target.num_samples for _, of in wanted for one in of for target in one.wanted.values())
            self._run = run = EvalRun(
                self._config, folder, endpoints, replies, answers, scoring, search=search,
                end_waits=self._end_waits,
                progress=self._stack.enter_context(progress("answers", num_answers, lambda: spending(self._usages))),
            )  # fmt: skip
            asking_s, failure = await self._answer(run, wanted)
            kept = f"{run.num_done} of {num_answers} answers are kept in {folder.path}; the same command goes on there"
            if run.stopped:
                self._log(f"stopped: {kept}")
                return Outcome(folder)
            if failure is not None:
                remedy = remedy_of(failure.kind)
                failure = FinalEndpointError(failure.kind, f"{failure}. What to do: {remedy}. {kept}")
            if not run.answers:
                first = f"no problem could be answered; first failure: {run.first_failure}. {kept}"
                raise failure or EndpointError("evaluation", first)
            self._notes += [*_dropped(endpoints), *failed_attempts(self._usages)]
            found = await asyncio.to_thread(self._report, folder, plan, run, replies, asking_s)
            await asyncio.to_thread(write_reports, folder, found)
            return Outcome(folder, found, failure, run.first_failure)

    async def _answer(self, run: EvalRun, wanted: Sequence[BenchmarkCells]) -> tuple[float, EndpointError | None]:
        """The seconds that it took, and the failure that ended it."""
        begin_s, failure = time.monotonic(), None
        try:
            await run.run(wanted)
        except EndpointError as error:
            failure = error
        return time.monotonic() - begin_s, failure

    # What is answered

    def _fitted(self, one: BenchmarkTasks, max_model_len: int | None) -> BenchmarkTasks:
        """`one` within what the endpoint takes."""
        settings = self._config.eval
        found, shortened = fitted(one, max_model_len), ""
        if found.max_tokens < one.max_tokens:
            shortened = f" (the endpoint takes {max_model_len} in all)"
            self._notes.append(
                f"{one.name}: answers were limited to {found.max_tokens} tokens, not {one.max_tokens}: the endpoint "
                f"takes {max_model_len} of prompt and answer. Serve it with a longer context (--servers.max_model_len "
                "where the server is started here)."
            )
        self._log(
            f"{one.name}: {len(one.tasks)} of {one.num_all} problems, {settings.num_samples} answers each in "
            f"{', '.join(settings.modes)}, of at most {found.max_tokens} tokens{shortened}, at temperature "
            f"{settings.sampling_temperature:g}"
        )
        return found

    def _planned(
        self, benchmarks: Sequence[BenchmarkTasks], pool_key: str, judge: AnswerJudge | None, plan: Plan
    ) -> list[BenchmarkCells]:
        """The cells that this command wants; they join those of `plan`."""
        wanted = []
        for one in benchmarks:
            judge_name = judge.name if judge else ""
            if one.is_heldout and self._own_rules.by_rubric:
                judge_name += f", rubric {digest(self._own_rules)[:8]}"
            before = {(cell.benchmark, cell.mode) for cell in plan.cells}
            of_modes = [
                planned(self._config, one, mode, pool_key=pool_key, judge=judge_name)
                for mode in self._config.eval.modes
            ]
            for cell in of_modes:
                if (cell.benchmark, cell.mode) in before and cell.id not in {other.id for other in plan.cells}:
                    self._log(
                        f"{cell.benchmark}, {cell.mode}: answers of another setting are in this folder; they stay, and "
                        "are reported beside"
                    )
                plan.add(cell)
            wanted.append((one, of_modes))
        return wanted

    # Who answers

    async def _opened(self) -> tuple[EvalFolder, InferenceClient]:
        """The folder, held for this evaluation, and endpoints that answer: running ones, or a server started here."""
        config = self._config
        if config.endpoints:
            client = await self._checked(config.endpoints)
            folder = folder_of(self._options, client.endpoints[0].model)
            identity = [
                {"url": one.url, "model": one.model, "root": str(one.card.get("root") or "")}
                for one in client.endpoints
            ]
            self._hold(folder)
            self._identify(folder, identity, cards=[one.card for one in client.endpoints])
            self._config = with_templates(config, None, client.max_model_len, self._log)
            return folder, client
        folder = folder_of(self._options, self._options.model_name)
        servers = range(config.servers.num_servers)
        own_logs = ("model.log", *(f"{name}-{number}.log" for number in servers for name in ("launch", "server")))
        self._hold(folder, "config.json", *(f"logs/{name}" for name in own_logs))
        run = RunFolder(folder.path)  # as far as starting servers needs one
        model = await resolve_model(config, run, self._log)
        fingerprint = await asyncio.to_thread(model_fingerprint, model)
        self._identify(folder, [{"model": str(model), "weights": fingerprint}])
        write_atomic(run.config_file, config.model_dump_json(indent=2))
        serving = await self._stack.enter_async_context(Serving(config, run, model, self._log))
        client = await self._checked(serving.endpoints)
        num_parameters = self._options.num_parameters(model)
        self._config = with_templates(config, num_parameters, client.max_model_len, self._log)
        return folder, client

    async def _checked(self, settings: tuple[EndpointSettings, ...]) -> InferenceClient:
        # A long answer is no stuck wait; that nothing was answered for long is said on the terminal anyway.
        watchdog = Watchdog(stuck_after_s=self._config.requests.attempt_timeout_s)
        client = await self._client(client_of(self._config, settings, watchdog=watchdog, on_trouble=self._warn))
        for endpoint in client.endpoints:
            await check_endpoint(client, endpoint, training=False)
        return client

    async def _client(self, opening: AbstractAsyncContextManager[InferenceClient]) -> InferenceClient:
        client = await self._stack.enter_async_context(opening)
        self._usages.append(client.usage)
        self._clients.append(client)
        return client

    def _hold(self, folder: EvalFolder, *more: str) -> None:
        options, config = self._options, self._config
        self._stack.enter_context(folder.held(*more))
        folder.logs.mkdir(exist_ok=True)
        judge_key = os.environ.get(options.judge.api_key_env, "") if options.judge else ""
        logs.configure(folder.logs / "eval.log", config.operations, {*secrets_of(config), judge_key} - {""})

    def _identify(self, folder: EvalFolder, identity: list[dict[str, str]], **facts: object) -> None:
        folder.identified(identity, fresh=self._options.fresh, moved=self._options.moved, **facts)

    async def _lessons(
        self, folder: EvalFolder, client: InferenceClient, replies: ReplyCache, benchmarks: Sequence[BenchmarkTasks]
    ) -> tuple[LessonSearch | None, str]:
        """A search of the lessons that this folder began with, and their identity.

        Raises DataError where they are of problems that are evaluated."""
        config, source = self._config, self._options.lessons
        if "retrieval" not in config.eval.modes:
            return None, ""
        if source is None:
            raise ConfigError(
                "--mode retrieval needs lessons; name the run whose pool holds them with --pool RUN, or a file"
            )
        copy = await asyncio.to_thread(copied, source, folder.lessons, self._log)
        await asyncio.to_thread(check_pool, copy.pool, [task for one in benchmarks for task in one.tasks])
        self._log(f"lessons: {copy.text}; other lessons need another --out")
        if (settings := config.feedback.similarity_endpoint) is not None:
            client = await self._client(client_of(config, (settings,), on_trouble=self._warn))
            if config.feedback.similarity == "embedding":
                await check_embeddings(client, client.endpoints[0])
        cached = CachedClient(client, client.endpoints[0].model, replies)
        return LessonSearch(retriever_of(config, copy.pool, cached)), copy.key

    async def _verifiers(self, benchmarks: Sequence[BenchmarkTasks]) -> dict[str, Verifier]:
        """By the scorer that they stand for; a judge is none of them."""
        reward, found = self._config.reward, {}
        for scorer in sorted({one.scorer for one in benchmarks} - {"judge"}):
            verifier = Verifier(reward.model_copy(update={"scorer": scorer, "scorers": ()}))
            found[scorer] = await self._stack.enter_async_context(verifier)
        return found

    async def _judge(self, benchmarks: Sequence[BenchmarkTasks], replies: ReplyCache) -> AnswerJudge | None:
        """The judge, after its agreement with labelled answers was shown."""
        settings, undecided = self._options.judge, [one.name for one in benchmarks if one.scorer == "judge"]
        if settings is None and undecided:
            settings = self._config.reward.judge_endpoint
        if settings is None:
            if undecided:
                raise ConfigError(f"an LLM judges the answers of {', '.join(undecided)}; name one with --judge URL")
            return None
        self._judge_prices = Prices([settings])
        opening = opened_judge(settings, self._config.requests, replies, self._log, self._warn)
        judge, client = await self._stack.enter_async_context(opening)
        self._usages.append(client.usage)
        self._clients.append(client)
        return judge

    # What came of it

    def _report(
        self, folder: EvalFolder, plan: Plan, run: EvalRun, replies: ReplyCache, asking_s: float
    ) -> BenchmarkReport:
        options = self._options
        scorers = {str(cell.settings["scorer"]) for cell in plan.cells}
        return report(
            folder.path.name,
            plan.cells,
            run.answers,
            folder.failures(),
            versions={scorer: verifier_version(scorer) for scorer in scorers},
            priced=self._prices.given,
            other=compared(options.compare, self._prices) if options.compare else None,
            further_notes=self._notes,
            failures=dict(run.failures),
            num_asked=replies.num_requests,
            num_known=replies.num_cached,
            num_verdicts=run.num_verdicts,
            spent=[one.priced(self._judge_prices if one.stage == "judge" else self._prices) for one in replies.spent()],
            cost=cost_of(self._usages),
            asking_s=asking_s,
            seconds=time.monotonic() - self._begin_s,
        )


def folder_of(options: EvalOptions, model: str) -> EvalFolder:
    """Where the evaluation of a model is."""
    name = re.sub(r"[^\w.-]+", "-", model).strip("-.") or "model"
    return EvalFolder(options.out or Path("evals") / name)


def _patient(config: Config) -> Config:
    """`config` with the patience of an evaluation, whose user waits before it."""
    requests = config.requests.model_copy(update={"max_outage_s": config.eval.max_outage_s})
    return config.model_copy(update={"requests": requests})


def check_compare(path: Path) -> None:
    """Raise RunFolderError for a folder without an evaluation, naming those beside it."""
    if EvalFolder(path).plan().cells:
        return
    beside = sorted(file.parent.name for file in path.resolve().parent.glob("*/plan.json"))
    raise RunFolderError(
        f"--compare {path}: there is no evaluation in this folder"
        + (f"; beside it are {', '.join(beside)}" if beside else "; give one that `eval` wrote")
    )


def compared(path: Path, prices: Prices) -> Other:
    folder = EvalFolder(path)
    return Other(folder.path.name, cells(folder.plan().cells, scored_answers(folder, prices), folder.failures()))


def write_reports(folder: EvalFolder, found: BenchmarkReport) -> None:
    """The report as JSON, page and plots. Raises DiskError."""
    folder.write_report(folder.report_file.name, found.model_dump_json(indent=1))
    folder.write_report(folder.page_file.name, page(found))
    folder.write_report(folder.accuracy_plot.name, plot_accuracy(found))
    folder.write_report(folder.compute_plot.name, plot_compute(found))


def _dropped(client: InferenceClient) -> list[str]:
    """The settings of sampling that endpoints refused, and so sample as they please."""
    return [
        f"{one.url} refuses {', '.join(sorted(one.dialect.dropped))}: its answers are sampled with its own value"
        for one in client.endpoints
        if one.dialect.dropped
    ]
