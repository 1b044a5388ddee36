"""What benchmarks.memory makes of processes and of looks at them."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.memory import ALL, Look, goals, kind_of, rows_of


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (["/x/.venv/bin/python", "-m", "trainer.learner", "--run", "r"], "learner"),
        (["python", "-m", "pipeline.orchestrate"], "orchestrator"),
        (["VLLM::EngineCore", "", ""], "vLLM engine core"),
        (["python -m pipeline.rewards.worker"], "verifier workers"),
        (["python", "-m", "something.else"], "something.else"),
        (["/usr/bin/make", "run"], "make"),
        ([], "ended"),
    ],
)
def test_a_process_is_known_by_its_command_line(command: list[str], kind: str) -> None:
    assert kind_of(command) == kind


def test_the_peak_of_all_is_that_of_one_moment() -> None:
    gib = 1 << 30
    looks = [
        Look(0.0, Counter(SFT=5 * gib, server=1 * gib), Counter(SFT=1, server=2)),
        Look(1.0, Counter(server=3 * gib), Counter(server=3)),
        Look(2.0, Counter(learner=4 * gib, server=3 * gib), Counter(learner=1, server=2)),
    ]
    rows = {row["processes"]: row for row in rows_of(looks)}
    assert list(rows) == [ALL, "learner", "server", "SFT"]
    assert rows[ALL]["peak, MiB"] == 7 * 1024, "not the 12 GiB that the kinds had at different times"
    assert rows["SFT"]["peak, MiB"] == 5 * 1024 and rows["SFT"]["at the peak of all, MiB"] == 0
    assert rows["server"]["most at once"] == 3
    assert not any(goal.is_missed for goal in goals(list(rows.values())))
    rows[ALL]["peak, MiB"] += 1
    assert all(goal.is_missed for goal in goals(list(rows.values())))
