"""Runs the whole command, with the real learner on a tiny model, in folders of its own; kills it, resumes it, and reads
what came out.

A session that nobody kills must finish the run: that the one after it would does not count."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.experience.pool import Pool
from pipeline.run.folder import RunFolder
from pipeline.storage.journal import Journal
from tests.integration import crash_child
from tests.integration.crash_points import POINTS
from tests.integration.test_end_to_end import command, environment, lines_of, processes_of
from tests.tiny_model import make_tiny_model

OPTIONS = {
    "problems.source": "jsonl",
    "problems.num_heldout": "8",
    "eval.num_problems": "8",
    "eval.num_probed": "2",
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
LONGEST_SESSION_S = 900.0
DieAt = Mapping[str, int]
"""Crash points by name, and the passing at which each of them kills."""


class Driver:
    """`options` come on top of `OPTIONS`; `num_problems` sums are made to train on."""

    def __init__(
        self,
        tmp_path: Path,
        repository: Path,
        url: str,
        *,
        num_problems: int = 24,
        hidden_size: int = 128,
        **options: object,
    ) -> None:
        self.tmp_path = tmp_path
        self._repository = repository
        self._model = make_tiny_model(tmp_path / "model", hidden_size=hidden_size)
        _write_sums(tmp_path / "sums.jsonl", num_problems + int(OPTIONS["problems.num_heldout"]))
        self._options = {
            **OPTIONS,
            "problems.train_file": str(tmp_path / "sums.jsonl"),
            "endpoints": json.dumps([{"url": url}]),
            **{name.replace("__", "."): str(value) for name, value in options.items()},
        }

    def folder(self, name: str) -> Path:
        return self.tmp_path / "runs" / name

    def ledger(self, name: str) -> Path:
        return self.tmp_path / f"{name}.ledger"

    def output(self, name: str) -> str:
        return (self.tmp_path / f"{name}.txt").read_text()[-4000:]

    def start(
        self, name: str, die_at: DieAt | None = None, *, marks: Path | None = None, often: bool = True
    ) -> subprocess.Popen[bytes]:
        """Begin the run `name`, or resume it where it is."""
        path, marks = self.folder(name), marks or self.tmp_path
        if (path / "config.json").exists():
            arguments = ["--resume", str(path)]
        else:
            fixed = {"run.root": str(path.parent), "run.name": name, "model.path": str(self._model)}
            arguments = [part for key, value in {**fixed, **self._options}.items() for part in (f"--{key}", value)]
        env = environment(self.tmp_path, self._repository)
        env["PYTHONPATH"] = os.pathsep.join([str(crash_child.SITE), env["PYTHONPATH"]])
        env[crash_child.VARIABLE] = crash_child.plan(
            marks, die_at=dict(die_at or {}), ledger=self.ledger(name), often=often
        )
        with (self.tmp_path / f"{name}.txt").open("ab") as file:
            return subprocess.Popen(
                command("train", *arguments), stdout=file, stderr=subprocess.STDOUT, env=env, cwd=self.tmp_path
            )

    def die(self, name: str, die_at: DieAt) -> None:
        """One session, in which a process dies at each of these points."""
        marks = self.tmp_path / f"{name}-{len(list(self.tmp_path.glob(f'{name}-*')))}"
        marks.mkdir()
        status = self._wait(self.start(name, die_at, marks=marks))
        # A learner may outlive its orchestrator for a while. Where nobody waits for its death, the next session begins
        # at once.
        while (left := set(die_at) - {mark.name for mark in marks.iterdir()}) and processes_of(self.folder(name)):
            time.sleep(0.05)
        assert left == set(), f"{left} never passed:\n{self.output(name)}"
        assert (status != 0) == any(POINTS[name].broken for name in die_at)

    def finish(self, name: str, *, often: bool = True) -> RunFolder:
        """One session that nobody kills, to the end of the run."""
        status = self._wait(self.start(name, often=often))
        assert status == 0, self.output(name)
        assert processes_of(self.folder(name)) == []
        return RunFolder.open(self.folder(name))

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        try:
            return process.wait(timeout=LONGEST_SESSION_S)
        finally:
            process.kill()
            process.wait()


@contextmanager
def mock_endpoint(repository: Path, *options: str) -> Iterator[str]:
    """A server that repeats itself; its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "servers.mock", "--latency", "uniform:0.01,0.05", *options],
        stdout=subprocess.PIPE,
        text=True,
        cwd=repository,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def _write_sums(file: Path, num: int) -> None:
    rng = random.Random(0)
    with file.open("w") as lines:
        for _ in range(num):
            terms = [rng.randint(2, 99) for _ in range(rng.randint(2, 3))]
            row = {"question": f"What is {' + '.join(map(str, terms))}?", "answer": str(sum(terms))}
            lines.write(json.dumps(row) + "\n")


