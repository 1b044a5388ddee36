"""Brings servers to a version of the published weights, by HTTP alone.

`sync_server` gives a server a version, under one lock per server, and then asks it the canary, before it may bear the
version's label. For a whole model the server is paused without dropping what is in flight, loads, resets the prefix
cache and resumes — resumes in a `finally`, so that neither a failure nor a second caller leaves it paused or half
loaded. An adapter is loaded beside those that are there, under its version's label as its name: what is in flight goes
on with the one that it named."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import httpx
from pydantic import BaseModel, ConfigDict

from pipeline.errors import WeightsRefusedError, WeightSyncError
from pipeline.run.folder import RunFolder
from pipeline.runtime.files import write_atomic
from pipeline.types import WeightVersion
from pipeline.weights import canary
from pipeline.weights.publishing import REFERENCE, canary_of, in_use, is_adapter, path_of, verify
from pipeline.weights.vllm_control import (
    adapters_of,
    load_adapter,
    post,
    reset_prefix_cache,
    server_version,
    set_label,
)

# A server bears these before the label of its weights: while they are loaded (nothing is sampled then), while it
# answers the canary (what is sampled waits for the verdict), and when its answer was wrong. No run accepts any of them.
LOADING, CHECKING, REJECTED = "loading-", "checking-", "rejected-"
UNKNOWN = REJECTED + "unknown"
REMEDY = (
    "if it can never agree: serve with dtype float32, set endpoints.packs_weights for a server of `servers.launch`, or "
    "raise servers.canary_tolerance"
)


class ServerAddress(BaseModel):
    """How the learner reaches a server: its URL, and the environment variable that holds its key."""

    model_config = ConfigDict(frozen=True)
    url: str
    model: str
    api_key_env: str = ""
    packs_weights: bool = False
    """Started by `servers.launch`: its worker can pack a tied head's weights again (servers/packed_weights.py)."""

    @property
    def headers(self) -> dict[str, str]:
        key = os.environ.get(self.api_key_env, "") if self.api_key_env else ""
        return {"Authorization": f"Bearer {key}"} if key else {}


Send = Callable[[ServerAddress], None]
"""Gives a paused server the weights of a version by another way than files. Blocks; raises WeightSyncError."""
Verify = Callable[[Path], Awaitable[None]]
"""As `publishing.verify`, without blocking the event loop."""


class ReloadReport(BaseModel):
    """Seconds spent: `reload_s` in all, `paused_s` the longest time that one server was paused."""

    reload_s: float
    paused_s: float


async def _verified(folder: Path) -> None:
    await asyncio.to_thread(verify, folder)


def write_servers(run: RunFolder, servers: list[ServerAddress]) -> None:
    write_atomic(run.servers_file, json.dumps([server.model_dump() for server in servers]))


def read_servers(run: RunFolder) -> list[ServerAddress]:
    return [ServerAddress.model_validate(item) for item in json.loads(run.servers_file.read_text(encoding="utf-8"))]


def sync_all(run: RunFolder, version: WeightVersion, send: Send | None = None) -> ReloadReport:
    """Bring every server of the run to `version`, all at once. Raises WeightSyncError naming each one that failed;
    WeightsRefusedError if all of those have answered the canary."""
    under_way: dict[Path, asyncio.Future[None]] = {}

    async def verified_once(folder: Path) -> None:
        if folder not in under_way:
            under_way[folder] = asyncio.ensure_future(_verified(folder))
        await asyncio.shield(under_way[folder])

    async def everyone() -> list[float | BaseException]:
        work = (sync_server(run, server, version, send=send, verified=verified_once) for server in servers)
        return await asyncio.gather(*work, return_exceptions=True)

    servers = read_servers(run)
    begin = time.monotonic()
    results = asyncio.run(everyone())
    failures = [
        f"{server.url}: {result}"
        for server, result in zip(servers, results, strict=True)
        if isinstance(result, BaseException)
    ]
    if failures:
        refused = all(isinstance(r, float | WeightsRefusedError) for r in results)
        kind = WeightsRefusedError if refused else WeightSyncError
        raise kind(f"version {version.label} did not reach every server: " + "; ".join(failures))
    return ReloadReport(
        reload_s=time.monotonic() - begin, paused_s=max((r for r in results if isinstance(r, float)), default=0.0)
    )


