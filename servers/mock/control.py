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
from servers.mock.misbehaviour import Json, error, replying

FRESH = "default"


class Adapter(NamedTuple):
    folder: Path
    canary: Canary | None


class Control:
    """The state that the control routes change: the label of the weights, adapters by name, whether generation is
    paused, who is generating. Without a `max_lora_rank` there are no routes for adapters, as in a vLLM that was not
    told to have them."""

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

    def routes(self) -> list[web.RouteDef]:
        routes = [
            web.post("/collective_rpc", self._collective_rpc),
            web.post("/pause", replying(self._pause)),
            web.post("/resume", replying(self._resume)),
            web.get("/is_paused", replying(lambda: {"is_paused": not self.running.is_set()})),
            web.get("/weight_info", replying(lambda: {"weight_version": self.version})),
            web.post("/update_weight_version", self._update_weight_version),
            web.post("/reset_prefix_cache", replying(lambda: {"success": True})),
        ]
        if self._max_lora_rank:
            routes += [web.post(LOAD_ADAPTER, self._load_adapter), web.post(UNLOAD_ADAPTER, self._unload_adapter)]
        return routes

    def crash(self) -> Json:
        """As a server that died and was started again: what was generating is dropped, the weights are the first
        ones."""
        self.version = FRESH
        self.adapters.clear()
        self.running.set()
        for other in list(self.generating.values()):
            if other.transport is not None:
                other.transport.abort()
        return {"dropped": len(self.generating)}

    async def _collective_rpc(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("method") == "refresh_packed_weights":
            return web.json_response({"results": [1]})
        folder = (body.get("kwargs") or {}).get("weights_path", "")
        if body.get("method") != "reload_weights" or not Path(folder).is_dir():
            return error(500, f"Call to collective_rpc method failed: {body.get('method')} {folder!r}")
        self.canary = read_canary(Path(folder))
        return web.json_response({"results": [None]})

    def _pause(self) -> Json:
        self.running.clear()
        return {"status": "paused"}

    def _resume(self) -> Json:
        self.running.set()
        return {"status": "resumed"}

    async def _update_weight_version(self, request: web.Request) -> web.Response:
        self.version = (await request.json())["new_version"]
        return web.json_response({"success": True, "new_version": self.version})

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
