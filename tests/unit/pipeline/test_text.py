"""Which name a mistyped one is taken for."""

from __future__ import annotations

import pytest

from pipeline.config.fields import known_fields
from pipeline.text import did_you_mean, nearest


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("learner.lr", "learner.learning_rate"),
        ("sft.lr", "sft.learning_rate"),
        ("lr", "learner.learning_rate"),
        ("learner.wd", "learner.weight_decay"),
        ("rollout.grup_size", "rollout.group_size"),
        ("Rollout.Group-Size", "rollout.group_size"),
        ("rolout.group_size", "rollout.group_size"),
        ("learner.group_size", "rollout.group_size"),
        ("group_size", "rollout.group_size"),
        ("rollout.temperature", "rollout.sampling.temperature"),
        ("sampling.temperature", "rollout.sampling.temperature"),
        ("learner.steps", "learner.num_steps"),
        ("learner.lora_rank", "learner.lora.rank"),
        ("learner.kl", "learner.kl_coef"),
        ("seed", "run.seed"),
        ("rolout", "rollout"),
    ],
)
def test_the_nearest_setting_is_that_which_a_reader_would_name(name: str, meant: str) -> None:
    assert nearest(name, known_fields()) == [meant]


@pytest.mark.parametrize("name", ["nothing", "no.such_field", "learner.zzz", "", "x"])
def test_nothing_is_suggested_where_nothing_is_like_it(name: str) -> None:
    assert did_you_mean(name, known_fields()) == ""


def test_several_are_suggested_the_most_like_first() -> None:
    names = ["gsm8k", "math500", "gsm_symbolic", "aime25"]
    assert did_you_mean("gsm9k", names) == "; did you mean gsm8k?"
    assert nearest("gsm9k", names, num=3, cutoff=0.3) == ["gsm8k", "gsm_symbolic"]
    assert did_you_mean("gsm", names, num=2, cutoff=0.3) == "; did you mean gsm8k or gsm_symbolic?"
