"""`eval`: benchmarks × inference modes, of a run's final model, any model, or any endpoint. The same command goes on where it was."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import event_loop
from pipeline.benchmark import Benchmark, benchmark, items
from pipeline.code_checks import check_code
from pipeline.commands.run_pool import open_run
from pipeline.config import Config
from pipeline.contamination import check_pool
from pipeline.endpoint_checks import check_embeddings, check_endpoint
from pipeline.endpoints import EndpointPool, pool_of
from pipeline.errors import ConfigError, EndpointError, RunFolderError
from pipeline.eval_folder import Answered, EvalFolder
from pipeline.eval_page import page
from pipeline.eval_plots import plot_accuracy, plot_compute
from pipeline.eval_report import BenchmarkReport, report
from pipeline.eval_run import Asked, EvalRun
from pipeline.judge import AnswerJudge, agreement
from pipeline.judge_endpoint import judge_endpoint
from pipeline.pool import Pool
from pipeline.problems import load_problems
from pipeline.progress import progress
from pipeline.provenance import model_fingerprint
from pipeline.records import Task
from pipeline.replies import Replies
from pipeline.retrieval import Retriever, retriever_of
from pipeline.rewards import Verifier
from pipeline.run import RunFolder, write_atomic
from pipeline.serving import Serving, resolve_model
from pipeline.settings import load_config, merged, validated
from pipeline.usage import Usage
from pipeline.view import View

HELD_OUT = "heldout"
MAX_ANSWER_TOKENS = 4096
"""Longest answer where neither the benchmark nor the user says."""
PROMPT_ROOM = 2048
"""Tokens of a context window left to the prompt, half of a smaller window."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that name what is evaluated; all other settings are fields of the configuration."""
    add = parser.add_argument
    add("--run-folder", type=Path, metavar="RUN", help="the final model of this run, with its configuration")
    add("--endpoint", metavar="URL", help="an endpoint that runs already (`endpoints` names several, with prices)")
    add("--model", dest="model_there", metavar="M", help="model name there; default: the only one that it serves")
    add("--api-key-env", metavar="NAME", help="environment variable that holds its key")
    add("--concurrency", type=int, metavar="C", help="most requests in flight there (default 128)")
    add("--benchmark", metavar="A,B", help=f"names, .jsonl files, reasoning_gym:FAMILY; default: {HELD_OUT}")
    add("--mode", metavar="A,B", help="zero-shot, retrieval, reflect; default: zero-shot")
    add("--n", type=int, metavar="N", help="answers to each problem in each mode: avg@n, pass@k and maj@k (default 1)")
    add("--limit", type=int, metavar="N", help="most problems of a benchmark, a seeded sample; default: all")
    add("--max-tokens", type=int, metavar="N", help="longest answer; default: what the benchmark suggests")
    add("--temperature", type=float, metavar="T", help="default: 0 for one answer, else 1")
    add(
        "--pool",
        dest="pool_run",
        type=Path,
        metavar="RUN",
        help="retrieval: the pool of this run; default: that of --run-folder",
    )
    add("--registry", type=Path, metavar="FILE", help="benchmarks of your own, as in pipeline/benchmarks.toml")
    add("--data", type=Path, metavar="DIR", help="folder of <benchmark>.jsonl files, used in place of the hub")
    add(
        "--judge",
        metavar="URL",
        help="have an LLM judge every answer too; its agreement with labelled answers is shown",
    )
    add("--judge-model", default="", metavar="M", help="its model; default: the only one that it serves")
    add("--judge-key-env", default="", metavar="NAME", help="environment variable that holds its key")
    add("--compare", type=Path, metavar="DIR", help="compare with the evaluation in this folder, problem by problem")
    add("--out", type=Path, metavar="DIR", help="folder of the evaluation; default: evals/<model>")
    add("--fresh", action="store_true", help="throw away what the folder holds, and ask everything anew")


