"""`eval`: benchmarks × inference modes, of a run's final model, any model, or any endpoint. The same command goes on where it was."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

from pipeline.commands import eval_options
from pipeline.commands.eval_options import HELD_OUT, Chosen, judge_of
from pipeline.config import Config
from pipeline.errors import ConfigError, EndpointError, RunFolderError
from pipeline.evaluation.comparison import Other
from pipeline.evaluation.cost import Live
from pipeline.evaluation.folder import EvalFolder
from pipeline.evaluation.judge import AnswerJudge, agreement
from pipeline.evaluation.judge_endpoint import judge_endpoint
from pipeline.evaluation.lessons import CachedClient, LessonSearch, copied
from pipeline.evaluation.markdown import page
from pipeline.evaluation.plan import BenchmarkTasks, Plan, PlannedCell, planned
from pipeline.evaluation.plots import plot_accuracy, plot_compute
from pipeline.evaluation.reply_cache import Replies
from pipeline.evaluation.report import BenchmarkReport, report
from pipeline.evaluation.results import cells
from pipeline.evaluation.runner import EvalRun
from pipeline.evaluation.scores import Scored, scored
from pipeline.experience.pool_integrity import check_pool
from pipeline.experience.retrieval import retriever_of
from pipeline.hashing import digest
from pipeline.inference.capabilities import check_embeddings, check_endpoint
from pipeline.inference.client import InferenceClient, client_of
from pipeline.inference.local_servers import Serving, resolve_model
from pipeline.inference.usage import Prices
from pipeline.observability import logs
from pipeline.observability.live_view import View
from pipeline.observability.progress import progress
from pipeline.observability.secrets import secrets_of
from pipeline.problems.benchmark import Benchmark, source_of
from pipeline.problems.benchmark_items import find_benchmark, sampled, tasks_of
from pipeline.problems.dataset import load_problems
from pipeline.rewards.code.preflight import check_code
from pipeline.rewards.verifier import Verifier
from pipeline.rewards.version import verifier_version
from pipeline.run.folder import RunFolder
from pipeline.run.provenance import model_fingerprint
from pipeline.runtime import event_loop
from pipeline.runtime.files import write_atomic
from pipeline.runtime.watchdog import Watchdog
from pipeline.types import Task

add_options = eval_options.add_options
MAX_ANSWER_TOKENS = 4096
"""Longest answer where neither the benchmark nor the user says."""
PROMPT_TOKENS = 2048
"""Tokens of a context window left to the prompt, half of a smaller window."""


def evaluate_command(arguments: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Evaluate; print the report, write it and the plots. The status is 1 while some answers could not be had."""
    chosen = eval_options.chosen(arguments, overrides)
    _check_compare(arguments.compare)
    return event_loop.run(_Evaluation(arguments, chosen, View(0, live=False)).run())


def _check_compare(folder: Path | None) -> None:
    """Raise RunFolderError for a folder without an evaluation, naming those beside it, before anything is asked."""
    if folder is None or EvalFolder(folder).plan().cells:
        return
    beside = sorted(file.parent.name for file in folder.resolve().parent.glob("*/plan.json"))
    raise RunFolderError(
        f"--compare {folder}: there is no evaluation in this folder"
        + (f"; beside it are {', '.join(beside)}" if beside else "; give one that `eval` wrote")
    )


class _Benchmark(NamedTuple):
    """`known` is None for a run's own problems, held out from training. `num_all` is how many there are without --limit."""

    name: str
    known: Benchmark | None
    tasks: list[Task]
    num_all: int


