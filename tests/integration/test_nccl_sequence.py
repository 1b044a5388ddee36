"""Weights over NCCL: the order of calls, against a server that records them.

vLLM's own transfer engine drives the sequence; only its communicator is replaced, because NCCL needs GPUs. That tensors
arrive is not shown here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from aiohttp import web
from torch import Tensor

from pipeline.errors import WeightSyncError
from pipeline.run.folder import RunFolder
from pipeline.types import WeightVersion
from pipeline.weights.publishing import publish
from pipeline.weights.sync import LOADING, ServerAddress, sync_server
from tests.scripted_endpoint import serving
from tests.tiny_model import make_tiny_model
from tests.unit.trainer.groups import tiny_config
from trainer.models import load_model, state_of
from trainer.nccl import NcclSender

VERSION = WeightVersion(lineage=0, step=1)


class RecordingServer:
    """Answers vLLM's control routes, keeps what was asked, and fails where it is told to."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.bodies: dict[str, Any] = {}
        self.labels = ["default"]
        self.failing = ""
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        path = request.path
        if path == "/weight_info":
            return web.json_response({"weight_version": self.labels[-1]})
        if path == "/get_world_size":
            return web.json_response({"world_size": 2})
        self.calls.append(path)
        self.bodies[path] = await request.json() if request.can_read_body else dict(request.query)
        if path == self.failing:
            return web.json_response({"error": "out of memory"}, status=500)
        if path == "/update_weight_version":
            self.labels.append(self.bodies[path]["new_version"])
        return web.json_response({"success": True})


class FakeGroup:
    """In place of the communicator."""

    destroyed = False

    def destroy(self) -> None:
        self.destroyed = True


@pytest.fixture
async def server() -> AsyncIterator[RecordingServer]:
    recording = RecordingServer()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", recording.answer)
    async with serving(application) as recording.url:
        yield recording


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the learner's end put on the wire: its rendezvous, its group and the broadcast tensors."""
    from vllm.distributed.weight_transfer import nccl_engine

    seen: dict[str, Any] = {"group": FakeGroup(), "tensors": {}}

    def join(init: Any) -> FakeGroup:
        seen["init"] = init
        return seen["group"]

    def broadcast(iterator: Iterator[tuple[str, Tensor]], **_: Any) -> None:
        seen["tensors"] = {name: tensor.clone() for name, tensor in iterator}

    monkeypatch.setattr(nccl_engine, "open_trainer_endpoint", join)
    monkeypatch.setattr(nccl_engine, "packed_nccl_broadcast_producer", broadcast)
    return seen


def a_run(folder: Path) -> tuple[RunFolder, NcclSender, dict[str, Tensor]]:
    run = RunFolder.create(tiny_config(folder))

    def save(target: Path) -> None:
        (target / "model.safetensors").write_bytes(b"weights")

    publish(run, VERSION, save)
    make_tiny_model(folder / "model")
    state = state_of(load_model(folder / "model"))
    return run, NcclSender(lambda: state, timeout_s=20.0), state


async def test_the_sequence_of_a_transfer(tmp_path: Path, server: RecordingServer, wire: dict[str, Any]) -> None:
    run, sender, state = a_run(tmp_path)
    await sync_server(run, ServerAddress(url=server.url, model="policy"), VERSION, send=sender)
    assert server.calls == [
        "/pause",
        "/update_weight_version",
        "/init_weight_transfer_engine",
        "/start_weight_update",
        "/update_weights",
        "/finish_weight_update",
        "/shutdown_weight_transfer_engine",
        "/reset_prefix_cache",
        "/update_weight_version",
        "/resume",
        "/update_weight_version",
    ]
    assert server.labels[1] == LOADING + VERSION.label and server.labels[-1] == VERSION.label
    assert server.bodies["/pause"]["mode"] == "keep"
    init = server.bodies["/init_weight_transfer_engine"]["init_info"]
    assert (init["rank_offset"], init["world_size"]) == (1, 3), "two workers of the server beside the learner"
    assert (init["master_address"], init["master_port"]) == (wire["init"].master_address, wire["init"].master_port)
    update = server.bodies["/update_weights"]["update_info"]
    assert update["names"] == list(state) == list(wire["tensors"])
    assert update["shapes"] == [list(tensor.shape) for tensor in state.values()]
    assert set(update["dtype_names"]) == {"float32"}
    assert all(torch.equal(wire["tensors"][name], tensor) for name, tensor in state.items())
    assert wire["group"].destroyed


@pytest.mark.parametrize(
    "failing", ["/init_weight_transfer_engine", "/start_weight_update", "/update_weights", "/finish_weight_update"]
)
async def test_a_failed_transfer_leaves_a_server_that_serves_under_no_version(
    tmp_path: Path, server: RecordingServer, wire: dict[str, Any], failing: str
) -> None:
    run, sender, _ = a_run(tmp_path)
    server.failing = failing
    address = ServerAddress(url=server.url, model="policy")
    with pytest.raises(WeightSyncError, match=r"over NCCL failed.*500.*out of memory"):
        await sync_server(run, address, VERSION, send=sender)
    assert server.calls[-1] == "/resume"
    assert server.labels[-1] == LOADING + VERSION.label
    server.failing, server.calls = "", []
    await sync_server(run, address, VERSION)
    assert server.calls.count("/collective_rpc") == 1, "the files, this time"
    assert server.labels[-1] == VERSION.label
