"""Which GPU is left to the process that trains."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.config import Config
from pipeline.inference.local_servers import spare_gpu

ELSEWHERE = {"endpoints": [{"url": "http://127.0.0.1:1"}]}


@pytest.mark.parametrize(
    ("num", "visible", "settings", "expected"),
    [
        (0, None, {}, None),
        (1, None, {}, None),
        (2, None, {}, "1"),
        (4, None, {"servers": {"tensor_parallel_size": 2}}, "2"),
        (4, None, {"servers": {"gpu_ids": ["0,1", "3"], "num_servers": 2}}, "2"),
        (2, None, {"servers": {"gpu_ids": ["0,1"], "tensor_parallel_size": 2}}, "1"),
        (2, None, ELSEWHERE, "0"),
        (8, "5,7", {}, "7"),
        (8, "5", {}, None),
    ],
)
def test_one_process_sees_one_gpu_that_no_server_has(
    monkeypatch: pytest.MonkeyPatch, num: int, visible: str | None, settings: dict[str, Any], expected: str | None
) -> None:
    monkeypatch.setattr("pipeline.inference.local_servers.gpus", lambda: ("a GPU",) * num)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert spare_gpu(Config.model_validate(settings)).get("CUDA_VISIBLE_DEVICES") == expected
