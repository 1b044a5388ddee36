"""Judges the answers of an evaluation anew: `eval --rejudge`.

Invariants: no model is asked, but a judge that is named; every answer keeps a verdict, its former one where its problem
or its judge cannot be had; a new verdict joins the file before the former one leaves it, so that a command that is
stopped leaves some of either, and the next one does the rest.

| waits | for | woken by |
|---|---|---|
| a worker | the verdict on its answer | verifier, judge |
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from itertools import islice
from typing import NamedTuple

from pipeline.config.judge import JUDGE
from pipeline.errors import RunFolderError
from pipeline.evaluation.benchmarks import HELD_OUT
from pipeline.evaluation.defaults import with_workers
from pipeline.evaluation.folder import Answered, EvalFolder
from pipeline.evaluation.judging import opened_judge
from pipeline.evaluation.model_session import EvalOptions, Outcome, folder_of
from pipeline.evaluation.plan import PlannedCell, labels
from pipeline.evaluation.report import BenchmarkReport, Change, Regraded, report
from pipeline.evaluation.results import cell_name, scored_answers
from pipeline.evaluation.session import compared, write_reports
from pipeline.evaluation.stored import StoredTasks
from pipeline.inference.reply_cache import ReplyCache
from pipeline.inference.usage import Prices
from pipeline.observability.progress import progress
from pipeline.rewards.judge.model import AnswerJudge, own_rules
from pipeline.rewards.verifier import Verifier
from pipeline.rewards.version import verifier_version
from pipeline.types import Task, Verdict

WORKERS_PER_PROCESS = 4
"""Answers at hand for each verifier process: bounds the texts in memory."""
JUDGED_AT_ONCE = 32


class _Scorers(NamedTuple):
    """Who judges the answers of a cell; None where nobody can."""

    verifier: Verifier | None
    judge: AnswerJudge | None


class Regrade:
    """Judges every answer of a folder anew. `log` takes what the user should read on the way, `warn` what needs a
    look."""

    def __init__(self, options: EvalOptions, log: Callable[[str], None], warn: Callable[[str], None]) -> None:
        self._options = options
        self._config = options.config
        self._log = log
        self._warn = warn
        self._stack = AsyncExitStack()
        self._scorers: dict[str, _Scorers] = {}
        self._cells: dict[str, PlannedCell] = {}
        self._versions: dict[str, str] = {}
        """By scorer, those of today."""
        self._found: dict[str, Regraded] = {}
        self._num_done = 0
        self._begin_s = time.monotonic()

    async def run(self) -> Outcome[BenchmarkReport]:
        """Raises ConfigError, RunFolderError, and EndpointError for a judge that fails."""
        async with self._stack:
            return await self._regraded()

    async def _regraded(self) -> Outcome[BenchmarkReport]:
        folder = self._folder()
        self._stack.enter_context(folder.held())
        self._cells = {cell.id: cell for cell in folder.plan().cells}
        scorers = {str(cell.settings["scorer"]) for cell in self._cells.values()}
        self._versions = {scorer: verifier_version(scorer) for scorer in scorers}
        tasks = await asyncio.to_thread(self._tasks)
        last = {answer.key: number for number, answer in enumerate(folder.answers())}
        num_lines = max(last.values(), default=-1) + 1
        replies = await self._stack.enter_async_context(ReplyCache(folder.replies_file))
        judge, prices = await self._judge(replies)
        await self._open_scorers(judge)
        report_done = self._stack.enter_context(progress("verdicts", len(last)))
        # What is appended meanwhile is beyond these lines.
        lines = enumerate(islice(folder.answers(), num_lines))
        left = (answer for number, answer in lines if last[answer.key] == number)
        folder.make_logs()
        begin_s = time.monotonic()
        num_workers = JUDGED_AT_ONCE if judge else WORKERS_PER_PROCESS * self._config.reward.num_workers
        async with asyncio.TaskGroup() as workers:
            for _ in range(num_workers):
                workers.create_task(self._work(left, tasks, folder, report_done))
        await asyncio.to_thread(folder.drop_superseded)
        paid = Prices(self._config.endpoints)
        found = await asyncio.to_thread(
            report,
            folder.path.name,
            list(self._cells.values()),
            await asyncio.to_thread(scored_answers, folder, paid),
            folder.failures(),
            versions=self._versions,
            priced=paid.given,
            other=compared(self._options.compare, Prices()) if self._options.compare else None,
            regraded=list(self._found.values()),
            num_asked=replies.num_requests,
            num_known=replies.num_cached,
            num_verdicts=sum(one.num_judged for one in self._found.values()),
            spent=[one.priced(prices if one.stage == JUDGE else paid) for one in replies.spent()],
            asking_s=time.monotonic() - begin_s,
            seconds=time.monotonic() - self._begin_s,
        )
        await asyncio.to_thread(write_reports, folder, found)
        return Outcome(folder, found)

    def _folder(self) -> EvalFolder:
        """The evaluation that is judged anew. Raises RunFolderError where there is none."""
        served = next((one.model or self._config.model.name for one in self._config.endpoints), "")
        folder = folder_of(self._options, served or self._options.model_name, EvalFolder)
        if not folder.plan().cells:
            raise RunFolderError(
                f"--rejudge: there is no evaluation in {folder.path}; name its folder with --out, as `eval` printed it"
            )
        return folder

    def _tasks(self) -> StoredTasks:
        given = self._options.explicit.get("eval", {}).get("benchmarks", ())
        options = self._options
        return StoredTasks.of(
            list(self._cells.values()), self._config, given=given, registry=options.registry, data=options.data,
            warn=self._warn,
        )  # fmt: skip

    async def _judge(self, replies: ReplyCache) -> tuple[AnswerJudge | None, Prices]:
        """The judge that is named, or that a run's rewards are given by where its answers are judged; and what it
        costs."""
        decides = any(cell.settings.get("scorer") == JUDGE for cell in self._cells.values())
        own = self._config.reward.judge_endpoint if decides else None
        if (settings := self._options.judge or own) is None:
            if decides:
                self._warn("an LLM judged some of these answers; they keep their verdicts unless --judge URL names one")
            return None, Prices()
        opening = opened_judge(settings, self._config.requests, replies, self._log, self._warn)
        judge, _ = await self._stack.enter_async_context(opening)
        return judge, Prices([settings])

    async def _open_scorers(self, judge: AnswerJudge | None) -> None:
        """For each cell; those of one scorer and threshold share their processes."""
        programs = any(not cell.votes for cell in self._cells.values())
        reward = with_workers(self._config, self._options.explicit, programs=programs).reward
        rules = own_rules(reward)
        verifiers: dict[tuple[str, float], Verifier] = {}
        for cell in self._cells.values():
            scorer, threshold = str(cell.settings["scorer"]), float(cell.settings["threshold"])
            decides = judge
            if judge is not None and cell.benchmark == HELD_OUT and scorer == JUDGE and rules.by_rubric:
                decides = judge.by(rules)
            if scorer != JUDGE and (scorer, threshold) not in verifiers:
                settings = reward.model_copy(update={"scorer": scorer, "scorers": (), "threshold": threshold})
                verifiers[scorer, threshold] = await self._stack.enter_async_context(Verifier(settings))
            self._scorers[cell.id] = _Scorers(verifiers.get((scorer, threshold)), decides)

    async def _work(
        self, left: Iterator[Answered], tasks: StoredTasks, folder: EvalFolder, report_done: Callable[[int], None]
    ) -> None:
        for answer in left:
            cell = self._cells[answer.cell]
            version = self._versions[str(cell.settings["scorer"])]
            task = tasks.find(answer)
            now = await self._judged(answer, task, cell) if task else None
            self._note(answer, now, cell, version)
            if now is not None and (now != answer or answer.verifier != version):
                folder.append(now.model_copy(update={"verifier": version}))
            self._num_done += 1
            report_done(self._num_done)

    async def _judged(self, answer: Answered, task: Task, cell: PlannedCell) -> Answered | None:
        """`answer` with verdicts of today; None where nobody can judge it."""
        scorers = self._scorers[cell.id]
        text = answer.judged_text(cell)
        judged: Verdict | None = None
        if scorers.judge is not None and (scorers.verifier is None or task.label.answer.strip()):
            judged = await scorers.judge.verify(task.problem, text, task.label)
        if scorers.verifier is not None:
            verdict = await scorers.verifier.verify(text, task)
        elif judged is not None and not judged.failed:
            verdict = judged
        else:
            return None
        if judged is None or scorers.judge is None:
            return answer.model_copy(update={"verdict": verdict})
        return answer.model_copy(update={"verdict": verdict, "judged": judged, "judge": scorers.judge.name})

    def _note(self, before: Answered, now: Answered | None, cell: PlannedCell, version: str) -> None:
        one = self._found.get(cell.id)
        if one is None:
            name = cell_name(cell.mode, labels(list(self._cells.values()))[cell.id])
            one = self._found[cell.id] = Regraded(
                benchmark=cell.benchmark, name=name, versions=[], version=version, num_judged=0, num_kept=0, changes=[]
            )
        if now is None:
            one.num_kept += 1
            return
        one.num_judged += 1
        if before.verifier not in one.versions:
            one.versions.append(before.verifier)
        if now.verdict != before.verdict:
            one.changes.append(
                Change(
                    problem_id=before.problem_id,
                    sample=before.sample,
                    before=_shown(before.verdict),
                    now=_shown(now.verdict),
                    correct=now.verdict.correct,
                    was_correct=before.verdict.correct,
                )
            )


def _shown(verdict: Verdict) -> str:
    """A verdict in a few words."""
    if verdict.kind != "scored":
        return verdict.kind
    return f"{'right' if verdict.correct else 'wrong'}: {verdict.answer}"
