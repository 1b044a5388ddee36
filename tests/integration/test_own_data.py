"""A model, a file and a reward that are not ours, no other setting: nothing is trained that has no reasoning, and every
length fits (docs/promises.md: 30).

The whole command with the real learner on a tiny model, and the mock endpoint as the server, so that the start is
quick."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.rewards.extraction import extract_answer
from pipeline.run.folder import RunFolder
from tests.integration.test_end_to_end import command, environment, lines_of
from tests.tiny_model import make_tiny_model

NUM_ROWS, NUM_HELDOUT, NUM_STEPS = 200, 8, 2
NAMES = ("Ada", "Ben", "Cleo", "Dan")


def shelf(number: int) -> tuple[str, str, str]:
    """A word problem, its reasoning in prose, and its answer."""
    name, books, more = NAMES[number % 4], 10 + number, 3 + number % 7
    question = f"{name} has {books} books and buys {more} more. How many books has {name} now?"
    reasoning = f"{name} begins with {books} books.\nAfter buying there are {books} + {more} = {books + more} books."
    return question, reasoning, str(books + more)


def graded_reward(text: str, answer: str) -> float:
    """Graded, so that groups of noise have some spread."""
    return (len(text) % 5) / 4


@pytest.fixture
def mock_url(repository: Path) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "servers.mock"], stdout=subprocess.PIPE, text=True, cwd=repository
    )
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.terminate()
    process.wait()


def own_config(folder: Path, rows: list[dict[str, Any]], url: str) -> Path:
    """What a user writes, and how large a step is: lengths and SFT are left to the defaults."""
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = folder / "my.toml"
    config.write_text(
        f"""
        endpoints = [{{ url = "{url}" }}]
        [run]
        root = "{folder / "runs"}"
        name = "r"
        [model]
        path = "{make_tiny_model(folder / "model")}"
        [problems]
        source = "jsonl"
        train_file = "{file}"
        num_heldout = {NUM_HELDOUT}
        [eval]
        num_problems = {NUM_HELDOUT}
        [reward]
        scorer = "tests.integration.test_own_data:graded_reward"
        [rollout]
        group_size = 4
        num_problems_per_step = 2
        [abstraction]
        enabled = false
        [learner]
        num_steps = {NUM_STEPS}
        [sft]
        enabled = "auto"
        num_pairs = 48
        """,
        encoding="utf-8",
    )
    return config


def ran(folder: Path, repository: Path, *arguments: str) -> str:
    """What the command says; it must end well."""
    env = environment(folder, repository)
    result = subprocess.run(
        command(*arguments), capture_output=True, text=True, env=env, cwd=folder, timeout=400, check=False
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    return result.stdout


def stored(run: RunFolder) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(run.config_file.read_text(encoding="utf-8"))
    return values


def test_rows_without_solutions_are_not_seeded_on_and_the_run_says_why(
    tmp_path: Path, repository: Path, mock_url: str
) -> None:
    rows = [{"question": question, "answer": answer} for question, _, answer in map(shelf, range(NUM_ROWS))]
    config = own_config(tmp_path, rows, mock_url)
    says = ran(tmp_path, repository, "doctor", "--config", str(config))
    assert "no SFT: none of 192 training problems has a worked solution" in says

    says = ran(tmp_path, repository, "train", "--config", str(config))
    assert "SFT seeding: none, none of 192 training problems has a worked solution" in says
    assert "a bare answer as target would teach the model to leave its reasoning out" in says
    run = RunFolder.open(tmp_path / "runs" / "r")
    assert not (run.path / "sft_pairs.jsonl").exists()
    assert len(lines_of(run, "learner_step")) == NUM_STEPS

    values = stored(run)
    assert values["sft"]["enabled"] is False
    completion = values["rollout"]["sampling"]["max_tokens"]
    assert 64 <= completion == values["eval"]["max_tokens"] < 1024, "half of what 2,048 positions leave, or less"
    assert f"rollout.sampling.max_tokens = {completion}: " in says

    # What the configuration leaves open is no change of what the run has settled.
    more = ("--learner.num_steps", str(NUM_STEPS + 1))
    ran(tmp_path, repository, "train", "--resume", str(run.path), "--config", str(config), *more)
    assert len(lines_of(run, "learner_step")) == NUM_STEPS + 1
    assert stored(run)["rollout"] == values["rollout"]


def test_rows_as_gsm8k_has_them_are_seeded_on_with_their_reasoning(
    tmp_path: Path, repository: Path, mock_url: str
) -> None:
    shelves = [shelf(number) for number in range(NUM_ROWS)]
    rows = [{"question": q, "answer": f"{reasoning}\n#### {answer}"} for q, reasoning, answer in shelves]
    says = ran(tmp_path, repository, "train", "--config", str(own_config(tmp_path, rows, mock_url)))
    assert "SFT seeding: on 48 pairs from the worked solutions of 192 of 192 problems" in says
    run = RunFolder.open(tmp_path / "runs" / "r")
    assert stored(run)["sft"]["enabled"] is True

    pairs = [json.loads(line) for line in (run.path / "sft_pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(pairs) == 48
    for pair in pairs:
        user, target = (message["content"] for message in pair["messages"][-2:])
        if pair["skill"] != "summarise":
            # Lessons are headed by other problems.
            asked = user.rpartition("The problem to solve:")[2]
            ((_, reasoning, answer),) = [each for each in shelves if each[0] in asked]
            assert reasoning in target
            assert extract_answer(target) == answer
    longest = stored(run)["sft"]["max_length"]
    assert longest < 2048
    report = json.loads(run.state_file.read_text(encoding="utf-8"))["sft"]
    assert (report["num_pairs"], report["num_left_out"]) == (48, 0)
