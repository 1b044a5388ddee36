"""The servers of a run, started here as children, or named by the config and running elsewhere.

Leaving the context ends every child with all that it started.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from yarl import URL

from pipeline.config import Config
from pipeline.config.endpoints import EndpointSettings
from pipeline.errors import EndpointError, ModelError, ServerStartError
from pipeline.inference.http import Transport
from pipeline.run.folder import RunFolder
from pipeline.runtime.child_process import Child, free_port, tail
from pipeline.runtime.hardware import gpus

SMALL = "small"
"""As model.path: the one that `pretrain` trains from nothing."""
LOOK_EVERY_S = 0.5
STOP_GRACE_S = 15.0
# A server that has just started may compile on its first request.
PROBE_TIMEOUT_S = 120.0


async def resolve_model(config: Config, run: RunFolder, log: Callable[[str], None]) -> Path:
    """The local folder of model.path; downloads and converts where needed. Raises ModelError."""
    log(f"preparing the model {config.model.path!r}")
    file = run.logs / "model.log"
    command = ["servers.embedded", "--resolve", config.model.path]
    if config.model.path == SMALL:
        command = ["pipeline.orchestrate", "pretrain"]
    status = await Child.run("model preparation", [sys.executable, "-m", *command], file, log, grace_s=5.0)
    lines = file.read_text(encoding="utf-8").strip().splitlines()
    if status != 0 or not lines:
        raise ModelError(tail(file).removeprefix("error: ") or f"model preparation ended with status {status}")
    return Path(lines[-1])


def spare_gpu(config: Config) -> dict[str, str]:
    """Environment of a process that trains alone beside the servers: with several GPUs in sight transformers would make
    data-parallel copies, which TRL refuses. It gets the first one that no server of the run has, else the last; nothing
    where there are not two."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = named.split(",") if named else [str(number) for number in range(len(gpus()))]
    if len(visible) < 2:
        return {}
    servers = config.servers
    taken = {one for ids in servers.gpu_ids for one in ids.split(",")} or set(visible[: servers.tensor_parallel_size])
    free = [one for one in visible if config.endpoints or one not in taken]
    return {"CUDA_VISIBLE_DEVICES": (free or visible[-1:])[0]}


def check_port(port: int) -> None:
    """Raise ServerStartError when something listens on `port` already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ServerStartError(
                f"servers.port = {port}: the port is in use ({error.strerror}); choose another, or 0 for a free one"
            ) from error


class Serving:
    """Async context manager. `endpoints` are ready to be asked once it is entered."""

    def __init__(self, config: Config, run: RunFolder, model: Path | None, log: Callable[[str], None]) -> None:
        self._config = config
        self._run = run
        self._model = model
        self._log = log
        self._children: list[Child] = []
        self.endpoints: tuple[EndpointSettings, ...] = config.endpoints

    async def __aenter__(self) -> Self:
        if self._config.endpoints:
            return self
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    def check(self) -> None:
        """Raise ProcessEndedError when a launcher gave up on its server."""
        for child in self._children:
            child.check()

    async def _start(self) -> None:
        settings = self._config.servers
        ports = [settings.port + index if settings.port else free_port() for index in range(settings.num_servers)]
        for index, port in enumerate(ports):
            check_port(port)
            command = [sys.executable, "-m", "servers.launch", "--run", str(self._run.path), "--index", str(index)]
            command += ["--port", str(port), "--model", str(self._model)]
            log = self._run.logs / f"launch-{index}.log"
            self._children.append(await Child.start(f"server {index}", command, log))
        self._log(f"starting {settings.num_servers} vLLM server(s) (about a minute; logs in {self._run.logs})")
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        try:
            async with asyncio.timeout(settings.startup_timeout_s):
                await asyncio.gather(
                    *(self._ready(url, child) for url, child in zip(urls, self._children, strict=True))
                )
        except TimeoutError:
            raise ServerStartError(
                f"servers.startup_timeout_s = {settings.startup_timeout_s}: no answer in that time; "
                f"the server's log ends:\n{tail(self._run.logs / 'server-0.log')}"
            ) from None
        self.endpoints = tuple(
            EndpointSettings(url=url, max_concurrency=settings.max_num_seqs, packs_weights=True) for url in urls
        )

    async def _ready(self, url: str, child: Child) -> None:
        """Wait until a probe of one token is answered: /health alone is 200 on a wedged server."""
        body = {"model": self._config.model.name, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
        async with Transport() as transport:
            while True:
                if child.returncode is not None:
                    raise ServerStartError(f"the {child.name} did not start:\n{tail(child.log)}")
                # Not up yet is no error: the launcher is watched above, and the wait is bounded by the caller.
                with suppress(EndpointError, TimeoutError):
                    async with asyncio.timeout(PROBE_TIMEOUT_S):
                        if (await transport.fetch("GET", URL(f"{url}/health"), {})).status == 200:
                            await transport.request("POST", URL(f"{url}/v1/chat/completions"), {}, body)
                            return
                await asyncio.sleep(LOOK_EVERY_S)

    async def _stop(self) -> None:
        await asyncio.gather(*(child.stop(STOP_GRACE_S) for child in self._children))
