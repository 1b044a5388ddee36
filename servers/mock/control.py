"""vLLM's control routes: weights, adapters, pause and resume, and a crash."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from pipeline.weights.canary import Canary, read_canary
from pipeline.weights.publishing import ADAPTER_CONFIG
from pipeline.weights.sync import CHECKING, LOADING, REJECTED
from pipeline.weights.vllm_control import LOAD_ADAPTER, UNLOAD_ADAPTER
from servers.mock.misbehaviour import error

FRESH = "default"


class Adapter(NamedTuple):
    folder: Path
    canary: Canary | None


class Control:
    """The state that the control routes change: the label of the weights, adapters by name, whether generation is paused, who is
    generating. Without a `max_lora_rank` there are no routes for adapters, as in a vLLM that was not told to have them."""

    def __init__(self, max_lora_rank: int = 0) -> None:
        self._max_lora_rank = max_lora_rank
        self.version = FRESH
        self.adapters: dict[str, Adapter] = {}
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
        if self._max_lora_rank:
            router.add_post(LOAD_ADAPTER, self._load_adapter)
            router.add_post(UNLOAD_ADAPTER, self._unload_adapter)

    async def crash(self, request: web.Request) -> web.Response:
        """As a server that died and was started again: what was generating is dropped, the weights are the first ones."""
        self.version = FRESH
        self.adapters.clear()
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

    async def _load_adapter(self, request: web.Request) -> web.Response:
        body = await request.json()
        name, folder = body["lora_name"], Path(body["lora_path"])
        if name in self.adapters:
            return error(400, f"The lora adapter '{name}' has already been loaded.")
        try:
            rank = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))["r"]
        except OSError:
            return error(404, f"Loading lora {name} failed: No adapter found for {folder}")
        if rank > self._max_lora_rank:
            return error(500, f"LoRA rank {rank} is greater than max_lora_rank {self._max_lora_rank}.")
        if not (folder / "adapter_model.safetensors").exists():
            return error(500, f"{folder} doesn't contain tensors")
        self.adapters[name] = Adapter(folder, read_canary(folder))
        return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload_adapter(self, request: web.Request) -> web.Response:
        name = (await request.json())["lora_name"]
        if self.adapters.pop(name, None) is None:
            return error(404, f"The lora adapter '{name}' cannot be found.")
        return web.Response(text=f"Success: LoRA adapter '{name}' removed successfully.")
