"""A run and an evaluation as commit 790bb89 left them go on with the code of today: nothing is lost, or paid for twice.

What they are, and how they were made: make_old_run.py."""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.config.endpoints import EndpointSettings
from pipeline.config.renamed import RENAMED
from pipeline.evaluation.heldout import read_answers
from pipeline.run.folder import RunFolder
from pipeline.run.metrics_log import read_metrics
from pipeline.run.state import answers_file
from pipeline.runtime.files import flat
from pipeline.storage.journal import Journal
from pipeline.types import Origin, RolloutGroup
from tests.integration.command_line import lanpo
from tests.integration.conftest import StartMock
from tests.integration.make_old_run import (
    CODE,
    EVALUATE,
    EVALUATION,
    NUM_STEPS,
    PYTHON,
    ROOT,
    RUN,
    STOP_AFTER,
    cell_id,
    moved,
)

FIXTURE = Path(__file__).parents[1] / "data" / "run_790bb89.tar.xz"
EVALS_RENAMED = {"untouched": "base model"}
# What the uses of a lesson add up to: they grow when a run goes on.
USES = {"num_retrieved", "num_rollouts", "reward_sum"}
NUM_QUESTIONS = 6


@pytest.fixture
def old(tmp_path: Path, repository: Path) -> Path:
    """The folder in which the run was begun and the evaluation made, as if that had been this one."""
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(tmp_path, filter="data")
    moved(tmp_path, {ROOT: str(tmp_path), CODE: str(repository), PYTHON: sys.prefix})
    return tmp_path


async def done(folder: Path, repository: Path, *words: str) -> str:
    """What the command says; it must end well."""
    status, out = await lanpo(folder, repository, *words)
    assert status == 0, out[-4000:]
    return out


async def exported(folder: Path, repository: Path) -> list[dict[str, Any]]:
    """The lessons of the run, as `pool export` writes them."""
    file = folder / "exported.jsonl"
    await done(folder, repository, "pool", "export", str(RUN), str(file))
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def groups_of(run: RunFolder) -> list[list[RolloutGroup]]:
    """The groups that count, of each step."""
    journal, lineages = Journal(run.store), run.lineages()
    return [journal.read_step(step, lineages) for step in range(NUM_STEPS)]


async def requests_to(endpoint: EndpointSettings) -> dict[str, int]:
    """How often each route of the mock endpoint was asked."""
    async with httpx.AsyncClient() as client:
        counters = (await client.get(f"{endpoint.url}/_mock/counters")).json()
    return {route: int(num) for route, num in counters["requests"].items()}


def test_the_settings_of_then_are_read(old: Path) -> None:
    run = RunFolder.open(old / RUN)
    stored = flat(json.loads(run.config_file.read_text(encoding="utf-8")))
    read = flat(run.config().model_dump(mode="json"))
    assert len(stored) > 150
    for name, value in stored.items():
        assert read[name if name in read else RENAMED[name]] == value
    assert stored["sft.hasty_share"] == 0.5


