"""Weights from the learner's GPU to a server's over NCCL, by vLLM's own transfer engine.

The group of learner and server is made for each transfer and taken down after it: nothing outlives a server that
restarts, and a handshake is short beside a transfer. NCCL cannot be interrupted, so it runs in a thread that is left
behind when it overruns; the published files are there for whoever was not reached.

Not run on GPUs yet: the order of calls is tested against a recording server (tests/integration/test_nccl_sequence.py).
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
from torch import Tensor
from vllm.distributed.weight_transfer import nccl_engine
from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource
from vllm.distributed.weight_transfer.clients import HTTPVLLMWeightSyncClient

from pipeline.errors import WeightSyncError
from pipeline.runtime.child_process import free_port
from pipeline.weights.sync import ServerAddress

LOOPBACK = "127.0.0.1"


class StateSource(WeightSource):
    """The tensors of a state dict, in its order."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self._state = state

    def metadata(self) -> list[ParamMeta]:
        return [ParamMeta(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in self._state.items()]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        return iter(self._state.items())


class ControlRoutes(HTTPVLLMWeightSyncClient):
    """vLLM's own client of its control routes, with the server's key, and with what a server says of an error."""

    def __init__(self, server: ServerAddress, timeout_s: float) -> None:
        super().__init__(server.url, timeout_s)
        self._client = httpx.Client(base_url=server.url, headers=server.headers, timeout=timeout_s)

    def world_size(self) -> int:
        reply = self._client.get("/get_world_size")
        reply.raise_for_status()
        return int(reply.json()["world_size"])

    def _post(self, path: str, json: dict[str, Any] | None = None) -> None:
        reply = self._client.post(path, json=json)
        if reply.is_error:
            raise WeightSyncError(f"POST /{path} answered {reply.status_code}: {reply.text[:300]}")


class NcclSender:
    """Sends what `state` returns to one server at a time each call. Raises WeightSyncError."""

    def __init__(self, state: Callable[[], dict[str, Tensor]], timeout_s: float = 300.0) -> None:
        self._state = state
        self._timeout_s = timeout_s

    def __call__(self, server: ServerAddress) -> None:
        failures: list[BaseException] = []

        def work() -> None:
            try:
                self._send(ControlRoutes(server, self._timeout_s), server)
            except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
                failures.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(self._timeout_s)
        if thread.is_alive():
            raise WeightSyncError(f"the transfer over NCCL did not end within {self._timeout_s:.0f} s")
        if failures:
            raise WeightSyncError(f"the transfer over NCCL failed: {type(failures[0]).__name__}: {failures[0]}")

    def _send(self, routes: ControlRoutes, server: ServerAddress) -> None:
        address = own_address(server.url)
        init = nccl_engine.NCCLTrainerInitInfo(
            rank=0,
            master_address=address,
            master_port=free_port(address),
            world_size=1 + routes.world_size(),
        )
        engine = nccl_engine.NCCLTrainerWeightTransferEngine.trainer_init(
            init, client=routes, source=StateSource(self._state())
        )
        try:
            engine.send_weights()
        finally:
            routes.shutdown_weight_transfer_engine()
            if engine.model_update_group is not None:
                engine.model_update_group.destroy()


def own_address(url: str) -> str:
    """The address of this machine that the server at `url` reaches it by: that of the route there."""
    parts = urlsplit(url)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((parts.hostname or LOOPBACK, parts.port or 80))
        return str(probe.getsockname()[0])