async def sync_server(
    run: RunFolder,
    server: ServerAddress,
    version: WeightVersion,
    timeout_s: float = 300.0,
    *,
    send: Send | None = None,
    verified: Verify = _verified,
) -> float:
    """Bring one server to `version`; return the seconds that it was paused, 0.0 if it had the version already.

    It loads the published files, `verified` first, or is sent them by `send`, in a thread. Requests in flight go on,
    after a whole model with the new weights, after an adapter with those that they named. Raises WeightSyncError, also
    for a server whose answer to the canary is not that of these weights; the server is then serving, with a version
    label that is not `version`, so nobody mistakes it."""
    async with _alone_with(run, server, timeout_s) as client:
        return await _bring(run, server, client, version, send, verified)


async def resume_if_paused(run: RunFolder, server: ServerAddress, timeout_s: float = 60.0) -> None:
    """Let a server serve again that a process of this run paused before it died: it would hold the first request for
    ever. Who is reloading it now is waited for. One that cannot be reached, or knows no pause, is left to the checks
    that follow."""
    with suppress(ValueError, WeightSyncError):
        async with _alone_with(run, server, timeout_s) as client:
            await _resume(client)


async def clear_version_label(run: RunFolder, server: ServerAddress, timeout_s: float = 60.0) -> None:
    """Take the label from a server that runs elsewhere: another run, which counts its versions as this one does, may
    have given it.

    Raises WeightSyncError when it does not answer."""
    async with _alone_with(run, server, timeout_s) as client:
        await set_label(client, UNKNOWN)


async def load_unpublished(run: RunFolder, server: ServerAddress, folder: Path, timeout_s: float = 300.0) -> None:
    """Have one server serve the whole model in `folder`, which is no version of the run: it bears the label of none.

    Raises WeightSyncError that names it."""
    try:
        async with _alone_with(run, server, timeout_s) as client:
            await _WholeModel(client, folder, server, None).load()
            await set_label(client, UNKNOWN)
    except WeightSyncError as error:
        raise WeightSyncError(f"{server.url}: {error}") from error


async def _resume(client: httpx.AsyncClient) -> None:
    reply = await client.get("/is_paused")
    if reply.is_success and reply.json().get("is_paused"):
        await post(client, "/resume")


async def _bring(
    run: RunFolder,
    server: ServerAddress,
    client: httpx.AsyncClient,
    version: WeightVersion,
    send: Send | None,
    verified: Verify,
) -> float:
    """As `sync_server`, of a server that nobody else changes meanwhile."""
    folder, label = path_of(run, version), await server_version(client)
    way: _Adapter | _WholeModel = (
        _Adapter(client, folder) if is_adapter(folder) else _WholeModel(client, folder, server, send)
    )
    # The label says that the weights answered their canary. It outlives an adapter that the server lost, so that is
    # looked for; and who paused the server may have died after the label was given.
    if label == version.label and await way.is_there():
        await _resume(client)
        return 0.0
    paused_s = 0.0
    # A label that is no version's is of a server that started anew, or was found wrong: the base under the adapter is
    # not known either, and is brought to the reference first. (A version's label says that the base was the reference
    # when it was given.)
    if WeightVersion.parse(label) is None and isinstance(way, _Adapter):
        paused_s = await _bring(run, server, client, REFERENCE, None, verified)
    with in_use(folder):
        if send is None:
            await verified(folder)
        paused_s += await way.load()
        await _check(client, run, way.model, version)
    return paused_s


