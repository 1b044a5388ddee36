"""The statistics of benchmarks/learning.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.learning import bootstrap_interval, differences, normal_interval
from pipeline.evaluation.heldout import Answer
from pipeline.types import Verdict


def write(folder: Path, name: str, correct: dict[str, bool]) -> None:
    (folder / "evals").mkdir(parents=True, exist_ok=True)
    lines = [
        Answer(
            problem_id=key, family="f", text="", finish_reason="stop", verdict=Verdict(kind="scored", correct=value)
        ).model_dump_json()
        for key, value in correct.items()
    ]
    (folder / "evals" / name).write_text("\n".join(lines))


def test_differences_are_paired_by_problem(tmp_path: Path) -> None:
    write(tmp_path, "after_SFT.jsonl", {"a": True, "b": False, "c": True})
    write(tmp_path, "after_RL.jsonl", {"b": True, "a": False, "c": True})
    assert differences(tmp_path, "after SFT", "after RL") == {"a": -1, "b": 1, "c": 0}


def test_the_interval_covers_the_mean_and_shrinks_with_the_number() -> None:
    mean, low, high = normal_interval([1, 0, 0, -1, 1, 0] * 10)
    assert low < mean < high
    assert mean == pytest.approx(1 / 6)
    _, low_more, high_more = normal_interval([1, 0, 0, -1, 1, 0] * 100)
    assert high_more - low_more < high - low


def test_the_bootstrap_keeps_the_seeds_of_a_problem_together() -> None:
    run = {str(i): (1 if i % 3 == 0 else 0) for i in range(60)}
    one, three = bootstrap_interval([run]), bootstrap_interval([run, run, run])
    assert one == three, "copies of a run add no information"
