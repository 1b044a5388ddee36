"""What a step's line in the metrics holds, and what a session adds up."""

from __future__ import annotations

from pathlib import Path

from pipeline.experience.abstraction import Rejection
from pipeline.loop.step_metrics import StepReporter, Totals, step_metrics
from pipeline.run.metrics_log import MetricsWriter, read_metrics
from pipeline.runtime.stage_clock import StageClock
from pipeline.types import Attempt, Considered, Context, GroupOutcome, RolloutGroup, SearchOutcome, Verdict
from tests.builders import experience, group


def test_the_numbers_of_a_step() -> None:
    numbers = step_metrics([group(slot=0), group(slot=1, rewards=(1.0, 1.0))])
    assert numbers["reward"] == 0.75
    assert numbers["share_zero_variance"] == 0.5
    assert numbers["num_scratch"] == 2
    assert "reward_inter" not in numbers
    assert numbers["num_completion_tokens"] == 8


def test_the_share_of_candidates_that_gamma_removes_and_the_age_of_attempts() -> None:
    outcomes: list[tuple[SearchOutcome, float | None]] = [
        ("same_problem", None), ("near_duplicate", None), ("below_threshold", 0.7), ("shown", 0.99),
        ("not_among_best", 0.95), ("below_threshold", 0.8),
    ]  # fmt: skip
    considered = tuple(
        Considered(id=str(number), bm25=1.0, similarity=similarity, outcome=outcome)
        for number, (outcome, similarity) in enumerate(outcomes)
    )
    inter = group(context=Context(drawn="inter", kind="inter", considered=considered))
    attempts = [
        Context(drawn="intra", kind="intra", attempt=Attempt(problem_id="p", text="1", policy_step=step))
        for step in (3, None)
    ]
    numbers = step_metrics([inter, *(group(step=5, context=context) for context in attempts)])
    assert (numbers["num_compared"], numbers["share_below_threshold"]) == (4, 0.5)
    assert (numbers["similarity_median"], numbers["num_near_duplicates"]) == (0.875, 1)
    assert numbers["attempt_age"] == 2
    totals = Totals()
    totals.add([inter, inter])
    assert totals.as_dict()["candidates"]["below_threshold"] == 4
    assert "share_below_threshold" not in step_metrics([group()])


def test_each_scorer_has_a_column() -> None:
    made = group(rewards=(1.0, 0.5, 0.0))
    kinds = [{"math": 1.0, "style": -2.0}, {"math": 0.0, "style": 1.0}, {}]
    rollouts = [
        rollout.model_copy(update={"verdict": Verdict(kind="scored" if of else "error", components=of)})
        for rollout, of in zip(made.rollouts, kinds, strict=True)
    ]
    numbers = step_metrics([made.model_copy(update={"rollouts": tuple(rollouts)})])
    assert (numbers["score_math"], numbers["score_style"], numbers["verifier_failures"]) == (0.5, -0.5, 1)
    assert numbers["missing_modules"] == 0


def test_programs_that_import_what_is_not_there_are_counted_apart() -> None:
    made = group(rewards=(1.0, 0.0, 0.0))
    kinds = ("scored", "missing_module", "error")
    rollouts = [
        rollout.model_copy(update={"verdict": Verdict(kind=kind)})
        for rollout, kind in zip(made.rollouts, kinds, strict=True)
    ]
    numbers = step_metrics([made.model_copy(update={"rollouts": tuple(rollouts)})])
    assert (numbers["missing_modules"], numbers["verifier_failures"]) == (1, 2)


def test_lost_groups_rejections_and_steps_are_written_and_added_up(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    reporter = StepReporter(MetricsWriter(file, "orchestrator"), StageClock())
    lost = {"step": 4, "slot": 1, "turn": 0, "problem_id": "p"}
    reporter.lost_group(GroupOutcome(kind="failed", error_kind="http_400", **lost))
    reporter.lost_group(GroupOutcome(kind="zero_variance", **lost))
    reporter.lost_group(GroupOutcome(kind="rescued", **lost))
    reporter.lost_group(GroupOutcome(kind="rescue_failed", **lost))
    reporter.rejections(4, [experience(1), Rejection(rollout_id="r", reason="cut")])
    reporter.step(4, [group(step=4, oldest=3), group(step=4, slot=1, oldest=2)], 2.0, pool_size=7)
    assert reporter.outcomes == {"failed": 1, "zero_variance": 1, "rescued": 1, "rescue_failed": 1}
    assert reporter.totals.rejected == {"cut": 1}
    assert reporter.totals.drawn == {"scratch": 2}
    assert reporter.staleness == 2
    lines, _ = read_metrics(file)
    assert [(line["event"], line["step"]) for line in lines] == [
        *[("group_outcome", 4)] * 4,
        ("entry_rejected", 4),
        ("step", 4),
    ]
    step = lines[-1]
    assert (step["sampled_tokens_per_s"], step["pool_size"], step["staleness"]) == (4.0, 7, 2)
    assert (step["entries_rejected_total"], step["groups_failed_total"], step["groups_refilled_total"]) == (1, 1, 1)
    assert (step["groups_rescued_total"], step["rescues_failed_total"]) == (1, 1)


def test_rescues_are_counted_by_their_own_kind_and_never_as_inter_or_intra() -> None:
    wrong = group(rewards=(0.0, 0.0))
    context = Context(drawn="inter", kind="rescue_intra", attempt=Attempt(problem_id="p", text="1", policy_step=0))
    rescued = group(slot=1, context=context, rescued=wrong.as_rescued(), tried_rescue=True)
    tried = group(slot=2, rewards=(0.0, 0.0), tried_rescue=True)
    numbers = step_metrics([wrong, rescued, tried])
    assert (numbers["num_rescue_intra"], numbers["num_rescue_inter"], numbers["num_intra"]) == (1, 0, 0)
    assert (numbers["num_drawn_inter"], numbers["reward_rescue_intra"], numbers["num_rescues_tried"]) == (1, 0.5, 2)
    assert numbers["share_all_wrong"] == 2 / 3
    totals = Totals()
    totals.add([wrong, rescued, tried])
    assert totals.as_dict()["rescues"] == {"tried": 2, "rescue_intra": 1}
    assert totals.drawn == {"scratch": 2, "inter": 1}
    assert totals.carried["inter"] == 0, "its prompt fell back to scratch"


def test_what_nobody_could_judge_is_not_all_wrong() -> None:
    def judged(*kinds: str) -> RolloutGroup:
        made = group(rewards=(0.0,) * len(kinds))
        rollouts = tuple(
            one.model_copy(update={"verdict": Verdict.model_validate({"kind": kind})})
            for one, kind in zip(made.rollouts, kinds, strict=True)
        )
        return made.model_copy(update={"rollouts": rollouts})

    assert judged("scored", "no_answer").all_wrong
    assert judged("scored", "error").all_wrong
    assert not judged("error", "timeout").all_wrong
    assert not group(rewards=(0.0, 1.0)).all_wrong
