"""The probe within a run: bounded in time whatever the endpoint does, and graded by the run's own verifier."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config
from pipeline.config.loading import load_recipe
from pipeline.inference.protocol import Reply
from pipeline.inference.usage import Prices, Usage
from pipeline.observability.summary import render_summary
from pipeline.probe import short
from pipeline.probe.grounds import grade_number
from pipeline.probe.short import short_probe
from pipeline.probe.skills import Answer
from pipeline.problems.dataset import load_problems
from pipeline.run.folder import RunFolder
from pipeline.run.state import AFTER_SFT, RunState, skills_file
from pipeline.types import Message, Task, Verdict
from tests.skilled_policy import SkilledPolicy


class Endpoints:
    """A scripted model; requests that `hangs` names are never answered."""

    def __init__(self, hangs: Callable[[int], bool] = lambda number: False) -> None:
        self.usage = Usage(Prices())
        self.policy = SkilledPolicy()
        self.num_cancelled = self.num_asked = 0
        self._hangs = hangs

    async def chat(self, messages: tuple[Message, ...], *, temperature: float, seed: int, **wanted: Any) -> Reply:
        self.num_asked += 1
        if self._hangs(self.num_asked):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.num_cancelled += 1
                raise
        return await self.policy(messages, seed, {"temperature": temperature})


class Verifier:
    def __init__(self) -> None:
        self.num_asked = 0

    async def verify(self, text: str, task: Task) -> Verdict:
        self.num_asked += 1
        answer, correct = await grade_number(text, task)
        return Verdict(kind="scored", correct=correct, answer=answer)


@pytest.fixture
def config() -> Config:
    config = load_recipe("quickstart")
    return config.model_copy(update={"rollout": config.rollout.model_copy(update={"templates": "compact"})})


async def probed(config: Config, endpoints: Endpoints, verifier: Verifier, out: Path) -> Any:
    heldout = load_problems(config.problems, 0).heldout
    return await short_probe(AFTER_SFT, config, endpoints, verifier, heldout, out)  # type: ignore[arg-type]


async def test_the_skills_of_a_run_are_in_its_state_and_summary(config: Config, tmp_path: Path) -> None:
    run = RunFolder.create(config.model_copy(update={"run": config.run.model_copy(update={"root": tmp_path})}))
    endpoints, verifier, out = Endpoints(), Verifier(), skills_file(run.evals, AFTER_SFT)
    found = await probed(config, endpoints, verifier, out)
    assert found.verdicts["follow"] == "yes"
    assert {(one.skill, one.ground) for one in found.skills} == {
        ("follow", "operators"), ("summarise", "operators"), ("ignore", "heldout"), ("inspect", "heldout")
    }  # fmt: skip
    assert verifier.num_asked == 4 * config.eval.num_probed, "with and without a lesson, before and after a critique"
    lines = out.read_text().splitlines()
    assert {Answer.model_validate_json(line).skill for line in lines} == set(found.verdicts)
    state = RunState(run)
    state.skills[AFTER_SFT] = found.model_dump(mode="json") | {"step": 0}
    state.save()
    (line,) = (line for line in render_summary(run, RunState(run).values) if "skills, after SFT" in line)
    assert "follow (operators) yes" in line and "both contradicting lessons followed 100%" in line


async def test_an_endpoint_that_hangs_costs_a_run_no_more_than_the_budget(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(short, "BUDGET_S", 0.5)
    some = Endpoints(hangs=lambda number: number % 7 == 0)
    found = await probed(config, some, Verifier(), tmp_path / "a.jsonl")
    assert some.num_cancelled > 0
    assert found.skills, "what was answered is reported"
    assert found.failures.keys() == {short.OUT_OF_TIME}
    nothing = await probed(config, Endpoints(hangs=lambda number: True), Verifier(), tmp_path / "b.jsonl")
    assert (nothing.verdicts, nothing.conclusion) == ({}, "Nothing was measured.")
    assert nothing.seconds < 20


async def test_what_a_judge_would_be_paid_for_is_left_out(config: Config, tmp_path: Path) -> None:
    reward = {"scorer": "judge", "judge": {"endpoint": {"url": "http://127.0.0.1:1"}}}
    config = Config.model_validate({**config.model_dump(), "reward": {**config.reward.model_dump(), **reward}})
    verifier = Verifier()
    found = await probed(config, Endpoints(), verifier, tmp_path / "a.jsonl")
    assert verifier.num_asked == 0
    assert set(found.verdicts) == {"follow", "summarise"}
