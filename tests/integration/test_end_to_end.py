"""One run of everything, with real vLLM, the real learner, hot reloads, a stop and a resume, on a tiny random model.

The model's answers are noise, so nothing is said about learning; what is checked is that the parts fit and that nothing
is lost.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.run import checkpoints
from pipeline.run.folder import RunFolder
from pipeline.run.metrics_log import read_metrics
from pipeline.storage.journal import Journal
from tests.tiny_model import make_tiny_model

NUM_STEPS = 6
OPTIONS = {
    "run.name": "r",
    "servers.max_model_len": "512",
    "servers.kv_cache_gib": "0.25",
    "problems.num_train": "64",
    "problems.num_heldout": "8",
    "eval.num_problems": "8",
    "eval.num_probed": "2",
    "eval.max_tokens": "16",
    "rollout.group_size": "4",
    "rollout.num_problems_per_step": "4",
    "rollout.sampling.max_tokens": "16",
    "rollout.max_staleness": "1",
    "feedback.similarity_threshold": "0.5",
    "abstraction.num_per_step": "2",
    "abstraction.max_tokens": "400",
    "reward.scorer": "tests.integration.test_end_to_end:length_reward",
    "learner.num_steps": str(NUM_STEPS),
    "learner.precision": "float32",
    "learner.checkpoint_every": "2",
    "sft.num_pairs": "16",
    "sft.batch_size": "8",
}


def length_reward(text: str, answer: str) -> float:
    """Noise never solves a sum; this gives the groups some spread."""
    return float(len(text) % 2 == 0)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pipeline.orchestrate", *arguments]


def environment(tmp_path: Path, repository: Path) -> dict[str, str]:
    return {**os.environ, "LANPO_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(repository)}


def lines_of(run: RunFolder, event: str) -> list[dict[str, Any]]:
    return [line for line in read_metrics(run.metrics_file)[0] if line["event"] == event]


def wait_for(
    process: subprocess.Popen[bytes], run_path: Path, event: str, step: int, output: Path, timeout_s: float = 400
) -> None:
    """Wait until the run has written `event` of `step`; fail with the run's output when it ends or time is up."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        if (run_path / "config.json").exists() and any(
            line["step"] >= step for line in lines_of(RunFolder.open(run_path), event)
        ):
            return
        time.sleep(0.2)
    pytest.fail(f"no {event} of step {step}:\n{output.read_text()[-4000:]}")


def processes_of(run_path: Path) -> list[str]:
    """Command lines of living processes that mention the run folder."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(run_path) in line:
                found.append(line)
    return found


@pytest.mark.parametrize(
    "more", [{}, pytest.param({"learner.transfer": "lora", "learner.lora.rank": "4"}, marks=pytest.mark.slow)]
)
def test_a_run_trains_stops_on_ctrl_c_resumes_and_finishes(
    tmp_path: Path, repository: Path, more: dict[str, str]
) -> None:
    model = make_tiny_model(tmp_path / "model")
    env = environment(tmp_path, repository)
    options = [part for name, value in (OPTIONS | more).items() for part in (f"--{name}", value)]
    arguments = ["train", "--run.root", str(tmp_path / "runs"), "--model.path", str(model), *options]
    run_path, output = tmp_path / "runs" / "r", tmp_path / "output.txt"

    with output.open("wb") as file:
        process = subprocess.Popen(command(*arguments), stdout=file, stderr=subprocess.STDOUT, env=env, cwd=tmp_path)
    try:
        wait_for(process, run_path, "learner_step", 3, output)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 130, output.read_text()[-4000:]
    finally:
        process.kill()
    assert processes_of(run_path) == []
    assert f"train --resume {run_path}" in output.read_text()

    run = RunFolder.open(run_path)
    stopped_at = checkpoints.newest_whole(run)
    assert stopped_at is not None
    assert stopped_at >= 3
    acknowledged = Journal(run.store).num_groups()

    resumed = subprocess.run(
        command("train", "--resume", str(run_path)),
        capture_output=True,
        text=True,
        env=env,
        cwd=tmp_path,
        timeout=600,
        check=False,
    )
    assert resumed.returncode == 0, resumed.stdout[-4000:] + resumed.stderr[-4000:]
    assert processes_of(run_path) == []
    check_finished_run(run, acknowledged, resumed.stdout)
    check_final_model(run, env)


def check_finished_run(run: RunFolder, acknowledged: int, shown: str) -> None:
    journal, lineages = Journal(run.store), run.lineages()
    assert [lineage.number for lineage in lineages] == [0, 1]
    assert journal.num_groups() >= acknowledged
    trained = lines_of(run, "learner_step")
    assert [line["step"] for line in trained] == list(range(1, NUM_STEPS + 1)), "each step is trained exactly once"
    for step in range(NUM_STEPS):
        groups = journal.read_step(step, lineages)
        assert [group.slot for group in groups] == [0, 1, 2, 3]
        assert all(step - group.versions[0].step <= 1 for group in groups), "staleness within S"
        assert all(len(rollout.token_ids) == len(rollout.logprobs) for group in groups for rollout in group.rollouts)
    # float32 on both sides: where the versions agree, so do the log-probabilities. A head left behind by a reload shows
    # here.
    gaps = [line["logprob_gap_mean"] for line in trained if line["logprob_gap_mean"] is not None]
    assert gaps
    assert max(gaps) < 1e-4
    kinds = [group.context.kind for step in range(NUM_STEPS) for group in journal.read_step(step, lineages)]
    assert "intra" in kinds
    state = json.loads(run.state_file.read_text())
    assert set(state["evals"]) == {"base model", "after SFT", "after RL"}
    assert set(state["skills"]) == set(state["evals"])
    assert {line["name"] for line in lines_of(run, "probe")} == set(state["evals"])
    for name in ("base model", "after SFT", "after RL"):
        assert f"held-out accuracy, {name}:" in shown
    assert "wall clock by stage" in shown
    assert str(run.path) in shown
    assert len(json.loads(run.provenance_file.read_text())) == 2
    assert list(run.trackers.rglob("events.out.tfevents*"))
    assert {"orchestrator.log", "learner.log", "sft.log", "launch-0.log", "server-0.log"} <= {
        log.name for log in run.logs.iterdir()
    }


def check_final_model(run: RunFolder, env: dict[str, str]) -> None:
    """The line shown at the end loads the model, and it is not the model that reinforcement learning began with."""
    code = (
        "import sys, torch, transformers\n"
        "final, first = (transformers.AutoModelForCausalLM.from_pretrained(p) for p in sys.argv[1:])\n"
        "pairs = zip(final.parameters(), first.parameters())\n"
        "assert any(not torch.equal(a, b) for a, b in pairs)\n"
        "transformers.AutoTokenizer.from_pretrained(sys.argv[1])\n"
    )
    first = run.weights / "l0-s000000"
    done = subprocess.run(
        [sys.executable, "-c", code, str(run.final_model), str(first)],
        capture_output=True,
        text=True,
        env=env,
        check=False,
    )
    assert done.returncode == 0, done.stderr