def overrides_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What these options say of the configuration. Raises ConfigError."""
    if arguments.run_folder and arguments.endpoint:
        raise ConfigError("--run-folder serves its own model, --endpoint names another; give one of them")
    settings = {
        "benchmarks": _listed(arguments.benchmark),
        "modes": _listed(arguments.mode),
        "num_samples": arguments.n,
        "limit": arguments.limit,
        "max_answer_tokens": arguments.max_tokens,
        "temperature": arguments.temperature,
    }
    overrides: dict[str, Any] = {"eval": {name: value for name, value in settings.items() if value is not None}}
    if arguments.endpoint:
        endpoint = {
            "url": arguments.endpoint,
            "model": arguments.model_there,
            "api_key_env": arguments.api_key_env,
            "max_concurrency": arguments.concurrency,
        }
        overrides["endpoints"] = [{name: value for name, value in endpoint.items() if value is not None}]
        if arguments.model_there is None:
            overrides["model"] = {"name": ""}
    else:
        for option, value in (
            ("--model", arguments.model_there),
            ("--api-key-env", arguments.api_key_env),
            ("--concurrency", arguments.concurrency),
        ):
            if value is not None:
                raise ConfigError(f"{option} {value} says how --endpoint is asked; name it too")
    return overrides


def _listed(value: str | None) -> list[str] | None:
    return None if value is None else [name.strip() for name in value.split(",") if name.strip()]


def evaluate_command(arguments: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Evaluate; print the report, write it and the plots. The status is 1 while some answers could not be had."""
    config = _config(arguments, overrides)
    view = View(0, live=False)
    name = config.endpoints[0].model if config.endpoints else (arguments.run_folder or Path(config.model.path)).name
    folder = EvalFolder(arguments.out or Path("evals") / (re.sub(r"[^\w.-]+", "-", name).strip("-.") or "model"))
    folder.logs.mkdir(parents=True, exist_ok=True)
    return event_loop.run(_Evaluation(arguments, config, folder, view).run())


def _config(arguments: argparse.Namespace, overrides: dict[str, Any]) -> Config:
    overrides = merged(overrides, overrides_of(arguments))
    if arguments.run_folder is None:
        base = {"feedback": _feedback_of(arguments.pool_run)} if arguments.pool_run else {}
        return load_config(arguments.config, merged(base, overrides))
    run = RunFolder.open(arguments.run_folder)
    if not run.final_model.exists():
        raise RunFolderError(
            f"{arguments.run_folder} has no final model yet; continue it with `train --resume {arguments.run_folder}`"
        )
    stored = merged(run.config().model_dump(mode="json"), {"model": {"path": str(run.final_model.resolve())}})
    return validated(merged(stored, overrides))


def _feedback_of(run: Path) -> dict[str, Any]:
    """How the run of a pool finds lessons is how they are found for an evaluation, unless told otherwise."""
    return RunFolder.open(run).config().feedback.model_dump(mode="json")


class _Lessons(NamedTuple):
    pool: Pool
    retriever: Retriever
    key: str


