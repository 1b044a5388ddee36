"""SIGKILL of orchestrator or learner at any moment, and the run comes out the same (docs/promises.md: 1, 2, 12).

The whole command with the real learner on a tiny model, S = 0, and the mock endpoint as a server that repeats itself. A run that is
killed again and again and resumed each time is compared with one that was left alone: every group, every loss, the pool, the
final weights. A group that was lost, trained twice or sampled by the wrong weights would show in all that follows it."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.journal import Journal
from pipeline.pool import Pool
from pipeline.run import RunFolder
from tests.integration.test_end_to_end import command, environment, lines_of, processes_of
from tests.tiny_model import make_tiny_model

OPTIONS = {
    "problems.num_train": "24",
    "problems.num_heldout": "8",
    "eval.num_problems": "8",
    "eval.baseline": "false",
    "sft.enabled": "false",
    "feedback.similarity_threshold": "0.3",
    "rollout.group_size": "4",
    "rollout.num_problems_per_step": "4",
    "rollout.sampling.max_tokens": "48",
    "rollout.sampling.seeded": "true",
    "abstraction.num_per_step": "2",
    "abstraction.max_tokens": "400",
    "learner.checkpoint_every": "2",
    "learner.num_weights_kept": "2",
    "learner.kl_coef": "0.04",
    "learner.learning_rate": "1e-3",
    "learner.logprob_gap_tolerance": "1e9",
    "learner.report_to": "[]",
}
TOLERANCE = 1e-6
MAX_SITTINGS = 100


@pytest.fixture
def mock_url(repository: Path) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "servers.mock", "--latency", "uniform:0.01,0.05"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=repository,
    )
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.terminate()
    process.wait()


class Driver:
    """Runs the command in a folder of its own until the run is done; kills it at moments drawn from `seed`."""

    def __init__(self, tmp_path: Path, repository: Path, url: str, num_steps: int) -> None:
        self.tmp_path, self.env = tmp_path, environment(tmp_path, repository)
        self.model = make_tiny_model(tmp_path / "model")
        options = {**OPTIONS, "learner.num_steps": str(num_steps), "endpoints": json.dumps([{"url": url}])}
        self.options = [part for name, value in options.items() for part in (f"--{name}", value)]

    def finished(self, name: str, num_kills: int = 0, seed: int = 0) -> RunFolder:
        rng, path, num_killed = random.Random(seed), self.tmp_path / "runs" / name, 0
        for _ in range(MAX_SITTINGS):
            process = self._start(name, path)
            try:
                if num_killed < num_kills and self._kill(process, path, rng):
                    num_killed += 1
                status = process.wait(timeout=300)
            finally:
                process.kill()
                process.wait()
            # What a killed orchestrator leaves behind may still be at work: the next sitting begins at once.
            if status == 0:
                assert num_killed == num_kills, "it was done before it could be killed as often as wanted"
                assert processes_of(path) == []
                return RunFolder.open(path)
        raise AssertionError(self._output(name).read_text()[-3000:])

    def _start(self, name: str, path: Path) -> subprocess.Popen[bytes]:
        if (path / "config.json").exists():
            arguments = ["train", "--resume", str(path)]
        else:
            fixed = {"run.root": str(path.parent), "run.name": name, "model.path": str(self.model)}
            arguments = [
                "train",
                *(part for key, value in fixed.items() for part in (f"--{key}", value)),
                *self.options,
            ]
        with self._output(name).open("ab") as file:
            return subprocess.Popen(
                command(*arguments), stdout=file, stderr=subprocess.STDOUT, env=self.env, cwd=self.tmp_path
            )

    def _output(self, name: str) -> Path:
        return self.tmp_path / f"{name}.txt"

    def _kill(self, process: subprocess.Popen[bytes], path: Path, rng: random.Random) -> bool:
        """Kill orchestrator or learner at its start or some steps later; whether there was still something to kill."""
        victim, num_steps, delay_s = rng.choice(["orchestrator", "learner"]), rng.randint(0, 3), rng.uniform(0.0, 1.0)
        old_pid, num_before = self._learner_pid(path), self._num_trained(path)
        while process.poll() is None and (
            self._learner_pid(path) in (None, old_pid) or self._num_trained(path) < num_before + num_steps
        ):
            time.sleep(0.05)
        time.sleep(delay_s)
        if process.poll() is not None:
            return False
        pid = process.pid if victim == "orchestrator" else self._learner_pid(path)
        assert pid is not None
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        print(f"killed the {victim} {delay_s:.1f} s after {num_steps} steps more")
        return True

    @staticmethod
    def _num_trained(path: Path) -> int:
        """Steps that were trained, those that a kill undid among them."""
        return len(lines_of(RunFolder.open(path), "learner_step")) if (path / "metrics.jsonl").exists() else 0

    @staticmethod
    def _learner_pid(path: Path) -> int | None:
        try:
            return json.loads((path / "learner.json").read_text())["pid"]
        except (OSError, ValueError, KeyError):
            return None


def without_lineage(text: str) -> str:
    """Ids begin with the lineage that made them, which is all that may differ."""
    return re.sub(r"\bl\d+-", "", text)


def groups_of(run: RunFolder, num_steps: int) -> list[Any]:
    journal, lineages, found = Journal(run.store), run.lineages(), []
    for step in range(num_steps):
        for group in journal.read_step(step, lineages):
            rollouts = [(rollout.token_ids, rollout.logprobs, rollout.reward) for rollout in group.rollouts]
            context = without_lineage(group.context.model_dump_json())
            found.append((step, group.slot, group.problem.id, context, group.prompt_ids, rollouts))
    return found


def pool_of(run: RunFolder) -> list[Any]:
    pool = Pool(run.store)
    ids = [without_lineage(entry.id) for entry in pool.entries()]
    texts = [(entry.problem_id, entry.lesson.model_dump_json(), entry.reward, entry.step) for entry in pool.entries()]
    return sorted(zip(ids, texts, strict=True))


def losses_of(run: RunFolder) -> dict[int, tuple[float, float]]:
    """Loss and gradient norm of each step, the last time that it was trained."""
    return {line["step"]: (line["loss"], line["grad_norm"]) for line in lines_of(run, "learner_step")}


@pytest.mark.parametrize(
    ("num_steps", "num_kills"), [(8, 2), pytest.param(40, 20, marks=pytest.mark.slow)], ids=["small", "full"]
)
def test_a_run_that_is_killed_again_and_again_equals_one_that_was_left_alone(
    tmp_path: Path, repository: Path, mock_url: str, num_steps: int, num_kills: int
) -> None:
    driver = Driver(tmp_path, repository, mock_url, num_steps)
    unbroken = driver.finished("unbroken")
    broken = driver.finished("broken", num_kills, seed=12)

    assert len(groups_of(unbroken, num_steps)) == 4 * num_steps
    assert groups_of(broken, num_steps) == groups_of(unbroken, num_steps)
    assert pool_of(broken) == pool_of(unbroken) != []
    assert any(group[3] != groups_of(unbroken, 1)[0][3] for group in groups_of(unbroken, num_steps)), (
        "contexts are used"
    )
    expected, found = losses_of(unbroken), losses_of(broken)
    assert found.keys() == expected.keys() == set(range(1, num_steps + 1))
    for step, numbers in expected.items():
        assert found[step] == pytest.approx(numbers, rel=TOLERANCE, abs=TOLERANCE)
    weights = [load_file(run.final_model / "model.safetensors") for run in (broken, unbroken)]
    for key, tensor in weights[1].items():
        torch.testing.assert_close(weights[0][key], tensor, rtol=0, atol=0)
    start = load_file(unbroken.weights / "l0-s000000" / "model.safetensors")
    assert any(not torch.equal(start[key], tensor) for key, tensor in weights[1].items())
