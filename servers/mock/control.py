"""vLLM's control routes: weights, pause and resume, and a crash."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiohttp import web

from pipeline.canary import Canary, read_canary
from pipeline.weights import CHECKING, LOADING, REJECTED
from servers.mock.misbehaviour import error

FRESH = "default"


class Control:
    """The state that the control routes change: the label of the weights, whether generation is paused, who is generating."""

    def __init__(self) -> None:
        self.version = FRESH
        self.canary: Canary | None = None
        """What the loaded weights answer."""
        self.running = asyncio.Event()
        self.running.set()
        self.generating: dict[int, web.Request] = {}

    @property
    def verified(self) -> bool:
        """Whether the weights bear the label of a run's version."""
        return self.version != FRESH and not self.version.startswith((LOADING, CHECKING, REJECTED))

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/collective_rpc", self._collective_rpc)
        router.add_post("/pause", self._pause)
        router.add_post("/resume", self._resume)
        router.add_get("/is_paused", self._is_paused)
        router.add_get("/weight_info", self._weight_info)
        router.add_post("/update_weight_version", self._update_weight_version)
        router.add_post("/reset_prefix_cache", self._reset_prefix_cache)

    async def crash(self, request: web.Request) -> web.Response:
        """As a server that died and was started again: what was generating is dropped, the weights are the first ones."""
        self.version = FRESH
        self.running.set()
        for other in list(self.generating.values()):
            if other.transport is not None:
                other.transport.abort()
        return web.json_response({"dropped": len(self.generating)})

    async def _collective_rpc(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("method") == "refresh_packed_weights":
            return web.json_response({"results": [1]})
        folder = (body.get("kwargs") or {}).get("weights_path", "")
        if body.get("method") != "reload_weights" or not Path(folder).is_dir():
            return error(500, f"Call to collective_rpc method failed: {body.get('method')} {folder!r}")
        self.canary = read_canary(Path(folder))
        return web.json_response({"results": [None]})

    async def _pause(self, request: web.Request) -> web.Response:
        self.running.clear()
        return web.json_response({"status": "paused"})

    async def _resume(self, request: web.Request) -> web.Response:
        self.running.set()
        return web.json_response({"status": "resumed"})

    async def _is_paused(self, request: web.Request) -> web.Response:
        return web.json_response({"is_paused": not self.running.is_set()})

    async def _weight_info(self, request: web.Request) -> web.Response:
        return web.json_response({"weight_version": self.version})

    async def _update_weight_version(self, request: web.Request) -> web.Response:
        self.version = (await request.json())["new_version"]
        return web.json_response({"success": True, "new_version": self.version})

    async def _reset_prefix_cache(self, request: web.Request) -> web.Response:
        return web.json_response({"success": True})
