"""The HTTP server for operators of a run: /metrics, /livez and /readyz, on loopback.

It runs in a thread with an event loop of its own: the loop of the run pays for a copy of its numbers, not for their
text, and a run whose loop is stuck is reported as such instead of leaving the request open. Whatever belongs to the run
is read on the run's own loop. Without a port, nothing is started.

| waits                   | for                                            | woken by                                |
|-------------------------|------------------------------------------------|-----------------------------------------|
| the beat                | the next beat                                  | the clock of the run's loop             |
| a /metrics or /readyz   | its numbers, `ANSWER_WITHIN_S` at most         | a turn of the run's loop                |
| /livez                  | nothing: it looks when the last beat was       |                                         |
| `__aexit__`             | answers under way, a second at most            | the thread's loop                       |
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

from pipeline.errors import LanpoError, ServerStartError
from pipeline.observability.prometheus import CONTENT_TYPE, render
from pipeline.observability.snapshot import RunSources
from pipeline.runtime.histogram import Histogram
from pipeline.runtime.redaction import redact

if TYPE_CHECKING:
    from aiohttp import web

T = TypeVar("T")
HOST = "127.0.0.1"
BEAT_S = 0.25
# A loop that did not turn for so long is stuck: the longest computation on it takes a fraction of a second.
DEAD_AFTER_S = 5.0
ANSWER_WITHIN_S = 2.0
# Enough to get from a library's innermost call to the line of ours that called it.
NUM_FRAMES = 16


class Readiness(NamedTuple):
    """Whether the run can do its work, and if not, why."""

    ready: bool
    reasons: tuple[str, ...] = ()


def readiness(sources: RunSources) -> Readiness:
    """Ready when every pool has an endpoint whose breaker is closed, and the learner, if there is one, is alive."""
    reasons = [] if sources.pools else ["no endpoint is known yet: servers are being started"]
    for name, pool in sources.pools.items():
        if pool.all_unavailable:
            states = (f"{':'.join(map(str, e.host_and_port))} is {e.breaker.state}" for e in pool.endpoints)
            reasons.append(f"no endpoint of the pool {name!r} has a closed breaker: {', '.join(states)}")
    if sources.learner is not None:
        try:
            sources.learner()
        except LanpoError as error:
            reasons.append(str(error))
    return Readiness(not reasons, tuple(reasons))


class OperationsServer:
    """Async context manager. `readiness` is found on the loop of the run; nothing of `secrets` is served."""

    def __init__(
        self,
        port: int,
        sources: RunSources,
        *,
        secrets: Iterable[str] = (),
    ) -> None:
        self._port = port
        self._sources = sources
        self._secrets = tuple(secrets)
        self._lag_s = 0.0
        self._turned_s = self._due_s = time.monotonic()

    async def __aenter__(self) -> Self:
        """Raises ServerStartError when the port is taken."""
        if not self._port:
            return self
        listener = _listen(self._port)
        self._run_loop, self._run_thread = asyncio.get_running_loop(), threading.get_ident()
        self._lags = self._sources.loop_lag = Histogram()
        self._turned_s = self._due_s = time.monotonic()
        self._beat()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="operations", daemon=True)
        self._thread.start()
        try:
            await self._on_server_loop(self._start(listener))
        except BaseException:
            listener.close()
            self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._port:
            return
        try:
            await self._on_server_loop(self._runner.cleanup())
        finally:
            self._end()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._port}"

    # On the loop of the run

    def _beat(self) -> None:
        """Note that the loop turned, and how late it came."""
        self._turned_s = time.monotonic()
        self._lag_s = max(0.0, self._turned_s - self._due_s)
        self._lags.add(self._lag_s)
        self._due_s = self._turned_s + BEAT_S
        self._timer = self._run_loop.call_later(BEAT_S, self._beat)

    async def _on_server_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work` on the thread's loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def _end(self) -> None:
        self._timer.cancel()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # On the thread's loop

    async def _start(self, listener: socket.socket) -> None:
        from aiohttp import web

        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def _on_run_loop(self, read: Callable[[], T]) -> T:
        """What `read` returns on the loop of the run. Raises TimeoutError when that does not turn."""

        async def there() -> T:
            return read()

        async with asyncio.timeout(ANSWER_WITHIN_S):
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(there(), self._run_loop))

    async def _metrics(self, request: web.Request) -> web.Response:
        from aiohttp import web

        try:
            snapshot = await self._on_run_loop(self._sources.snapshot)
        except TimeoutError:
            return self._json(503, self._liveness())
        text = render(snapshot)
        # No key gets into a label; should one, it is masked. A search for it costs less than masking what is not there.
        if any(secret in text for secret in self._secrets):
            text = redact(text, self._secrets)
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _livez(self, request: web.Request) -> web.Response:
        found = self._liveness()
        return self._json(200 if found["alive"] else 503, found)

    async def _readyz(self, request: web.Request) -> web.Response:
        try:
            found = await self._on_run_loop(lambda: readiness(self._sources))
        except TimeoutError:
            found = Readiness(False, ("the event loop does not turn; see /livez",))
        return self._json(200 if found.ready else 503, found._asdict())

    def _liveness(self) -> dict[str, Any]:
        silent_s = time.monotonic() - self._turned_s
        overdue_s = max(self._lag_s, silent_s - BEAT_S)
        if silent_s <= DEAD_AFTER_S:
            return {"alive": True, "loop_lag_s": round(overdue_s, 4)}
        return {
            "alive": False,
            "loop_lag_s": round(overdue_s, 4),
            "reason": f"the event loop has not turned for {silent_s:.1f} s; the innermost frames are what it is at",
            "frames": self._frames(),
        }

    def _frames(self) -> list[str]:
        frame = sys._current_frames().get(self._run_thread)
        stack = traceback.extract_stack(frame)[-NUM_FRAMES:] if frame else []
        return [f"{at.filename}:{at.lineno} {at.name}" for at in stack]

    def _json(self, status: int, found: dict[str, Any]) -> web.Response:
        from aiohttp import web

        text = redact(json.dumps(found), self._secrets)
        return web.Response(status=status, text=text + "\n", content_type="application/json")


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise ServerStartError(
            f"operations.port = {port} cannot be served on {HOST} ({os.strerror(error.errno or 0)}): "
            "free the port, or set operations.port to another one, or to 0 to serve nothing"
        ) from error