async def test_the_run_goes_on_to_its_end(old: Path, repository: Path, start_mock: StartMock) -> None:
    run, endpoint = RunFolder.open(old / RUN), await start_mock()
    before, lessons = groups_of(run), json.loads((old / "expected.json").read_text(encoding="utf-8"))["entries"]
    lines_before, _ = read_metrics(run.metrics_file)
    state_before = json.loads(run.state_file.read_text(encoding="utf-8"))
    assert [len(groups) for groups in before] == [4, 4, 2, 0], "it was stopped amid a step"

    await done(old, repository, "train", "--resume", str(RUN), "--endpoints", json.dumps([{"url": endpoint.url}]))

    assert [(lineage.number, lineage.start_step) for lineage in run.lineages()] == [(0, 0), (1, STOP_AFTER)]
    after = groups_of(run)
    for kept, groups in zip(before, after, strict=True):
        assert [group.slot for group in groups] == [0, 1, 2, 3], "each slot is filled once"
        assert [group for group in groups if group.lineage == 0] == kept, "what was in the journal is not sampled again"
        assert all(group.versions[0].step == group.step for group in groups), "S = 0"
    num_new = sum(group.lineage == 1 for groups in after for group in groups)
    assert num_new == 6
    # Attempts to reflect on are sampled as rollouts are; the one more looks whether the endpoint can do it.
    num_sampled = sum(
        group.context.attempt is not None and not group.context.attempt.rollout_id
        for groups in after
        for group in groups
        if group.lineage == 1
    )
    assert (await requests_to(endpoint))["/inference/v1/generate"] == num_new + num_sampled + 1
    assert Journal(run.store).num_groups() == 4 * NUM_STEPS

    lines, _ = read_metrics(run.metrics_file)
    assert lines[: len(lines_before)] == lines_before
    assert [line["step"] for line in lines if line["event"] == "learner_step"] == list(range(1, NUM_STEPS + 1))
    by_id = {entry["id"]: entry for entry in await exported(old, repository)}
    for lesson in lessons:
        found = by_id[lesson["id"]]
        assert {name: found[name] for name in lesson if name not in USES} == without_uses(lesson)
    assert {entry["step"] for entry in by_id.values()} == set(range(NUM_STEPS))
    state = json.loads(run.state_file.read_text(encoding="utf-8"))
    renamed = {EVALS_RENAMED.get(name, name): report for name, report in state_before["evals"].items()}
    evals_before = {name: {**report, "name": name} for name, report in renamed.items()}
    assert {name: state["evals"][name] for name in evals_before} == evals_before
    assert list(evals_before) == ["base model", "after SFT"]
    assert state["sessions"] == state_before["sittings"] + 1
    assert "sittings" not in state
    assert len(read_answers(answers_file(run.evals, "base model"))) == evals_before["base model"]["num_problems"]
    (final,) = (name for name in state["evals"] if name not in evals_before)
    assert state["evals"][final]["step"] == NUM_STEPS
    assert (run.final_model / "model.safetensors").is_file()
    assert run.config().rollout.templates == "legacy", "as it began"
    assert (run.templates / "inter.txt").read_text(encoding="utf-8").startswith("Lessons from similar problems:")
    made = [Origin.model_validate(entry["origin"]) for entry in by_id.values()]
    assert {origin.templates.partition("@")[0] for origin in made} == {"", "legacy"}, "of before, and of now"


def without_uses(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in USES}


async def test_its_pool_is_exported_as_it_was(old: Path, repository: Path) -> None:
    expected = json.loads((old / "expected.json").read_text(encoding="utf-8"))["entries"]
    found = await exported(old, repository)
    assert len(expected) == 8
    assert any(entry["num_retrieved"] for entry in expected), "uses are read from its journal"
    assert [{name: entry.get(name) for name in expected[0]} for entry in found] == expected


async def test_the_evaluation_goes_on_and_asks_nothing_twice(
    old: Path, repository: Path, start_mock: StartMock
) -> None:
    folder, endpoint = old / EVALUATION, await start_mock()
    answers_before = (folder / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    cells_before = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    assert len(answers_before) == 2 * NUM_QUESTIONS

    await done(old, repository, "eval", "--endpoint", endpoint.url, "--moved", *EVALUATE, "--n", "2")

    assert (await requests_to(endpoint))["/v1/chat/completions"] == 2 * NUM_QUESTIONS, (
        "one more answer to each question"
    )
    answers = (folder / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    assert answers[: len(answers_before)] == answers_before
    assert len({json.loads(line)["key"] for line in answers}) == len(answers) == 4 * NUM_QUESTIONS
    cells = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    assert [cell_id(cell) for cell in cells] == [cell_id(cell) for cell in cells_before], "the same cells, wanting more"
    rows = json.loads((folder / "report.json").read_text(encoding="utf-8"))["rows"]
    assert [(row["mode"], row["num_problems"], row["num_samples"]) for row in rows] == [
        ("zero-shot", NUM_QUESTIONS, 2),
        ("retrieval", NUM_QUESTIONS, 2),
    ]
