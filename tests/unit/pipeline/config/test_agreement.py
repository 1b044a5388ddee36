"""Settings that cannot go together are refused, with the remedy."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.config import Config


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"rollout": {"paired_groups": True, "max_groups_in_flight": 1}},
            r"set rollout\.max_groups_in_flight to 2 or more",
        ),
        (
            {"rollout": {"paired_groups": True, "num_problems_per_step": 5}},
            r"2 times learner\.num_processes = 1 must divide rollout\.num_problems_per_step = 5",
        ),
        (
            {"rollout": {"paired_groups": True, "num_problems_per_step": 6}, "learner": {"num_processes": 2}},
            r"2 times learner\.num_processes = 2 must divide",
        ),
        (
            {"rollout": {"paired_groups": True}, "feedback": {"rescue": "reflect"}},
            r"feedback\.rescue = 'reflect' samples .* set feedback\.rescue = 'off'",
        ),
        (
            {"learner": {"context_ratio_floor": 4.0}},
            r"context_ratio_floor = 4\.0 exceeds context_ratio_cap = 3\.0; lower learner\.context_ratio_floor",
        ),
        (
            {"learner": {"train_under": "scratch", "loss_type": "vespo"}},
            r"loss_type = 'vespo' weighs .* set learner\.train_under = 'sampled'",
        ),
        ({"learner": {"train_under": "scratch", "off_policy_threshold": 0.1}}, r"off_policy_threshold weighs .*"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config.model_validate(sections)


@pytest.mark.parametrize(
    "sections",
    [
        {"rollout": {"paired_groups": True, "max_groups_in_flight": 2}},
        {
            "rollout": {"paired_groups": True, "num_problems_per_step": 12},
            "learner": {"num_processes": 2, "num_groups_per_micro_batch": 3},
        },
    ],
)
def test_settings_that_go_together_are_taken(sections: dict[str, Any]) -> None:
    Config.model_validate(sections)
