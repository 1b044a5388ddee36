"""Settings without effect are named, with what makes them so; recipes have none."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from pipeline.commands.doctor import doctor
from pipeline.config import Config
from pipeline.config.inert import inert
from pipeline.config.loading import RECIPES, load_config, load_recipe, recipe_names
from pipeline.runtime.files import flat

ENDPOINT = {"url": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"learner": {"epsilon_low": 0.1}}, ["learner.epsilon_low = 0.1 has no effect", "the policy's ratio is 1"]),
        ({"learner": {"epsilon_high": 0.28}}, ["learner.epsilon_high = 0.28 has no effect"]),
        ({"learner": {"clip_delta": 4.0}}, ["learner.clip_delta = 4.0 has no effect"]),
        ({"learner": {"loss_type": "cispo", "epsilon_high": 0.2}}, ["scales the gradient by 0.2; leave it out for 5"]),
        ({"learner": {"loss_type": "cispo", "epsilon_low": 0.1}}, ["'cispo' has the upper bound alone"]),
        (
            {"learner": {"importance_sampling": "none", "importance_sampling_cap": 2.0}},
            ["learner.importance_sampling_cap = 2.0 has no effect: learner.importance_sampling = 'none'"],
        ),
        ({"learner": {"max_trained_staleness": 2}}, ["learner.max_trained_staleness = 2 has no effect"]),
        ({"learner": {"lora": {"alpha": 8.0}}}, ["learner.lora.alpha = 8.0 has no effect"]),
        ({"learner": {"num_steps": 3}}, ["the rate never comes to learner.learning_rate"]),
        ({"rollout": {"max_refills": 5}}, ["rollout.max_refills = 5 has no effect"]),
        (
            {"feedback": {"max_rescues_per_step": 2}},
            ["max_rescues_per_step = 2 has no effect: feedback.rescue = 'off'"],
        ),
        (
            {"feedback": {"rescue": "lesson"}, "abstraction": {"enabled": False}},
            ["feedback.rescue = 'lesson'", "import"],
        ),
        ({"feedback": {"annealing": "cosine"}}, ["feedback.annealing = 'cosine' has no effect", "is not annealed"]),
        ({"feedback": {"recency_half_life_steps": 9.0}}, ["feedback.recency_weight = 0"]),
        ({"feedback": {"diversity": 0.5}}, ["feedback.num_lessons = 1"]),
        ({"feedback": {"similarity_endpoint": ENDPOINT}}, ["feedback.similarity_endpoint has no effect"]),
        (
            {"feedback": {"ratio": 0.0, "num_lessons": 3}},
            ["feedback.num_lessons = 3 has no effect: no prompt retrieves"],
        ),
        ({"feedback": {"intra_share": 0.0}, "reflection": {"select": "failed"}}, ["no prompt reflects"]),
        (
            {"feedback": {"ratio": 0.0}, "rollout": {"paired_groups": True}},
            ["rollout.paired_groups = True pairs scratch with scratch", "the same as rollout.group_size = 16"],
        ),
        ({"learner": {"context_ratio": "token"}}, ["context_ratio = 'token' has no effect: learner.train_under"]),
        ({"learner": {"sampled_weight": 0.5}}, ["sampled_weight = 0.5 has no effect: learner.train_under"]),
        (
            {"learner": {"train_under": "scratch", "context_ratio_cap": 2.0}},
            ["learner.context_ratio_cap = 2.0 has no effect", "learner.context_ratio = 'none'"],
        ),
        (
            {"feedback": {"ratio": 0.0}, "learner": {"train_under": "scratch"}},
            ["train_under = 'scratch' has no effect: no prompt is feedback-aware"],
        ),
        ({"abstraction": {"enabled": False, "num_repairs": 3}}, ["abstraction.num_repairs = 3 has no effect"]),
    ],
)
def test_what_has_no_effect_is_named(sections: dict[str, Any], words: list[str]) -> None:
    (line,) = inert(Config.model_validate(sections))
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"rollout": {"paired_groups": True}},
        {"learner": {"train_under": "scratch", "sampled_weight": 0.5}},
        {"learner": {"train_under": "scratch", "context_ratio": "token", "context_ratio_floor": 0.1}},
        {"learner": {"loss_type": "cispo"}},
        {"learner": {"loss_type": "cispo", "epsilon_high": 4.0}},
        {"learner": {"max_trained_staleness": 1}, "rollout": {"max_staleness": 2}},
        {"learner": {"lora": {"rank": 4, "alpha": 8.0}}},
        {"feedback": {"ratio": [[0, 0.0], [5, 0.5]], "num_lessons": 3, "diversity": 0.1}},
        {"feedback": {"ratio": 0.0, "rescue": "reflect", "max_rescues_per_step": 2}, "abstraction": {"enabled": False}},
        {"feedback": {"ratio": 0.0, "rescue": "lesson", "num_lessons": 2}},
        {"feedback": {"ratio": 0.0, "end_ratio": 0.5, "annealing": "cosine", "num_lessons": 3}},
        {"feedback": {"similarity": "judge", "similarity_endpoint": ENDPOINT}},
        {"feedback": {"ratio": 0.0}, "abstraction": {"enabled": False}},
    ],
)
def test_what_has_an_effect_is_not(sections: dict[str, Any]) -> None:
    assert list(inert(Config.model_validate(sections))) == []


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_hold_nothing_without_effect(name: str) -> None:
    own = flat(tomllib.loads((RECIPES / f"{name}.toml").read_text(encoding="utf-8")))
    found = list(inert(load_recipe(name).model_copy(update={"recipe": "of the user's"})))
    assert [line for line in found if line.split(" ")[0] in own] == []


def test_what_a_recipe_sets_for_a_stage_that_the_user_switches_off_is_no_change_of_the_users() -> None:
    off = {"abstraction": {"enabled": False}}
    assert list(inert(load_config(None, off))) == list(inert(load_recipe("grpo"))) == []
    assert list(inert(load_config(None, {**off, "recipe": "operators"}))) == []
    (line,) = inert(load_config(None, {"abstraction": {"enabled": False, "temperature": 0.4}}))
    assert line.startswith("abstraction.temperature = 0.4 has no effect")


def test_doctor_warns(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    small = {"problems": {"num_train": 16, "num_heldout": 8}, "eval": {"num_problems": 8}, "feedback": {"ratio": 0.0}}
    doctor(Config.model_validate({**small, "run": {"root": tmp_path}, "learner": {"epsilon_low": 0.1}}))
    assert "warn    settings: learner.epsilon_low = 0.1 has no effect" in capsys.readouterr().out
