"""The whole command with weights as adapters: real learner on a tiny model, S = 0, the mock endpoint as an endpoint of
the user's own, in the full form a SIGKILL on the way (docs/promises.md: 8, 9, 12)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.storage.journal import Journal
from pipeline.types import WeightVersion
from pipeline.weights.publishing import is_adapter
from tests.integration.crash_driver import Driver
from tests.integration.test_end_to_end import lines_of
from tests.integration.test_faults import full

NUM_STEPS = 4
LORA = {"learner__transfer": "lora", "learner__lora__rank": 4, "learner__learning_rate": 1e-2}


@pytest.fixture
def mock_url(repository: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "servers.mock", "--latency", "uniform:0.01,0.05", "--max-lora-rank", "8"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=repository)
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.terminate()
    process.wait()


@pytest.mark.parametrize("num_kills", [0, full(1)])
def test_a_run_samples_with_its_own_adapters_and_ends_with_a_whole_model(
    tmp_path: Path, repository: Path, mock_url: str, num_kills: int
) -> None:
    driver = Driver(tmp_path, repository, mock_url, learner__num_steps=NUM_STEPS, **LORA)  # type: ignore[arg-type]
    for _ in range(num_kills):
        driver.die("r", {"step trained": 3})
    run = driver.finish("r")

    lineages = run.lineages()
    assert len(lineages) == 1 + num_kills
    groups = [group for step in range(NUM_STEPS) for group in Journal(run.store).read_step(step, lineages)]
    assert len(groups) == 4 * NUM_STEPS
    for group in groups:
        own = WeightVersion(lineage=group.lineage, step=group.step)
        assert {
            version for rollout in group.rollouts for version in (rollout.oldest_version, rollout.newest_version)
        } == {own}
    published = {line["version"] for line in lines_of(run, "publish")}
    kept = {folder.name for folder in run.weights.iterdir() if folder.is_dir() and is_adapter(folder)}
    assert kept == published - {"l0-s000000"}, "a request of the last minutes may have named any of them"

    final, start = (load_file(folder / "model.safetensors") for folder in (run.final_model, run.weights / "l0-s000000"))
    assert {name for name in start if not torch.equal(start[name], final[name])} == {n for n in start if "_proj" in n}
    state = json.loads(run.state_file.read_text())
    assert set(state["evals"]) == {"base model", "after RL"}
