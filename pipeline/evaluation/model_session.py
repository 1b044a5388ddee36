"""What commands that ask a model share: a folder that is theirs, endpoints that answer, and how a signal stops them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from pipeline.config import Config
from pipeline.config.endpoints import EndpointSettings
from pipeline.errors import EndpointError, FinalEndpointError
from pipeline.evaluation.defaults import Explicit, with_templates
from pipeline.evaluation.folder import EvalFolder
from pipeline.evaluation.lessons import CachedClient, LessonSearch, copied
from pipeline.evaluation.plan import BenchmarkTasks
from pipeline.experience.pool_integrity import check_pool
from pipeline.experience.retrieval import retriever_of
from pipeline.inference.capabilities import check_embeddings, check_endpoint
from pipeline.inference.client import InferenceClient, client_of
from pipeline.inference.local_servers import Serving, resolve_model
from pipeline.inference.reply_cache import ReplyCache
from pipeline.inference.trouble import remedy_of
from pipeline.inference.usage import Prices, Usage
from pipeline.observability import logs
from pipeline.observability.secrets import secrets_of
from pipeline.run.folder import RunFolder
from pipeline.run.provenance import model_fingerprint
from pipeline.runtime import event_loop
from pipeline.runtime.files import write_atomic
from pipeline.runtime.watchdog import Watchdog

R = TypeVar("R")
F = TypeVar("F", bound=EvalFolder)


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


class Outcome(NamedTuple, Generic[R]):
    """How a session ended.

    `report` is None where it was stopped; `failure` ended it early, and what was answered is reported all the same;
    `first_failure` is of the answers that could not be had."""

    folder: EvalFolder
    report: R | None = None
    failure: EndpointError | None = None
    first_failure: str = ""


class Stoppable(Protocol):
    def stop(self) -> None:
        """From now on no request begins."""
        ...


class ModelSession(Generic[R]):
    """`log` takes what the user should read on the way, `warn` what needs a look. `_done` is what the session does, up
    to a report; it sets `_run` as soon as there is something to stop."""

    folder_type: ClassVar[type[EvalFolder]]

    def __init__(self, options: EvalOptions, log: Callable[[str], None], warn: Callable[[str], None]) -> None:
        self._options = options
        self._config = options.config.patient_as_eval
        self._log = log
        self._warn = warn
        self._clients: list[InferenceClient] = []
        self._usages: list[Usage] = []
        self._run: Stoppable | None = None
        self._stack = contextlib.AsyncExitStack()
        self._prices = Prices(self._config.endpoints, self._config.feedback.similarity_endpoint)
        self._begin_s = time.monotonic()

    async def run(self) -> Outcome[R]:
        """Raises ConfigError, DataError, RunFolderError, and EndpointError where nothing could be answered."""
        task = asyncio.current_task()
        assert task is not None
        with event_loop.on_stop(lambda: self._stop(task)):
            return await self._done()

    @abstractmethod
    async def _done(self) -> Outcome[R]:
        """The session, from opening its folder to writing its report."""

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

    async def _opened(self) -> tuple[Any, InferenceClient]:
        """The folder, of `folder_type`, held for this session, and endpoints that answer: running ones, or a server
        started here."""
        config = self._config
        if config.endpoints:
            client = await self._checked(config.endpoints)
            folder = folder_of(self._options, client.endpoints[0].model, self.folder_type)
            identity = [
                {"url": one.url, "model": one.model, "root": str(one.card.get("root") or "")}
                for one in client.endpoints
            ]
            self._hold(folder)
            self._identify(folder, identity, cards=[one.card for one in client.endpoints])
            self._config = with_templates(config, None, client.max_model_len, self._log)
            return folder, client
        folder = folder_of(self._options, self._options.model_name, self.folder_type)
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

    async def _search(
        self,
        source: Path,
        folder: EvalFolder,
        client: InferenceClient,
        replies: ReplyCache,
        benchmarks: Sequence[BenchmarkTasks],
    ) -> tuple[LessonSearch, str]:
        """A search of the lessons of `source` as this folder began with them, and their identity.

        Raises DataError where they are of problems that are asked."""
        config = self._config
        copy = await asyncio.to_thread(copied, source, folder.lessons, self._log)
        tasks = [task for one in benchmarks for task in one.tasks]
        await asyncio.to_thread(check_pool, copy.pool, tasks, near=config.problems.drop_near_duplicates)
        self._log(f"lessons: {copy.text}; other lessons need another --out")
        if (settings := config.feedback.similarity_endpoint) is not None:
            client = await self._client(client_of(config, (settings,), on_trouble=self._warn))
            if config.feedback.similarity == "embedding":
                await check_embeddings(client, client.endpoints[0])
        cached = CachedClient(client, client.endpoints[0].model, replies)
        return LessonSearch(retriever_of(config, copy.pool, cached)), copy.key

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
        logs.configure(folder.path / folder.log_name, config.operations, {*secrets_of(config), judge_key} - {""})

    def _identify(self, folder: EvalFolder, identity: list[dict[str, str]], **facts: object) -> None:
        folder.identified(identity, fresh=self._options.fresh, moved=self._options.moved, **facts)


def with_remedy(failure: EndpointError, kept: str) -> FinalEndpointError:
    """What ended a session, with what to do about it and what is `kept`."""
    return FinalEndpointError(failure.kind, f"{failure}. What to do: {remedy_of(failure.kind)}. {kept}")


def folder_of(options: EvalOptions, model: str, kind: type[F]) -> F:
    """Where the evaluation of a model is."""
    name = re.sub(r"[^\w.-]+", "-", model).strip("-.") or "model"
    return kind(options.out or kind.root / name)
