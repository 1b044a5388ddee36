"""What the user is shown, from metric lines and state alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.observability.live_view import Board, View, duration
from pipeline.observability.summary import render_summary
from pipeline.run.folder import RunFolder
from pipeline.run.metrics_log import MetricsWriter, read_metrics
from pipeline.runtime.stage_clock import StageClock
from pipeline.statistics import wilson_interval

STEP = {
    "event": "step",
    "step": 0,
    "time_s": 1.0,
    "reward": 0.5,
    "reward_scratch": 0.25,
    "share_zero_variance": 0.5,
    "pool_size": 4,
}


def learner_step(step: int, time_s: float) -> dict[str, object]:
    return {
        "event": "learner_step",
        "step": step,
        "time_s": time_s,
        "kl": 0.001,
        "train_s": 2.0,
        "num_trained_tokens": 100,
    }


def test_the_board_shows_rewards_by_kind_rates_and_what_is_unknown() -> None:
    board = Board(10)
    board.update(STEP)
    board.update(learner_step(1, 1.0))
    line = board.line()
    assert "step 1/10" in line
    assert "scratch=0.25 inter=- intra=-" in line
    assert "50 trained" in line
    assert dict(board.rows())["zero-variance groups"] == "50%"


def test_the_eta_follows_the_last_steps() -> None:
    board = Board(10)
    assert board.eta_s is None
    for step in range(1, 5):
        board.update(learner_step(step, 10.0 * step))
    assert board.eta_s == pytest.approx(60.0)


def test_alerts_and_accuracies_are_kept() -> None:
    board = Board(10)
    board.update({"event": "alert", "message": "gap"})
    for _ in range(2):  # told by the command and read again from the metrics
        board.update({"event": "eval", "name": "after SFT", "accuracy": 0.5})
    assert board.alerts == ["gap"]
    assert dict(board.rows())["held-out accuracy"] == "after SFT 50.0%"
    board.update({"event": "eval", "name": "after RL", "accuracy": 0.6, "num_unanswered": 9})
    assert dict(board.rows())["held-out accuracy"] == "after SFT 50.0%   after RL 60.0% (9 unanswered)"


def test_the_live_table_renders(capsys: pytest.CaptureFixture[str]) -> None:
    view = View(10, live=True)
    with view.live():
        view.board.update(STEP)
        view.log("a line above the table")
    shown = capsys.readouterr().out
    assert "a line above the table" in shown
    assert "zero-variance groups" in shown


@pytest.mark.parametrize(("seconds", "text"), [(5, "0m05s"), (65, "1m05s"), (3661, "1h01m")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_metrics_are_read_in_whole_lines_and_nan_is_null(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    writer = MetricsWriter(file, "learner")
    writer.write("learner_step", 1, loss=float("nan"), kl=0.5)
    with file.open("a") as half:
        half.write('{"event": "half')
    lines, offset = read_metrics(file)
    assert [(line["loss"], line["kl"]) for line in lines] == [(None, 0.5)]
    assert file.read_bytes()[offset:] == b'{"event": "half'
    writer.write("learner_step", 2, loss=1.0)
    writer.write("learner_step", 3, loss=1.0)
    assert [line["step"] for line in read_metrics(file)[0]] == [1, 3], (
        "who wrote half a line was killed; 2 is lost with it"
    )


def test_a_second_of_a_stage_counts_once_however_many_requests_are_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([10.0, 14.0])
    monkeypatch.setattr("pipeline.run.metrics_log.time.monotonic", lambda: next(now))
    clock = StageClock()
    with clock.stage("a"), clock.stage("a"):
        pass
    clock.count("n", 3)
    assert clock.seconds["a"] == 4.0
    assert clock.counts["n"] == 3


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"), [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (0, 0, 0.0, 1.0)]
)
def test_wilson_intervals(successes: int, trials: int, low: float, high: float) -> None:
    assert list(wilson_interval(successes, trials)) == pytest.approx([low, high], abs=1e-3)


def test_the_summary_names_shares_intervals_costs_and_where_things_are(tmp_path: Path) -> None:
    run = RunFolder.create(Config.model_validate({"run": {"root": tmp_path, "name": "r"}}))
    MetricsWriter(run.metrics_file, "learner").write(
        "learner_step",
        1,
        num_trained_tokens=100,
        train_s=60.0,
        publish_s=1.0,
        reload_s=2.0,
        logprob_gap_mean=0.01,
        logprob_gap_max=0.5,
    )
    report = {"accuracy": 0.5, "interval": [0.4, 0.6], "num_problems": 256, "share_parsable": 1.0, "share_cut": 0.0}
    state = {
        "evals": {"after SFT": report | {"unanswered": {"timeout": 100}}, "after RL": report},
        "totals": {
            "drawn": {"inter": 4, "scratch": 2},
            "carried": {"inter": 3},
            "candidates": {
                "shown": 3,
                "not_among_best": 96,
                "below_threshold": 1,
                "same_problem": 9,
                "near_duplicate": 2,
            },
            "rescues": {"tried": 8, "rescue_intra": 2},
            "accepted": 20,
            "pool_size": 19,
            "rejected": {"malformed": 2},
            "usage": {"rollout": {"requests": 6, "prompt_tokens": 10, "completion_tokens": 50, "failed_timeout": 1}},
            "seconds": {"rollout": 61.0},
        },
    }
    shown = "\n".join(render_summary(run, json.loads(json.dumps(state))))
    for expected in (
        "after SFT: 50.0%, 95 % interval [40.0%, 60.0%], 156 answered of 256 held-out problems (100 without an answer",
        "after RL: 50.0%, 95 % interval [40.0%, 60.0%], 256 held-out problems, 100.0% parsable",
        "inter-drawn prompts that carried a context: 3 of 4 (75%)",
        "similarity_threshold = 0.9 removed 1 of 100 candidates (1.0%): it filters next to nothing, so that rank alone",
        "; 2 more were near-duplicates",
        "scratch groups that were all wrong and sampled again: 8; with a success then: rescue_intra 2 (25%)",
        "20 entries accepted, 19 held; rejected: malformed 2",
        "rollout: 6 requests (1 failed attempts), 10 prompt tokens, 50 sampled tokens",
        "rollout 1m01s",
        "train: 1 steps, 100 completion tokens in 1m00s",
        "mean gap 0.01000",
        str(run.path),
        f'from_pretrained("{run.final_model}")',
    ):
        assert expected in shown


@pytest.mark.parametrize(("shares", "dead"), [([1.0, 1.0], True), ([1.0, 0.5], False), ([], False)])
def test_the_summary_of_a_dead_run_does_not_end_in_no_alerts(shares: list[float], dead: bool, tmp_path: Path) -> None:
    run = RunFolder.create(Config.model_validate({"run": {"root": tmp_path, "name": "r"}}))
    learner, sampled = MetricsWriter(run.metrics_file, "learner"), MetricsWriter(run.metrics_file, "orchestrator")
    for step, share in enumerate(shares):
        scores = {"score_math": 0.25, "score_style": -1.0}
        sampled.write(
            "step", step, reward=0.125, share_zero_variance=share, verifier_failures=3, missing_modules=1, **scores
        )
    learner.write("learner_step", 1, num_trained_tokens=1, logprob_gap_mean=0.01, logprob_gap_max=0.5)
    shown = "\n".join(render_summary(run, {"evals": {}}))
    assert ("0 alerts, and NOTHING WAS LEARNED FROM REWARDS" in shown) is dead
    assert "0 alerts" in shown
    if shares:
        assert "mean reward: 0.125 at the first step, 0.125 at the last (math 0.250 style -1.000)" in shown
        assert "6 answers got no reward; 2 of these programs import what their sandbox lacks" in shown