def without_lineage(text: str) -> str:
    """Ids begin with the lineage that made them, which is all that may differ."""
    return re.sub(r"\bl\d+-", "", text)


def groups_of(run: RunFolder) -> list[Any]:
    journal, lineages, found = Journal(run.store), run.lineages(), []
    for step in range(run.config().learner.num_steps):
        for group in journal.read_step(step, lineages):
            rollouts = [(rollout.token_ids, rollout.logprobs, rollout.reward) for rollout in group.rollouts]
            context = without_lineage(group.context.model_dump_json())
            rescue = (group.rescued, group.tried_rescue)
            found.append((step, group.slot, group.problem.id, context, (group.prompt_ids, rescue), rollouts))
    return found


def client_of(run: RunFolder) -> list[Any]:
    entries = list(Pool(run.store).entries())
    ids = [without_lineage(entry.id) for entry in entries]
    texts = [(entry.problem_id, entry.lesson.model_dump_json(), entry.reward, entry.step) for entry in entries]
    return sorted(zip(ids, texts, strict=True))


def losses_of(run: RunFolder) -> dict[int, tuple[float, float]]:
    """Loss and gradient norm of each step, the last time that it was trained."""
    return {line["step"]: (line["loss"], line["grad_norm"]) for line in lines_of(run, "learner_step")}


def assert_equal(broken: RunFolder, unbroken: RunFolder) -> None:
    """Every group, every loss, the pool, the final weights. A group that was lost, trained twice or sampled by the
    wrong weights would show in all that follows it."""
    num_steps, expected_groups = unbroken.config().learner.num_steps, groups_of(unbroken)
    assert groups_of(broken) == expected_groups
    assert client_of(broken) == client_of(unbroken)
    expected, found = losses_of(unbroken), losses_of(broken)
    assert found.keys() == expected.keys() == set(range(1, num_steps + 1))
    for step, numbers in expected.items():
        assert found[step] == pytest.approx(numbers, rel=TOLERANCE, abs=TOLERANCE)
    weights = [load_file(run.final_model / "model.safetensors") for run in (broken, unbroken)]
    for key, tensor in weights[1].items():
        torch.testing.assert_close(weights[0][key], tensor, rtol=0, atol=0)


def assert_worth_comparing(unbroken: RunFolder) -> None:
    """That run has everything that could go wrong in the others: contexts of every kind, lessons, learning; rescues
    where it makes some."""
    config, groups = unbroken.config(), groups_of(unbroken)
    assert len(groups) == config.rollout.num_problems_per_step * config.learner.num_steps
    kinds = {json.loads(context)["kind"] for _, _, _, context, _, _ in groups}
    assert kinds == {"scratch", "inter", "intra", *(["rescue_intra"] if config.feedback.rescue == "reflect" else [])}
    assert client_of(unbroken)
    start = load_file(unbroken.weights / "l0-s000000" / "model.safetensors")
    end = load_file(unbroken.final_model / "model.safetensors")
    assert any(not torch.equal(start[key], tensor) for key, tensor in end.items())
