"""Gives verdicts on answers, from worker processes that are killed when they overrun, and the rewards that follow from
them.

Invariants: every `verify` returns exactly one verdict; a failing verifier yields 'timeout' or 'error', never 'scored';
a worker that died or was killed is replaced, and the answers that wait go to the next one; leaving the context leaves
no process.

| loop | waits for | woken by |
|---|---|---|
| `verify` | space in the queue, then its verdict | a worker's loop |
| `_serve`, one a worker | jobs; then replies, `timeout_s` each at most | `verify`; the worker's pipe; the clock |
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import orjson

from pipeline.config.rollout import RewardSection
from pipeline.errors import ConfigError, ProcessEndedError
from pipeline.runtime.child_process import Process
from pipeline.runtime.plugins import is_plugin
from pipeline.types import FAILED, Task, Verdict

# Answers waiting per worker: bounds the texts held twice. More callers wait in `verify`.
QUEUE_PER_WORKER = 64
# Longest wait for a worker's imports, seconds. Generous: a server may be compiling beside it on the same two cores.
START_TIMEOUT_S = 180.0
MAX_REPLY_BYTES = 1 << 20
MAX_LOG_BYTES = 1 << 20
# What an asynchronous scorer's own deadline has before its process is killed.
ASYNC_GRACE_S = 1.0
# What a worker has to end by itself after its pipe is closed: its own exit status tells more than that of a kill.
END_GRACE_S = 2.0
MAX_SAID_CHARS = 300

logger = logging.getLogger(__name__)


def rewards_of(verdicts: Sequence[Verdict]) -> list[float]:
    """The reward of each verdict of a group. An answer without a judgement has the least of its group, 0 at most: to
    bring a scorer down never pays."""
    least = min((verdict.score for verdict in verdicts if verdict.kind not in FAILED), default=0.0)
    return [min(0.0, least) if verdict.kind in FAILED else verdict.score for verdict in verdicts]


@dataclass
class _Job:
    """Answers to one problem; they go to one worker together, because a hand-over costs as much as an easy verdict."""

    texts: list[str]
    task: Task
    verdicts: asyncio.Future[list[Verdict]]


class _Batch:
    """Jobs that a worker has at hand together, with their verdicts in the order of the answers."""

    def __init__(self, jobs: list[_Job], *, with_rows: bool) -> None:
        self.jobs = jobs
        self.verdicts: list[Verdict] = []
        self._excluded: Any = {"solution": True} if with_rows else {"solution": True, "label": {"row"}}

    @property
    def num_left(self) -> int:
        return sum(len(job.texts) for job in self.jobs) - len(self.verdicts)

    def request(self) -> bytes:
        """The answers without a verdict."""
        jobs, num_done = [], len(self.verdicts)
        for job in self.jobs:
            if texts := job.texts[num_done:]:
                jobs.append({"texts": texts, "task": job.task.model_dump(exclude=self._excluded)})
            num_done = max(0, num_done - len(job.texts))
        # json, not orjson: gold answers may be integers of any length. A row may hold dates and whatever else.
        return json.dumps({"jobs": jobs}, default=str).encode() + b"\n"

    def settle(self) -> None:
        """Give each job its verdicts."""
        first = 0
        for job in self.jobs:
            if not job.verdicts.done():
                job.verdicts.set_result(self.verdicts[first : first + len(job.texts)])
            first += len(job.texts)

    def fail(self, error: ConfigError) -> None:
        for job in self.jobs:
            if not job.verdicts.done():
                job.verdicts.set_exception(error)


@dataclass
class _Worker:
    """`wishes` are what it said of how answers should come."""

    process: Process
    errors: IO[bytes]
    wishes: dict[str, Any]

    def last_errors(self) -> str:
        self.errors.seek(0, os.SEEK_END)
        self.errors.seek(max(0, self.errors.tell() - 2000))
        return self.errors.read().decode(errors="replace").strip()

    async def last_words(self) -> str:
        """How it ended, once it has closed its pipe. It may need a moment to be gone; one that stays is killed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(END_GRACE_S):
                await self.process.wait()
        status = self.process.returncode
        said = last_lines(self.last_errors())
        await self.process.end()
        how = "it closed the pipe that rewards go through" if status is None else f"its process ended (status {status})"
        return f"{how}: {said}" if said else how

    def trim_log(self) -> None:
        """Empty the log when it is long: a scorer that prints would fill the disk."""
        if os.fstat(self.errors.fileno()).st_size > MAX_LOG_BYTES:
            self.errors.truncate(0)

    async def end(self) -> None:
        """Kill and reap, also when cancelled meanwhile."""
        try:
            await self.process.end()
        finally:
            self.errors.close()


