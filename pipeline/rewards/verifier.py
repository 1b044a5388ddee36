"""Gives verdicts on answers, from worker processes that are killed when they overrun, and the reward that follows from
one.

Invariants: every `verify` returns exactly one verdict; a failing verifier yields 'timeout' or 'error', never 'scored';
a worker that died or was killed is replaced, and the answers that wait go to the next one; leaving the context leaves
no process.

| loop | waits for | woken by |
|---|---|---|
| `verify` | space in the queue, then its verdict | a worker's loop |
| `_serve`, one a worker | a job; then its reply, `timeout_s` at most | `verify`; the worker's pipe; the clock |
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import orjson

from pipeline.config.rollout import RewardSection
from pipeline.errors import ConfigError, ProcessEndedError
from pipeline.runtime.child_process import Process
from pipeline.types import Label, Verdict

# Answers waiting per worker: bounds the texts held twice. More callers wait in `verify`.
QUEUE_PER_WORKER = 64
# Longest wait for a worker's imports, seconds. Generous: a server may be compiling beside it on the same two cores.
START_TIMEOUT_S = 180.0
MAX_REPLY_BYTES = 1 << 20

logger = logging.getLogger(__name__)


def reward_of(verdict: Verdict, settings: RewardSection) -> float:
    """1 for a correct answer, else 0; plus `format_weight` when an answer could be parsed."""
    return float(verdict.correct) + (settings.format_weight if verdict.answer is not None else 0.0)


def rewards_of(verdicts: list[Verdict], settings: RewardSection) -> list[float]:
    """The reward of each verdict of a group."""
    return [reward_of(verdict, settings) for verdict in verdicts]


@dataclass
class _Job:
    """Answers to one problem; they go to one worker together, because a hand-over costs as much as an easy verdict."""

    texts: list[str]
    label: Label
    verdicts: asyncio.Future[list[Verdict]]

    def request(self, first: int) -> bytes:
        # json, not orjson: gold answers may be integers of any length.
        return json.dumps({"texts": self.texts[first:], "label": self.label.model_dump()}).encode() + b"\n"


@dataclass
class _Worker:
    process: Process
    errors: IO[bytes]

    def last_errors(self) -> str:
        self.errors.seek(0, os.SEEK_END)
        self.errors.seek(max(0, self.errors.tell() - 2000))
        return self.errors.read().decode(errors="replace").strip()

    async def end(self) -> None:
        """Kill and reap, also when cancelled meanwhile."""
        try:
            await self.process.end()
        finally:
            self.errors.close()


class Verifier:
    """`async with Verifier(settings) as verifier: verdict = await verifier.verify(text, label)`."""

    def __init__(self, settings: RewardSection) -> None:
        self._settings = settings
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue(QUEUE_PER_WORKER * settings.num_workers)
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

    async def verify(self, text: str, label: Label) -> Verdict:
        """The verdict on `text`. Never raises for what the text or the scorer does; ConfigError when the label needs a
        program to be run and code cannot be contained here."""
        return (await self.verify_group([text], label))[0]

    async def verify_group(self, texts: list[str], label: Label) -> list[Verdict]:
        """The verdicts on several answers to one problem; each has `reward.timeout_s` of its own."""
        job = _Job(texts, label, asyncio.get_running_loop().create_future())
        await self._jobs.put(job)
        return await job.verdicts

    async def _serve(self, worker: _Worker | None) -> None:
        try:
            while True:
                job = await self._jobs.get()
                if job.verdicts.cancelled():
                    continue
                verdicts: list[Verdict] = []
                while len(verdicts) < len(job.texts):
                    if worker is None:
                        worker = await self._restart()
                    if worker is None:
                        verdicts += [Verdict(kind="error")] * (len(job.texts) - len(verdicts))
                        self._note("no worker could be started")
                        break
                    try:
                        whole = await self._request(worker, job, verdicts)
                    except ConfigError as error:
                        await worker.end()
                        worker = None
                        if not job.verdicts.done():
                            job.verdicts.set_exception(error)
                        break
                    if not whole:
                        await worker.end()
                        worker = None
                if not job.verdicts.done():
                    job.verdicts.set_result(verdicts)
                if worker is None:  # ready before the next answer needs it
                    worker = await self._restart()
        finally:
            if worker is not None:
                await worker.end()

    async def _request(self, worker: _Worker, job: _Job, verdicts: list[Verdict]) -> bool:
        """Append the verdicts that a worker gives on the answers that have none yet; False when it must be replaced.

        Raises ConfigError when it says that none can be given here."""
        assert worker.process.stdin is not None and worker.process.stdout is not None
        reason = ""
        try:
            async with asyncio.timeout(self._settings.timeout_s) as limit:
                worker.process.stdin.write(job.request(len(verdicts)))
                await worker.process.stdin.drain()
                while len(verdicts) < len(job.texts):
                    limit.reschedule(asyncio.get_running_loop().time() + self._settings.timeout_s)
                    line = await worker.process.stdout.readline()
                    if not line.endswith(b"\n"):
                        break
                    reply = orjson.loads(line)
                    if "config_error" in reply:
                        raise ConfigError(reply["config_error"])
                    verdicts.append(Verdict.model_validate(reply["verdict"]))
                    self._note(reply.get("reason", ""))
                else:
                    return True
        except TimeoutError:
            verdicts.append(Verdict(kind="timeout"))
            return False
        except (ConnectionError, ValueError) as error:  # the pipe closed, or a reply over MAX_REPLY_BYTES
            reason = str(error)
        last_errors = worker.last_errors()[-300:]
        await worker.process.end()
        verdicts.append(Verdict(kind="error"))
        self._note(f"the worker ended (status {worker.process.returncode}) {reason} {last_errors}")
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
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the worker ends
        process = await Process.start(
            [sys.executable, "-m", "pipeline.rewards.worker", self._settings.model_dump_json()],
            stdin=subprocess.PIPE,
            stderr=errors,
            env=_environment(),
            limit=MAX_REPLY_BYTES,
        )
        worker = _Worker(process, errors)
        try:
            reply = await self._first_reply(worker)
            if "config_error" in reply:
                raise ConfigError(reply["config_error"])
        except BaseException:
            await worker.end()
            raise
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


def _environment() -> dict[str, str]:
    """This process's, with its import path, so that a user's module is found there too; one thread for linear
    algebra."""
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