class _WholeModel(NamedTuple):
    """How a server gets a whole model: from files, or by `send`."""

    client: httpx.AsyncClient
    folder: Path
    server: ServerAddress
    send: Send | None

    @property
    def model(self) -> str:
        """The name by which it answers."""
        return self.server.model

    async def is_there(self) -> bool:
        """Whether a server with the label of these weights has them."""
        return True

    async def load(self) -> float:
        """Returns the seconds that the server was paused."""
        client, begin = self.client, time.monotonic()
        try:
            await post(client, "/pause", params={"mode": "keep", "clear_cache": "false"})
            await set_label(client, LOADING + self.folder.name)
            await (self._from_files() if self.send is None else asyncio.to_thread(self.send, self.server))
            await reset_prefix_cache(client)
            await set_label(client, CHECKING + self.folder.name)
        finally:
            await asyncio.shield(post(client, "/resume"))
        return time.monotonic() - begin

    async def _from_files(self) -> None:
        body = {"method": "reload_weights", "kwargs": {"weights_path": str(self.folder)}}
        await post(self.client, "/collective_rpc", json=body)
        if self.server.packs_weights:
            await post(self.client, "/collective_rpc", json={"method": "refresh_packed_weights"})


class _Adapter(NamedTuple):
    """How a server that has the reference as its base gets an adapter. Nothing is paused, and no cache reset: the
    server goes on under the label that it has, with the adapter that this names."""

    client: httpx.AsyncClient
    folder: Path

    @property
    def model(self) -> str:
        return self.folder.name

    async def is_there(self) -> bool:
        return (await adapters_of(self.client)).get(self.folder.name) == self.folder

    async def load(self) -> float:
        await load_adapter(self.client, self.folder)
        return 0.0


async def _check(client: httpx.AsyncClient, run: RunFolder, model: str, version: WeightVersion) -> None:
    """Give the server its label if it answers the canary as the learner does, and not as any other published
    weights."""
    expected = canary_of(run, version)
    try:
        # Weights that nobody of this project saved have no canary, and pass.
        if expected is not None:
            reply = await post(client, "/v1/completions", json=canary.body_of(expected, model))
            found = canary.logprobs_in(reply.json(), expected)
            # All that is on disk, not the version that the server had: its label does not say which weights it has
            # after a failure.
            published = [known for folder in run.weights.iterdir() if (known := WeightVersion.parse(folder.name))]
            others = {
                known.label: other for known in published if known != version and (other := canary_of(run, known))
            }
            tolerance = run.config().canary_tolerance
            if complaint := canary.disagreement(found, expected, others, tolerance):
                raise WeightsRefusedError(f"version {version.label} was loaded, but {complaint}; {REMEDY}")
    except BaseException:
        # Also when this is cancelled: the weights are loaded, and under CHECKING requests would wait for a verdict that
        # never comes.
        await asyncio.shield(set_label(client, REJECTED + version.label))
        raise
    await set_label(client, version.label)


@asynccontextmanager
async def _alone_with(run: RunFolder, server: ServerAddress, timeout_s: float) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server that nobody else changes meanwhile. Raises WeightSyncError when it does not answer."""
    async with httpx.AsyncClient(base_url=server.url, headers=server.headers, timeout=timeout_s) as client:
        try:
            async with _server_lock(run, server):
                yield client
        except httpx.HTTPError as error:
            raise WeightSyncError(f"{type(error).__name__}: {error}") from error


@asynccontextmanager
async def _server_lock(run: RunFolder, server: ServerAddress) -> AsyncIterator[None]:
    """One caller at a time per server, across processes; waiting happens in a thread, so the event loop stays free."""
    name = hashlib.sha256(server.url.encode()).hexdigest()[:12]
    run.locks.mkdir(exist_ok=True)
    with (run.locks / f"server-{name}").open("w") as file:
        await asyncio.to_thread(fcntl.flock, file, fcntl.LOCK_EX)
        yield