class Verifier:
    """`async with Verifier(settings) as verifier: verdict = await verifier.verify(text, task)`."""

    def __init__(self, settings: RewardSection) -> None:
        self._settings = settings
        self._with_rows = any(is_plugin(one.scorer) for one in settings.all_scorers)
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue(QUEUE_PER_WORKER * settings.num_workers)
        self.hint = ""
        """What a scorer of the user's may have meant otherwise."""
        self._tasks = asyncio.TaskGroup()
        self._loops: list[asyncio.Task[None]] = []
        self._reasons: set[str] = set()

    async def __aenter__(self) -> Self:
        """Start and warm up the workers.

        Raises ConfigError when the scorer cannot be had, ProcessEndedError if a worker dies.
        """
        starts: list[asyncio.Task[_Worker]] = []
        try:
            async with asyncio.TaskGroup() as group:
                starts += [group.create_task(self._start()) for _ in range(self._settings.num_workers)]
        except BaseException as error:  # noqa: BLE001 - raised again below, after the workers that did start were ended
            for start in starts:
                if start.done() and not start.cancelled() and start.exception() is None:
                    await start.result().end()
            raise error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error from None
        workers = [start.result() for start in starts]
        await self._tasks.__aenter__()
        self._loops = [self._tasks.create_task(self._serve(worker)) for worker in workers]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for loop in self._loops:
            loop.cancel()
        await self._tasks.__aexit__(kind, error, traceback)

    @property
    def clients(self) -> Mapping[str, Any]:
        """Clients of the language models that have a part in verdicts, by name."""
        return {}

    @property
    def num_cached(self) -> int:
        """Judgements of language models that were known from before."""
        return 0

    @property
    def all_unavailable(self) -> bool:
        """Whether no verdict can be had at present, for want of an endpoint."""
        return False

    async def verify(self, text: str, task: Task) -> Verdict:
        """The verdict on `text`. Never raises for what the text or the scorer does; ConfigError when the task needs a
        program to be run and code cannot be contained here."""
        return (await self.verify_group([text], task))[0]

    async def verify_group(self, texts: list[str], task: Task) -> list[Verdict]:
        """The verdicts on several answers to one problem; each has `reward.timeout_s` of its own."""
        job = _Job(texts, task, asyncio.get_running_loop().create_future())
        await self._jobs.put(job)
        return await job.verdicts

    async def _serve(self, worker: _Worker | None) -> None:
        try:
            while True:
                batch = await self._next_batch(worker)
                while batch.num_left:
                    if worker is None:
                        worker = await self._restart()
                    if worker is None:
                        lost = Verdict(kind="error", text="no verifier worker could be started")
                        batch.verdicts += [lost] * batch.num_left
                        self._note(lost.text)
                        break
                    try:
                        whole = await self._request(worker, batch)
                    except ConfigError as error:
                        await worker.end()
                        worker = None
                        batch.fail(error)
                        break
                    if not whole:
                        await worker.end()
                        worker = None
                batch.settle()
                if worker is None:  # ready before the next answer needs it
                    worker = await self._restart()
                else:
                    worker.trim_log()
        finally:
            if worker is not None:
                await worker.end()

    async def _next_batch(self, worker: _Worker | None) -> _Batch:
        """The next job, with as many of those that wait as an asynchronous scorer can have at hand."""
        most = worker.wishes["concurrency"] if worker is not None else 1
        jobs: list[_Job] = []
        while not jobs:
            job = await self._jobs.get()
            while True:
                if not job.verdicts.cancelled():
                    jobs.append(job)
                if self._jobs.empty() or sum(len(job.texts) for job in jobs) >= most:
                    break
                job = self._jobs.get_nowait()
        return _Batch(jobs, with_rows=self._with_rows)

    async def _request(self, worker: _Worker, batch: _Batch) -> bool:
        """Append the verdicts that a worker gives on the answers that have none yet; False when it must be replaced.

        Raises ConfigError when it says that none can be given here."""
        assert worker.process.stdin is not None and worker.process.stdout is not None
        reason, whole_groups = "", worker.wishes["whole_groups"]
        # One call may be for all answers of a batch. An asynchronous scorer keeps its deadline itself where it can.
        limit_s = self._settings.timeout_s * (batch.num_left if whole_groups else 1)
        limit_s += ASYNC_GRACE_S if worker.wishes["concurrency"] > 1 else 0.0
        try:
            async with asyncio.timeout(limit_s) as limit:
                worker.process.stdin.write(batch.request())
                await worker.process.stdin.drain()
                while batch.num_left:
                    limit.reschedule(asyncio.get_running_loop().time() + limit_s)
                    line = await worker.process.stdout.readline()
                    if not line.endswith(b"\n"):
                        break
                    reply = orjson.loads(line)
                    if "config_error" in reply:
                        raise ConfigError(reply["config_error"])
                    verdict = Verdict.model_validate(reply["verdict"])
                    batch.verdicts.append(verdict)
                    if verdict.kind in FAILED:
                        self._note(verdict.text)
                else:
                    return True
        except TimeoutError:
            late = Verdict(kind="timeout", text=f"no reward within reward.timeout_s = {self._settings.timeout_s:g}")
            batch.verdicts += [late] * (batch.num_left if whole_groups else 1)
            return False
        except ConnectionError:  # the pipe closed
            pass
        except ValueError as error:
            reason = (
                f"no reply that can be read, of at most {MAX_REPLY_BYTES} bytes: {' '.join(str(error).split())[:300]}"
            )
        lost = Verdict(kind="error", text=reason or await worker.last_words())
        batch.verdicts += [lost] * (batch.num_left if whole_groups else 1)
        self._note(lost.text)
        return False

    def _note(self, reason: str) -> None:
        # Each distinct reason once: a scorer that fails on every answer would flood the log.
        if reason and reason not in self._reasons and len(self._reasons) < 100:
            self._reasons.add(reason)
            logger.warning("a verifier failed: %s", reason)

    async def _restart(self) -> _Worker | None:
        """A fresh worker; None, with a warning, when it does not come up. The next job tries again."""
        try:
            return await self._start()
        except (ConfigError, ProcessEndedError, OSError) as error:
            logger.warning("a verifier worker could not be started again: %s", error)
            return None

    async def _start(self) -> _Worker:
        errors = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - closed when the worker ends
        process = await Process.start(
            [sys.executable, "-m", "pipeline.rewards.worker", self._settings.model_dump_json()],
            stdin=subprocess.PIPE,
            stderr=errors,
            env=_environment(),
            limit=MAX_REPLY_BYTES,
        )
        worker = _Worker(process, errors, {})
        try:
            reply = await self._first_reply(worker)
            if "config_error" in reply:
                raise ConfigError(reply["config_error"])
        except BaseException:
            await worker.end()
            raise
        worker.wishes = reply
        self.hint = reply["hint"]
        return worker

    async def _first_reply(self, worker: _Worker) -> dict[str, Any]:
        assert worker.process.stdout is not None
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                line = await worker.process.stdout.readline()
        except TimeoutError:
            raise ProcessEndedError(f"a verifier worker was not ready within {START_TIMEOUT_S:g} s") from None
        if not line:
            raise ProcessEndedError(f"a verifier worker ended at its start: {worker.last_errors()}")
        reply: dict[str, Any] = orjson.loads(line)
        return reply


def last_lines(log: str) -> str:
    """The end of a log in whole lines, without what a traceback says of places. Pure."""
    lines = [line for line in log.splitlines() if line.strip() and not line.startswith((" ", "\t", "Traceback (most"))]
    said: list[str] = []
    for line in reversed(lines):
        if sum(map(len, said)) + len(line) > MAX_SAID_CHARS:
            break
        said.insert(0, line)
    return "\n".join(said) or (lines[-1][:MAX_SAID_CHARS] + "…" if lines else "")


def _environment() -> dict[str, str]:
    """This process's, with its import path, so that a user's module is found there too; one thread for linear
    algebra."""
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
