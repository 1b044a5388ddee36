"""The learning rate by the step: no step is empty, and a run's length alone decides how it falls."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Config
from pipeline.config.learner import LearnerSection
from pipeline.config.rate import RateSchedule, rate_share
from pipeline.run.resume import schedule_note

SCHEDULES: tuple[RateSchedule, ...] = ("constant_with_warmup", "linear", "cosine", "inverse_sqrt")


@pytest.mark.parametrize(
    ("schedule", "num_warmup", "num_steps", "shares"),
    [
        ("constant_with_warmup", 3, 6, [0.25, 0.5, 0.75, 1, 1, 1]),
        ("constant_with_warmup", 0, 3, [1, 1, 1]),
        ("constant_with_warmup", 1, 3, [0.5, 1, 1]),
        ("linear", 0, 4, [1, 0.75, 0.5, 0.25]),
        ("linear", 1, 5, [0.5, 1, 0.75, 0.5, 0.25]),
        ("cosine", 0, 4, [1, 0.853553, 0.5, 0.146447]),
        ("inverse_sqrt", 1, 5, [0.5, 1, 0.707107, 0.57735, 0.5]),
        ("linear", 5, 3, [1 / 6, 2 / 6, 3 / 6]),
    ],
)
def test_the_shares_of_the_peak(schedule: RateSchedule, num_warmup: int, num_steps: int, shares: list[float]) -> None:
    found = [rate_share(step, schedule, num_warmup, num_steps) for step in range(num_steps)]
    assert found == pytest.approx(shares, abs=1e-6)


@given(st.sampled_from(SCHEDULES), st.integers(0, 50), st.integers(1, 200))
def test_no_step_of_a_run_is_empty(schedule: RateSchedule, num_warmup: int, num_steps: int) -> None:
    shares = [rate_share(step, schedule, num_warmup, num_steps) for step in range(num_steps)]
    assert all(0 < share <= 1 for share in shares)
    assert shares[:num_warmup] == sorted(shares[:num_warmup])
    assert shares[num_warmup:] == sorted(shares[num_warmup:], reverse=True)


def config(num_steps: int, schedule: RateSchedule) -> Config:
    return Config(learner=LearnerSection(num_steps=num_steps, lr_scheduler=schedule, num_warmup_steps=0))


def test_a_resume_with_more_steps_says_at_which_rate_it_goes_on() -> None:
    note = schedule_note(config(20, "linear"), config(40, "linear"), 20)
    assert "learner.num_steps = 40, 20 before: the 'linear' schedule is that of a run of 40 steps" in note
    assert "at step 20 a learning rate of 1.5e-06 in place of 0" in note
    assert schedule_note(config(20, "linear"), config(20, "linear"), 7) == ""
    assert schedule_note(config(20, "constant_with_warmup"), config(40, "constant_with_warmup"), 20) == ""


def test_a_resume_with_more_steps_says_at_which_p_t_it_goes_on() -> None:
    def annealing(num_steps: int, end_ratio: float | None = 0.0) -> Config:
        values = {"feedback": {"ratio": 0.8, "end_ratio": end_ratio}, "learner": {"num_steps": num_steps}}
        return Config.model_validate(values)

    note = schedule_note(annealing(11), annealing(21), 10)
    assert note.startswith("learner.num_steps = 21, 11 before: the 'linear' schedule is that of a run of 21 steps from")
    assert note.endswith("at step 10 a p_t (feedback.end_ratio) of 0.4 in place of 0")
    assert schedule_note(annealing(11, None), annealing(21, None), 10) == ""
    assert schedule_note(annealing(11), annealing(11), 10) == ""


def test_the_upper_bound_is_that_of_the_loss() -> None:
    assert LearnerSection().upper_bound == 0.2
    assert LearnerSection(loss_type="cispo").upper_bound == 5.0
    assert LearnerSection(loss_type="cispo", epsilon_high=4.0).upper_bound == 4.0


def test_a_loss_that_is_divided_by_each_micro_batch_is_not_rescaled() -> None:
    with pytest.raises(ValueError, match="rescale_zero_variance needs a loss that is divided once a step"):
        LearnerSection(loss_type="bnpo", rescale_zero_variance=True)
