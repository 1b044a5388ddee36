"""One session of an evaluation: opens its folder and its endpoints, answers what the plan still lacks, writes the
report."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.errors import ConfigError, EndpointError, RunFolderError
from pipeline.evaluation.benchmarks import fitted, load_benchmarks
from pipeline.evaluation.comparison import Other
from pipeline.evaluation.cost import cost_of, failed_attempts, spending
from pipeline.evaluation.defaults import adapted
from pipeline.evaluation.folder import EvalFolder
from pipeline.evaluation.judging import opened_judge
from pipeline.evaluation.lessons import LessonSearch
from pipeline.evaluation.markdown import page
from pipeline.evaluation.model_session import EvalOptions, ModelSession, Outcome, with_remedy
from pipeline.evaluation.plan import BenchmarkCells, BenchmarkTasks, Plan, planned
from pipeline.evaluation.plots import plot_accuracy, plot_compute
from pipeline.evaluation.report import BenchmarkReport, report
from pipeline.evaluation.results import cells, scored_answers
from pipeline.evaluation.runner import EvalRun, Scoring
from pipeline.hashing import digest
from pipeline.inference.client import InferenceClient
from pipeline.inference.reply_cache import ReplyCache
from pipeline.inference.usage import Prices
from pipeline.observability.progress import progress
from pipeline.rewards.judge.model import AnswerJudge, own_rules
from pipeline.rewards.verifier import Verifier
from pipeline.rewards.version import verifier_version


class EvaluationSession(ModelSession[BenchmarkReport]):
    """Wires the parts of one evaluation, top to bottom."""

    folder_type = EvalFolder

    def __init__(self, options: EvalOptions, log: Callable[[str], None], warn: Callable[[str], None]) -> None:
        super().__init__(options, log, warn)
        self._judge_prices = Prices()
        self._own_rules = own_rules(self._config.reward)
        self._notes: list[str] = []

    async def _done(self) -> Outcome[BenchmarkReport]:
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
                failure = with_remedy(failure, kept)
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

    # Who answers, beside the model

    async def _lessons(
        self, folder: EvalFolder, client: InferenceClient, replies: ReplyCache, benchmarks: Sequence[BenchmarkTasks]
    ) -> tuple[LessonSearch | None, str]:
        """The search for mode retrieval, and the identity of its lessons. Raises ConfigError where none are named,
        DataError."""
        if "retrieval" not in self._config.eval.modes:
            return None, ""
        if (source := self._options.lessons) is None:
            raise ConfigError(
                "--mode retrieval needs lessons; name the run whose pool holds them with --pool RUN, or a file"
            )
        return await self._search(source, folder, client, replies, benchmarks)

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
