"""Reloads of a real server under load: every token bears the version of the weights that sampled it (docs/promises.md:
9)."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.reload import reloaded
from tests.integration.test_faults import full
from tests.tiny_model import make_tiny_model


async def test_adapters_under_load_are_the_ones_that_were_named_and_meet_no_cache_of_each_other(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    row = await reloaded(str(model), 3, 32, tmp_path, transfer="lora")
    print(row)
    assert row["failed"] == row["asked again"] == row["paused, s"] == row["over a reload"] == 0
    assert row["checked"] >= 60
    assert row["mislabelled"] == 0
    assert row["cached tokens"] > 0, "else no old block could have been met"
    assert row["gap to own model"] < 1e-4 < row["to the other"]


@pytest.mark.parametrize("num_reloads", [6, full(200)])
async def test_no_rollout_is_mislabelled_and_no_old_cache_is_hit(tmp_path: Path, num_reloads: int) -> None:
    model = make_tiny_model(tmp_path / "model")
    row = await reloaded(str(model), num_reloads, 64, tmp_path)
    print(row)
    assert row["failed"] == row["asked again"] == 0
    assert row["over a reload"] > num_reloads, "requests were in flight while it was paused"
    assert row["checked"] >= 100
    assert row["mislabelled"] == 0
    assert row["cached tokens"] > 0, "else no old block could have been met"
    assert row["gap to own model"] < 1e-4 < row["to the other"]
