"""Metrics lines, the alert on the log-probability gap, and the orchestrator's numbers for the trackers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.run.folder import RunFolder
from pipeline.run.metrics_log import MetricsWriter, read_metrics
from tests.unit.trainer.groups import tiny_config
from trainer.step_log import StepLog, TrackerFeed, kls_until


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tiny_config(tmp_path))


def written(run: RunFolder, gap: float | None) -> list[dict[str, Any]]:
    logs = {"loss": 0.5, "kl": 0.01, "clip_ratio/region_mean": 0.25, "reward": 0.75, "wait_s": 2.0}
    logs |= {} if gap is None else {"logprob_gap_mean": gap, "logprob_gap_max": 2 * gap}
    StepLog(MetricsWriter(run.metrics_file, "learner"), gap_tolerance=0.05).write(7, logs)
    return read_metrics(run.metrics_file)[0]


def test_a_line_per_step_with_null_for_what_was_not_measured(run: RunFolder) -> None:
    (line,) = written(run, None)
    assert (line["source"], line["event"], line["step"]) == ("learner", "learner_step", 7)
    assert (line["loss"], line["clip_ratio"], line["reward_mean"], line["wait_s"]) == (0.5, 0.25, 0.75, 2.0)
    assert line["logprob_gap_mean"] is None


def test_no_alert_within_the_tolerance(run: RunFolder) -> None:
    assert [line["event"] for line in written(run, 0.05)] == ["learner_step"]


def test_an_alert_above_the_tolerance(run: RunFolder) -> None:
    _, alert = written(run, 0.06)
    assert (alert["event"], alert["step"], alert["logprob_gap_mean"]) == ("alert", 7, 0.06)
    assert "learner.logprob_gap_tolerance = 0.05" in alert["message"]


@pytest.mark.parametrize(
    ("logs", "words"),
    [
        ({"grad_norm": 0.0, "share_zero_variance": 0.25}, ["rewards differ in 75% of the groups", "of about 1"]),
        ({"grad_norm": 0.0, "share_zero_variance": 0.0, "num_masked_stale": 4}, ["4 as stale", "left out"]),
        ({"grad_norm": 0.0, "share_zero_variance": 1.0}, []),
        ({"grad_norm": 1e-9, "share_zero_variance": 0.0}, []),
        ({"share_zero_variance": 0.0}, []),
    ],
)
def test_rewards_that_differ_without_a_gradient_are_an_alert(
    run: RunFolder, logs: dict[str, Any], words: list[str]
) -> None:
    StepLog(MetricsWriter(run.metrics_file, "learner"), gap_tolerance=0.05).write(7, logs)
    alerts = [line for line in read_metrics(run.metrics_file)[0] if line["event"] == "alert"]
    assert [(line["kind"], line["step"]) for line in alerts] == ([("no_gradient", 7)] if words else [])
    assert all(word in alerts[0]["message"] for word in words)


STEADY = {"kl": 0.06, "kl_top_share": 0.1, "kl_max": 1.0, "kl_without_top": 0.05}
OUTLIER = {"kl": 0.56, "kl_top_share": 0.91, "kl_max": 2900.0, "kl_without_top": 0.05}


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        (
            6,
            OUTLIER,
            ["0.56 nats", "0.06 in the median of 6 steps", "8 tokens hold 91% of it", "without which it is 0.05"],
        ),
        (6, OUTLIER | {"kl_top_share": 0.2}, ["no few tokens hold it: the policy moved", "learner.kl_coef"]),
        (6, OUTLIER | {"kl": 0.2}, []),
        (3, OUTLIER, []),
        (20, OUTLIER, ["in the median of 8 steps"]),
    ],
)
def test_a_kl_that_stands_out_is_an_alert_that_says_what_holds_it(
    run: RunFolder, before: int, now: dict[str, float], words: list[str]
) -> None:
    log = StepLog(MetricsWriter(run.metrics_file, "learner"), gap_tolerance=0.05)
    for step in range(before):
        log.write(step, STEADY)
    log.write(before, now)
    lines = read_metrics(run.metrics_file)[0]
    alerts = [line for line in lines if line["event"] == "alert"]
    assert [(line["kind"], line["step"], line["kl"]) for line in alerts] == (
        [("kl_outlier", before, now["kl"])] if words else []
    )
    assert all(word in alerts[0]["message"] for word in words)
    assert lines[before]["kl_top_share"] == now["kl_top_share"]


def test_after_a_resume_a_kl_is_compared_with_steps_of_the_session_before(run: RunFolder) -> None:
    writer = MetricsWriter(run.metrics_file, "learner")
    assert kls_until(run.metrics_file, 6) == []
    before = StepLog(writer, gap_tolerance=0.05)
    # Step 6 was trained twice, step 7 after the checkpoint; at step 2 nothing was measured.
    for step, kl in enumerate([0.05, None, 0.06, 0.06, 0.05, 9.0, 0.06, 9.0], start=1):
        before.write(min(step, 6) if step < 8 else 7, STEADY | {"kl": kl})
    kls = kls_until(run.metrics_file, 6)
    assert kls == [0.05, 0.06, 0.06, 0.05, 0.06]
    num_before = len(read_metrics(run.metrics_file)[0])
    StepLog(writer, gap_tolerance=0.05, kls=kls).write(7, OUTLIER)
    _, alert = read_metrics(run.metrics_file)[0][num_before:]
    assert "0.06 in the median of 5 steps before" in alert["message"]


def test_a_kl_that_grows_from_nothing_is_no_outlier(run: RunFolder) -> None:
    log = StepLog(MetricsWriter(run.metrics_file, "learner"), gap_tolerance=0.05)
    for step, kl in enumerate([0.0, 0.0001, 0.001, 0.004, 0.02, 0.09]):
        log.write(step, STEADY | {"kl": kl})
    assert [line["event"] for line in read_metrics(run.metrics_file)[0]] == ["learner_step"] * 6


def test_the_feed_gives_each_number_once_under_its_event(run: RunFolder) -> None:
    writer = MetricsWriter(run.metrics_file, "orchestrator")
    writer.write("step", 1, before="the learner began")
    feed = TrackerFeed(run)
    writer.write("step", 2, reward={"scratch": 0.25}, note="text", flag=True, empty=None)
    writer.write("step", 3, reward={"scratch": 0.5})
    MetricsWriter(run.metrics_file, "learner").write("learner_step", 3, loss=1.0)
    assert feed.numbers() == {"orchestrator/step/reward/scratch": 0.5}
    assert feed.numbers() == {}
