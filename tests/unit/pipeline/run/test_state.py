"""The state of a run outlives its sessions, and the names that it was made under."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config
from pipeline.errors import DiskError
from pipeline.run.folder import RunFolder
from pipeline.run.state import AFTER_SFT, BASE_MODEL, RunState, answers_file, under_todays_names

FORMER: dict[str, Any] = {
    "evals": {
        "untouched": {"name": "untouched", "accuracy": 0.25, "step": 0, "interval": [0.2, 0.3]},
        "after SFT": {"name": "after SFT", "accuracy": 0.5, "step": 0, "interval": [0.4, 0.6]},
    },
    "sittings": 2,
    "sft": {"skipped": None},
    "totals": {"drawn": {"inter": 3}},
}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(Config.model_validate({"run": {"root": tmp_path, "name": "r"}}))


def test_a_new_run_knows_nothing_of_itself(run: RunFolder) -> None:
    assert RunState(run).values == {"evals": {}, "sessions": 0}
    assert not run.state_file.exists()


def test_a_state_under_former_names_is_read_under_todays_and_saved_so(run: RunFolder) -> None:
    run.state_file.write_text(json.dumps(FORMER))
    state = RunState(run)
    state.values["sessions"] += 1
    state.save()
    stored = json.loads(run.state_file.read_text())
    assert stored == RunState(run).values
    assert stored["sessions"] == 3
    assert "sittings" not in stored
    assert list(stored["evals"]) == [BASE_MODEL, AFTER_SFT]
    assert stored["evals"][BASE_MODEL] == FORMER["evals"]["untouched"] | {"name": BASE_MODEL}
    assert stored["evals"][AFTER_SFT] == FORMER["evals"]["after SFT"]
    assert stored["sft"] == FORMER["sft"]


def test_reading_changes_no_file(run: RunFolder) -> None:
    run.state_file.write_text(json.dumps(FORMER))
    assert RunState(run).evals[BASE_MODEL]["accuracy"] == 0.25
    assert json.loads(run.state_file.read_text()) == FORMER


def test_the_answers_of_the_base_model_are_found_under_either_name(tmp_path: Path) -> None:
    today, former = tmp_path / "base_model.jsonl", tmp_path / "untouched.jsonl"
    assert answers_file(tmp_path, BASE_MODEL) == today
    former.touch()
    assert answers_file(tmp_path, BASE_MODEL) == former
    today.touch()
    assert answers_file(tmp_path, BASE_MODEL) == today
    assert answers_file(tmp_path, AFTER_SFT) == tmp_path / "after_SFT.jsonl"
    assert answers_file(tmp_path, "step 3") == tmp_path / "step_3.jsonl"


def test_totals_are_summed_over_sessions(run: RunFolder) -> None:
    first = RunState(run)
    first.add_to_totals(drawn={"inter": 3}, usage={"rollout": {"requests": 2}}, cost=0.5)
    first.set_total("pool_size", 7)
    first.save()
    second = RunState(run)
    second.add_to_totals(drawn={"inter": 1, "intra": 2}, usage={"eval": {"requests": 1}}, accepted=4)
    second.set_total("pool_size", 5)
    assert second.values["totals"] == {
        "drawn": {"inter": 4, "intra": 2},
        "usage": {"rollout": {"requests": 2}, "eval": {"requests": 1}},
        "cost": 0.5,
        "pool_size": 5,
        "accepted": 4,
    }


def test_a_full_disk_leaves_what_was_there(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    RunState(run).save()
    before = run.state_file.read_text()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    state = RunState(run)
    state.values["sessions"] = 1
    monkeypatch.setattr("pipeline.runtime.files.os.fsync", full)
    with pytest.raises(DiskError):
        state.save()
    assert run.state_file.read_text() == before


def test_of_a_former_name_and_todays_the_latter_counts() -> None:
    both = {"sessions": 5, "sittings": 1, "evals": {BASE_MODEL: {"accuracy": 0.9}, "untouched": {"accuracy": 0.1}}}
    for stored in (both, dict(reversed(both.items()))):
        values = under_todays_names(stored)
        assert values["sessions"] == 5
        assert values["evals"] == {BASE_MODEL: {"accuracy": 0.9}}