class _Evaluation:
    """Wires the parts of one evaluation, top to bottom."""

    def __init__(self, arguments: argparse.Namespace, config: Config, folder: EvalFolder, view: View) -> None:
        self._arguments = arguments
        self._config = config
        self._folder = folder
        self._view = view
        self._begin_s = time.monotonic()

    async def run(self) -> int:
        config, folder, arguments = self._config, self._folder, self._arguments
        benchmarks = await asyncio.to_thread(self._benchmarks)
        async with contextlib.AsyncExitStack() as stack:
            model = None if config.endpoints else await resolve_model(config, self._run_folder(), self._view.say)
            identity = await asyncio.to_thread(self._identity, model)
            stack.enter_context(folder.opened(identity, fresh=arguments.fresh))
            folder.logs.mkdir(exist_ok=True)
            endpoints = await self._endpoints(stack, model)
            asked = self._asked(benchmarks, endpoints)
            lessons = await self._lessons(stack, endpoints, [task for one in asked for task in one.tasks])
            scorers = {one.scorer for one in asked} - {"judge"}
            verifiers = {scorer: await stack.enter_async_context(self._verifier(scorer)) for scorer in sorted(scorers)}
            replies = await stack.enter_async_context(Replies(folder.replies_file))
            judge = await self._judge(stack, asked, replies)
            total = len(config.eval.modes) * config.eval.num_samples * sum(len(one.tasks) for one in asked)
            tell = stack.enter_context(progress("answers", total, _spent(endpoints.usage)))
            evaluation = EvalRun(
                config, folder, endpoints, replies, verifiers, progress=tell, judge=judge,
                retriever=lessons.retriever if lessons else None, pool_key=lessons.key if lessons else "",
            )  # fmt: skip
            asking_s = time.monotonic()
            with _stopping(evaluation.stop, self._view.say):
                answers = await evaluation.run(asked)
            asking_s = time.monotonic() - asking_s
            if evaluation.stopped:
                self._view.say(f"stopped with {len(answers)} of {total} answers; the same command goes on from there")
                return 130
            if not answers:
                raise EndpointError(
                    "evaluation", f"no problem could be answered; the first failure: {evaluation.first_failure}"
                )
            found = self._report(asked, answers).model_copy(update={
                "failures": dict(evaluation.failures), "num_asked": replies.num_asked, "num_known": replies.num_known,
                "cost": endpoints.usage.cost(), "asking_s": asking_s, "seconds": time.monotonic() - self._begin_s,
            })  # fmt: skip
            await asyncio.to_thread(self._write, found)
            if evaluation.failures:
                self._view.say(f"some answers could not be had; the first failure: {evaluation.first_failure}")
            return 1 if any(row.num_missing for row in found.rows) else 0

    def _report(self, asked: list[Asked], answers: list[Answered]) -> BenchmarkReport:
        compare: Path | None = self._arguments.compare
        return report(
            self._folder.path.name,
            answers,
            num_wanted={one.name: len(one.tasks) * self._config.eval.num_samples for one in asked},
            other=list(EvalFolder(compare).answers()) if compare else [],
            other_name=compare.name if compare else "",
            without_votes=[one.name for one in asked if any(task.problem.form == "code" for task in one.tasks)],
        )

    def _write(self, found: BenchmarkReport) -> None:
        folder = self._folder
        write_atomic(folder.report_file, found.model_dump_json(indent=1))
        write_atomic(folder.page_file, page(found))
        print(page(found))
        plot_accuracy(found, folder.accuracy_plot)
        plot_compute(found, folder.compute_plot)
        self._view.say(
            f"every answer with its prompts, verdict and trace, the report and two plots are in {folder.path}"
        )

    def _run_folder(self) -> RunFolder:
        """A run folder as far as starting servers needs one."""
        run = RunFolder(self._folder.path)
        write_atomic(run.config_file, self._config.model_dump_json(indent=2))
        run.locks.mkdir(exist_ok=True)
        return run

    def _benchmarks(self) -> list[tuple[Benchmark | None, list[Task]]]:
        """Each benchmark with its problems, which can be judged here; None stands for the run's own, held out from training."""
        config, arguments = self._config, self._arguments
        found: list[tuple[Benchmark | None, list[Task]]] = []
        for name in config.eval.benchmarks:
            if name == HELD_OUT:
                heldout = load_problems(config.problems, config.run.seed).heldout
                found.append((None, heldout[: config.eval.limit or config.eval.num_problems]))
            else:
                one = benchmark(name, arguments.registry)
                found.append((one, items(one, config.eval.limit, config.run.seed, data=arguments.data)))
        for chosen, tasks in found:
            if chosen is None or chosen.verifier != "judge":
                reward = config.reward.model_copy(update={"scorer": chosen.verifier} if chosen else {})
                check_code(config.model_copy(update={"reward": reward}), tasks, learns=False)
        return found

    def _asked(self, benchmarks: list[tuple[Benchmark | None, list[Task]]], endpoints: EndpointPool) -> list[Asked]:
        settings, limit = self._config.eval, endpoints.max_model_len
        asked = []
        for one, tasks in benchmarks:
            if one is None:
                max_tokens = settings.max_answer_tokens or settings.max_tokens
                asked.append(Asked(HELD_OUT, tasks, max_tokens, self._config.reward.scorer))
                continue
            max_tokens = settings.max_answer_tokens or one.max_tokens or MAX_ANSWER_TOKENS
            if limit is not None and max_tokens > limit - min(limit // 2, PROMPT_ROOM):
                max_tokens = limit - min(limit // 2, PROMPT_ROOM)
                self._view.say(
                    f"{one.name}: answers of at most {max_tokens} tokens, because the endpoint takes {limit} in all"
                )
            asked.append(Asked(one.name, tasks, max_tokens, one.verifier))
        return asked

    def _identity(self, model: Path | None) -> dict[str, Any]:
        """Who is asked: an endpoint by address and model name, a model of our own by what is in its folder."""
        if model is None:
            return {"asked": [[endpoint.base_url, endpoint.model] for endpoint in self._config.endpoints]}
        return {"asked": [[str(model), model_fingerprint(model)]]}

    async def _endpoints(self, stack: contextlib.AsyncExitStack, model: Path | None) -> EndpointPool:
        serving = await stack.enter_async_context(Serving(self._config, self._run_folder(), model, self._view.say))
        endpoints = await stack.enter_async_context(pool_of(self._config, serving.endpoints))
        for endpoint in endpoints.endpoints:
            await check_endpoint(endpoints, endpoint, training=False)
        return endpoints

    async def _lessons(
        self, stack: contextlib.AsyncExitStack, endpoints: EndpointPool, tasks: list[Task]
    ) -> _Lessons | None:
        """The pool at the version that this folder began with, after a look that it holds nothing of `tasks`."""
        config = self._config
        if "retrieval" not in config.eval.modes:
            return None
        run = self._arguments.pool_run or self._arguments.run_folder
        if run is None:
            raise ConfigError("--mode retrieval needs lessons; name the run whose pool holds them with --pool RUN")
        pool = await asyncio.to_thread(self._pinned, run)
        await asyncio.to_thread(check_pool, pool, tasks)
        measured = endpoints
        if (settings := config.feedback.similarity_endpoint) is not None:
            measured = await stack.enter_async_context(pool_of(config, (settings,)))
            if config.feedback.similarity == "embedding":
                await check_embeddings(measured, measured.endpoints[0])
        return _Lessons(pool, retriever_of(config, pool, measured), f"{run.resolve()}@{pool.version}")

    def _pinned(self, run: Path) -> Pool:
        """The pool as it was when the evaluation in this folder began: kept by a pin, so that going on finds the same lessons."""
        parts = open_run(run)
        name = f"eval-{re.sub(r'[^A-Za-z0-9]+', '-', str(self._folder.path)).strip('-')}"
        if self._arguments.fresh or name not in parts.pool.pins:
            parts.pool.pin(name)
        self._view.say(
            f"lessons: {parts.pool.num_entries()} in the pool of {run}, kept as they are under the pin {name}"
        )
        return Pool(parts.run.store, parts.config.pool, version=name)

    def _verifier(self, scorer: str) -> Verifier:
        return Verifier(self._config.reward.model_copy(update={"scorer": scorer}))

    async def _judge(
        self, stack: contextlib.AsyncExitStack, asked: list[Asked], replies: Replies
    ) -> AnswerJudge | None:
        """The judge, after its agreement with labelled answers was shown."""
        arguments = self._arguments
        if not arguments.judge:
            if undecided := [one.name for one in asked if one.scorer == "judge"]:
                raise ConfigError(f"an LLM judges the answers of {', '.join(undecided)}; name one with --judge URL")
            return None
        pool = await stack.enter_async_context(
            judge_endpoint(arguments.judge, arguments.judge_model, arguments.judge_key_env, self._config.requests)
        )
        judge = AnswerJudge(pool, kept=replies.ask)
        self._view.say(f"{judge.name}, {(await agreement(judge)).line()}")
        return judge


def _spent(usage: Usage) -> Callable[[], str]:
    """Words for what was spent so far."""

    def words() -> str:
        prompt, completion = usage.total("prompt_tokens"), usage.total("completion_tokens")
        cost = usage.cost()
        return f", {prompt:,} + {completion:,} tokens" + (f", cost {cost:.4f}" if cost else "")

    return words


@contextlib.contextmanager
def _stopping(stop: Callable[[], None], say: Callable[[str], None]) -> Any:
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
        say("stopping: what is in flight is waited for and kept (again: dropped)")
        stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
