"""SIGTERM and Ctrl-C drain, at whatever moment they come (docs/promises.md: 20), and no key is written meanwhile (19).

The whole command with the real learner on a tiny model, and the mock endpoint as the server, so that the start is
quick."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.run.folder import RunFolder
from pipeline.storage.journal import Journal
from tests.integration.test_end_to_end import command, environment, lines_of, processes_of, wait_for
from tests.tiny_model import make_tiny_model

KEY_ENV, KEY = "LANPO_TEST_KEY", "canary-key-7f3a91c2e5"
WITHIN_S = 30.0
OPTIONS = {
    "operations.log_level": "debug",
    "operations.log_format": "json",
    "problems.num_train": "64",
    "problems.num_heldout": "8",
    "eval.num_problems": "8",
    "eval.num_probed": "2",
    "eval.baseline": "false",
    "sft.enabled": "false",
    "rollout.group_size": "4",
    "rollout.num_problems_per_step": "4",
    "rollout.sampling.max_tokens": "24",
    "rollout.max_staleness": "1",
    "abstraction.num_per_step": "2",
    "abstraction.max_tokens": "400",
    "learner.num_steps": "1000",
    "learner.checkpoint_every": "50",
    "learner.num_weights_kept": "2",
}


@pytest.fixture
def mock_url(repository: Path) -> Iterator[str]:
    arguments = ["--latency", "uniform:0.01,0.05", "--faults", "20", "--fault-rate", "0.02", "--api-key-env", KEY_ENV]
    process = subprocess.Popen(
        [sys.executable, "-m", "servers.mock", *arguments],
        stdout=subprocess.PIPE, text=True, cwd=repository, env={**os.environ, KEY_ENV: KEY},
    )  # fmt: skip
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.terminate()
    process.wait()


def arguments_of(tmp_path: Path, model: Path, url: str) -> list[str]:
    endpoints = json.dumps([{"url": url, "api_key_env": KEY_ENV}])
    options = [part for name, value in OPTIONS.items() for part in (f"--{name}", value)]
    fixed = [
        "--run.root",
        str(tmp_path / "runs"),
        "--run.name",
        "r",
        "--model.path",
        str(model),
        "--endpoints",
        endpoints,
    ]
    return ["train", *fixed, *options]


@pytest.mark.parametrize("num", [1, pytest.param(50, marks=pytest.mark.slow)])
def test_a_signal_drains_at_any_moment_and_the_run_goes_on(
    tmp_path: Path, repository: Path, mock_url: str, num: int
) -> None:
    rng = random.Random(20)
    model = make_tiny_model(tmp_path / "model")
    env = {**environment(tmp_path, repository), KEY_ENV: KEY}
    run_path, output = tmp_path / "runs" / "r", tmp_path / "output.txt"
    reached = 0
    for index in range(num):
        resumed = (run_path / "config.json").exists()
        arguments = ["train", "--resume", str(run_path)] if resumed else arguments_of(tmp_path, model, mock_url)
        with output.open("ab") as file:
            process = subprocess.Popen(
                command(*arguments), stdout=file, stderr=subprocess.STDOUT, env=env, cwd=tmp_path
            )
        try:
            # Every third signal comes during the start, the others while steps are trained.
            if index % 3 == 1:
                time.sleep(rng.uniform(0.5, 12.0))
            else:
                wait_for(process, run_path, "learner_step", reached + 2, output)
                time.sleep(rng.uniform(0.0, 2.0))
            process.send_signal(rng.choice([signal.SIGINT, signal.SIGTERM]))
            begin = time.monotonic()
            status = process.wait(timeout=WITHIN_S)
            print(f"signal {index}: ended after {time.monotonic() - begin:.1f} s with {status}")
        finally:
            process.kill()
        # Before Python has read its first line there is nobody yet to drain: the signal's own status.
        assert status in (130, -signal.SIGINT, -signal.SIGTERM), output.read_text()[-3000:]
        assert processes_of(run_path) == []
        if (run_path / "config.json").exists():
            reached = max([reached, *(line["step"] for line in lines_of(RunFolder.open(run_path), "learner_step"))])
    assert "fork-safe" not in output.read_text() and "fork support" not in output.read_text(), "no child was forked"
    run = RunFolder.open(run_path)
    assert Journal(run.store).num_groups() >= 4 * reached > 0
    written = [
        path
        for path in run_path.rglob("*")
        if path.is_file() and path.suffix in (".log", ".json", ".jsonl", ".toml", "")
    ]
    assert any(path.name == "orchestrator.log" for path in written)
    for path in [*written, output]:
        assert KEY.encode() not in path.read_bytes(), f"the key is in {path.name}"
    assert any(KEY_ENV.encode() in path.read_bytes() for path in written), "its name is, so the search can find"