class _Evaluation:
    """Wires the parts of one evaluation, top to bottom."""

    def __init__(self, arguments: argparse.Namespace, chosen: Chosen, view: View) -> None:
        self._arguments = arguments
        self._chosen = chosen
        self._config = chosen.config
        self._view = view
        self._live = Live()
        self._notes: list[str] = []
        self._begin_s = time.monotonic()

    async def run(self) -> int:
        benchmarks = await asyncio.to_thread(self._benchmarks)
        self._config = self._suited_to(benchmarks)
        prices = Prices(self._config.endpoints, self._config.feedback.similarity_endpoint)
        async with contextlib.AsyncExitStack() as stack:
            folder, endpoints = await self._asked_of(stack)
            replies = await stack.enter_async_context(Replies(folder.replies_file))
            plan = folder.plan()
            known = await asyncio.to_thread(_known, folder, prices)
            asked = [self._asked(one, endpoints.max_model_len) for one in benchmarks]
            search, pool_key = await self._lessons(stack, folder, endpoints, replies, asked)
            judge = await self._judge(stack, asked, replies)
            wanted = self._planned(asked, pool_key, judge, plan)
            plan.write(folder.plan_file)
            evaluation = EvalRun(
                self._config, folder, endpoints, replies, await self._verifiers(stack, asked), known,
                prices=prices, search=search, judge=judge, rejudge=self._arguments.rejudge,
                progress=stack.enter_context(progress("answers", _total(wanted), self._live.words)),
            )  # fmt: skip
            asking_s, failure = await self._ask(evaluation, wanted)
            if evaluation.stopped:
                self._view.log(
                    f"stopped with {evaluation.num_done} of {_total(wanted)} answers; the same command goes on from there"
                )
                return 130
            if not known:
                first = evaluation.first_failure
                raise failure or EndpointError("evaluation", f"no problem could be answered; first failure: {first}")
            found = await asyncio.to_thread(self._report, folder, plan, known, prices)
            found = found.model_copy(update={
                "notes": [*found.notes, *self._notes, *_dropped(endpoints)], "failures": dict(evaluation.failures),
                "num_asked": replies.num_asked, "num_known": replies.num_known, "num_verdicts": evaluation.num_verdicts,
                "spent": await asyncio.to_thread(self._spent, replies, prices), "cost": self._live.cost,
                "asking_s": asking_s, "seconds": time.monotonic() - self._begin_s,
            })  # fmt: skip
            await asyncio.to_thread(self._write, folder, found)
            if failure:
                raise failure
            if evaluation.failures:
                self._view.log(f"some answers could not be had; the first failure: {evaluation.first_failure}")
            return 1 if evaluation.failures else 0

    async def _ask(
        self, evaluation: EvalRun, wanted: list[tuple[BenchmarkTasks, list[PlannedCell]]]
    ) -> tuple[float, EndpointError | None]:
        """The seconds that it took, and the failure that ended it: what was had is reported all the same."""
        begin_s = time.monotonic()
        with _stopping(evaluation.stop, self._view.log):
            try:
                await evaluation.run(wanted)
            except EndpointError as error:
                return time.monotonic() - begin_s, error
        return time.monotonic() - begin_s, None

    def _suited_to(self, benchmarks: list[_Benchmark]) -> Config:
        """The configuration with the deadlines and the verifier processes that these benchmarks need."""
        config = eval_options.patient(self._chosen, max(self._max_tokens(one, None) for one in benchmarks))
        programs = any(task.problem.form == "code" for one in benchmarks for task in one.tasks)
        return eval_options.with_workers(
            self._chosen, eval_options.unshortened(self._chosen, config), programs=programs
        )

    # What is asked

    def _benchmarks(self) -> list[_Benchmark]:
        """Each benchmark with its problems, which can be judged here."""
        config, arguments = self._config, self._arguments
        settings, seed = config.eval, config.run.seed
        found = []
        for name in settings.benchmarks:
            if name == HELD_OUT:
                heldout = load_problems(config.problems, seed).heldout
                tasks = heldout[: max(settings.num_problems, settings.limit or 0)]
                found.append(_Benchmark(name, None, sampled(tasks, name, settings.limit, seed), len(tasks)))
            else:
                known = find_benchmark(name, arguments.registry)
                tasks = tasks_of(known, arguments.data, settings.limit or 0)
                found.append(
                    _Benchmark(known.name, known, sampled(tasks, known.name, settings.limit, seed), len(tasks))
                )
        if twice := [name for name, num in Counter(one.name for one in found).items() if num > 1]:
            raise ConfigError(
                f"--benchmark names two that are called {twice[0]!r}, and a report would take them for one; name each in a file of your "
                "own (--registry), or evaluate them into folders of their own (--out)"
            )
        for one in found:
            if one.known is None or one.known.verifier != "judge":
                reward = config.reward.model_copy(update={"scorer": one.known.verifier} if one.known else {})
                check_code(config.model_copy(update={"reward": reward}), one.tasks, learns=False)
        return found

    def _max_tokens(self, one: _Benchmark, limit: int | None) -> int:
        """The longest answer; `limit` is what the endpoint takes of prompt and answer together, where it tells."""
        settings = self._config.eval
        if one.known is None:
            return settings.max_answer_tokens or settings.max_tokens
        max_tokens = settings.max_answer_tokens or one.known.max_tokens or MAX_ANSWER_TOKENS
        return max_tokens if limit is None else min(max_tokens, limit - min(limit // 2, PROMPT_TOKENS))

    def _asked(self, one: _Benchmark, limit: int | None) -> BenchmarkTasks:
        settings = self._config.eval
        max_tokens = self._max_tokens(one, limit)
        shortened = ""
        if max_tokens < (wanted := self._max_tokens(one, None)):
            shortened = f" (the endpoint takes {limit} in all)"
            self._notes.append(
                f"{one.name}: answers were limited to {max_tokens} tokens, not {wanted}: the endpoint takes {limit} of prompt and answer. "
                "Serve it with a longer context (--servers.max_model_len where the server is started here)."
            )
        self._view.log(
            f"{one.name}: {len(one.tasks)} of {one.num_all} problems, {settings.num_samples} answers each in "
            f"{', '.join(settings.modes)}, of at most {max_tokens} tokens{shortened}, at temperature {settings.sampling_temperature:g}"
        )
        if one.known:
            return BenchmarkTasks(one.name, one.tasks, max_tokens, one.known.verifier, source_of(one.known))
        held_out = digest([self._config.problems.model_dump(mode="json"), self._config.run.seed])[:12]
        return BenchmarkTasks(one.name, one.tasks, max_tokens, self._config.reward.scorer, held_out)

    def _planned(
        self, asked: list[BenchmarkTasks], pool_key: str, judge: AnswerJudge | None, plan: Plan
    ) -> list[tuple[BenchmarkTasks, list[PlannedCell]]]:
        """The cells that this command wants; they join those of `plan`."""
        wanted = []
        for one in asked:
            of_modes = [
                planned(self._config, one, mode, pool_key=pool_key, judge=judge.name if judge else "")
                for mode in self._config.eval.modes
            ]
            wanted.append((one, of_modes))
            before = {(cell.benchmark, cell.mode): cell for cell in plan.cells}
            for cell in of_modes:
                known = before.get((cell.benchmark, cell.mode))
                if known is not None and not any(cell.id == other.id for other in plan.cells):
                    self._view.log(
                        f"{cell.benchmark}, {cell.mode}: answers of another setting are in this folder; they stay, and are reported beside"
                    )
                plan.add(cell)
        return wanted

    # Who is asked

    async def _asked_of(self, stack: contextlib.AsyncExitStack) -> tuple[EvalFolder, InferenceClient]:
        """The folder, held for this evaluation, and endpoints that answer: running ones, or a server started here."""
        config = self._config
        if config.endpoints:
            endpoints = await self._checked(stack, config.endpoints)
            asked = [
                {"url": one.url, "model": one.model, "root": str(one.card.get("root") or "")}
                for one in endpoints.endpoints
            ]
            folder = self._folder(endpoints.endpoints[0].model)
            self._open(stack, folder, asked, cards=[one.card for one in endpoints.endpoints])
            return folder, endpoints
        folder = self._folder((self._arguments.run_folder or Path(config.model.path)).name)
        folder.logs.mkdir(parents=True, exist_ok=True)
        model = await resolve_model(config, RunFolder(folder.path), self._view.log)
        fingerprint = await asyncio.to_thread(model_fingerprint, model)
        self._open(stack, folder, [{"model": str(model), "weights": fingerprint}])
        run = RunFolder(folder.path)  # as far as starting servers needs one
        write_atomic(run.config_file, config.model_dump_json(indent=2))
        run.locks.mkdir(exist_ok=True)
        serving = await stack.enter_async_context(Serving(config, run, model, self._view.log))
        return folder, await self._checked(stack, serving.endpoints)

    async def _checked(self, stack: contextlib.AsyncExitStack, settings: tuple[Any, ...]) -> InferenceClient:
        # A long answer is no alert: what is waited for is named at half of its deadline.
        watchdog = Watchdog(stuck_after_s=self._config.requests.attempt_timeout_s)
        endpoints = await stack.enter_async_context(client_of(self._config, settings, watchdog=watchdog))
        for endpoint in endpoints.endpoints:
            await check_endpoint(endpoints, endpoint, training=False)
        self._live.watch(endpoints)
        return endpoints

    def _folder(self, model: str) -> EvalFolder:
        name = re.sub(r"[^\w.-]+", "-", model).strip("-.") or "model"
        return EvalFolder(self._arguments.out or Path("evals") / name)

    def _open(
        self, stack: contextlib.AsyncExitStack, folder: EvalFolder, asked: list[dict[str, str]], **known: Any
    ) -> None:
        arguments, config = self._arguments, self._config
        stack.enter_context(folder.opened(asked, fresh=arguments.fresh, moved=arguments.moved, **known))
        folder.logs.mkdir(exist_ok=True)
        secrets = {*secrets_of(config), os.environ.get(arguments.judge_key_env, "")} - {""}
        logs.configure(folder.logs / "eval.log", config.operations, secrets)

    async def _lessons(
        self, stack: contextlib.AsyncExitStack, folder: EvalFolder, endpoints: InferenceClient, replies: Replies, asked: list[BenchmarkTasks]
    ) -> tuple[LessonSearch | None, str]:  # fmt: skip
        """A search of the lessons that this folder began with, after a look that they hold nothing of what is asked; and their identity."""
        config = self._config
        if "retrieval" not in config.eval.modes:
            return None, ""
        source = self._arguments.pool_run or self._arguments.run_folder
        if source is None:
            raise ConfigError(
                "--mode retrieval needs lessons; name the run whose pool holds them with --pool RUN, or a file"
            )
        copy = await asyncio.to_thread(copied, source, folder.lessons, self._view.log)
        await asyncio.to_thread(check_pool, copy.pool, [task for one in asked for task in one.tasks])
        self._view.log(f"lessons: {copy.words}; other lessons need another --out")
        measured = endpoints
        if (settings := config.feedback.similarity_endpoint) is not None:
            measured = await stack.enter_async_context(client_of(config, (settings,)))
            self._live.watch(measured)
            if config.feedback.similarity == "embedding":
                await check_embeddings(measured, measured.endpoints[0])
        kept = cast(InferenceClient, CachedClient(measured, replies))  # all of it that a measure asks
        return LessonSearch(retriever_of(config, copy.pool, kept)), copy.key

    async def _verifiers(self, stack: contextlib.AsyncExitStack, asked: list[BenchmarkTasks]) -> dict[str, Verifier]:
        """By the scorer that they stand for; a judge is none of them."""
        reward, found = self._config.reward, {}
        for scorer in sorted({one.scorer for one in asked} - {"judge"}):
            verifier = Verifier(reward.model_copy(update={"scorer": scorer}))
            found[scorer] = await stack.enter_async_context(verifier)
        return found

    async def _judge(
        self, stack: contextlib.AsyncExitStack, asked: list[BenchmarkTasks], replies: Replies
    ) -> AnswerJudge | None:
        """The judge, after its agreement with labelled answers was shown."""
        settings = judge_of(self._arguments)
        if settings is None:
            if undecided := [one.name for one in asked if one.scorer == "judge"]:
                raise ConfigError(f"an LLM judges the answers of {', '.join(undecided)}; name one with --judge URL")
            return None
        pool = await stack.enter_async_context(judge_endpoint(settings, self._config.requests))
        self._live.watch(pool)
        judge = AnswerJudge(pool, kept=partial(replies.ask, stage="judge"))
        self._view.log(f"{judge.name}, {(await agreement(judge)).line()}")
        return judge

    # What came of it

    def _report(self, folder: EvalFolder, plan: Plan, known: Mapping[str, Scored], prices: Prices) -> BenchmarkReport:
        compare: Path | None = self._arguments.compare
        scorers = {str(cell.settings["scorer"]) for cell in plan.cells}
        return report(
            folder.path.name,
            plan.cells,
            known,
            folder.failures(),
            versions={scorer: verifier_version(scorer) for scorer in scorers},
            priced=prices.given,
            other=_other(compare, prices) if compare else None,
        )

    def _spent(self, replies: Replies, prices: Prices) -> list[Any]:
        judge = judge_of(self._arguments)
        priced = {"judge": Prices([judge] if judge else [])}
        return [spent.priced(priced.get(spent.stage, prices)) for spent in replies.spent()]

    def _write(self, folder: EvalFolder, found: BenchmarkReport) -> None:
        write_atomic(folder.report_file, found.model_dump_json(indent=1))
        write_atomic(folder.page_file, page(found))
        print(page(found))
        plot_accuracy(found, folder.accuracy_plot)
        plot_compute(found, folder.compute_plot)
        self._view.log(
            f"every answer with its prompts, verdict and trace, the report and two plots are in {folder.path}"
        )


def _total(wanted: list[tuple[BenchmarkTasks, list[PlannedCell]]]) -> int:
    return sum(number for asked, of_modes in wanted for cell in of_modes for _, number in cell.wanted.values())


def _known(folder: EvalFolder, prices: Prices) -> dict[str, Scored]:
    return {answer.key: scored(answer, prices) for answer in folder.answers()}


def _other(path: Path, prices: Prices) -> Other:
    folder = EvalFolder(path)
    return Other(folder.path.name, cells(folder.plan().cells, _known(folder, prices), folder.failures()))


def _dropped(endpoints: InferenceClient) -> list[str]:
    """What the endpoints refused to be told, and so sampled as they please."""
    return [
        f"{one.url} refuses {', '.join(sorted(one.dialect.dropped))}: its answers are sampled with its own value"
        for one in endpoints.endpoints
        if one.dialect.dropped
    ]


@contextlib.contextmanager
def _stopping(stop: Callable[[], None], log: Callable[[str], None]) -> Any:
    """The first Ctrl-C or SIGTERM lets requests in flight end, so that what is paid for is kept; the second one ends at once."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    asked_before = False

    def on_signal() -> None:
        nonlocal asked_before
        if asked_before:
            task.cancel()
            return
        asked_before = True
        log("stopping: what is in flight is waited for and kept (again: dropped)")
        stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
