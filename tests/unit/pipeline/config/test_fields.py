"""The table of settings holds every one, with its type, its default and its meaning."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.config import Config
from pipeline.config.fields import settings
from pipeline.runtime.files import flat

OPTIONAL = ("sft.teacher.", "abstraction.endpoint.", "feedback.similarity_endpoint.", "reward.judge.endpoint.")
"""Sections that a configuration may lack."""


def test_the_table_holds_every_setting_once_and_sections_before_what_they_hold() -> None:
    names = [setting.name for setting in settings()]
    assert len(set(names)) == len(names)
    assert set(flat(Config().model_dump())) | set(Config.model_fields) <= set(names)
    assert {"sft.teacher.url", "learner.lora", "learner.lora.rank", "rollout.sampling.top_p"} <= set(names)
    for name in names:
        section = name.rpartition(".")[0]
        assert not section or names.index(section) < names.index(name)


def test_every_setting_is_described() -> None:
    assert [setting.name for setting in settings() if setting.section is None and not setting.description] == []


def test_defaults_are_those_of_a_configuration_that_says_nothing() -> None:
    for setting in settings():
        value: Any = Config()
        for part in setting.name.split("."):
            value = getattr(value, part, None)
        optional = setting.name.startswith(OPTIONAL)
        assert optional or setting.default == value, setting.name
    assert [setting.name for setting in settings() if setting.required] == [
        "feedback.similarity_endpoint.url",
        "reward.judge.endpoint.url",
        "abstraction.endpoint.url",
        "sft.teacher.url",
    ]


@pytest.mark.parametrize(
    ("name", "type_name"),
    [
        ("rollout.group_size", "int"),
        ("run.root", "Path"),
        ("reward.threshold", "float"),
        ("eval.limit", "int or none"),
        ("feedback.ratio", "float or list"),
        ("servers.dtype", "{float32,bfloat16,float16,auto}"),
        ("servers.gpu_ids", "list"),
        ("rollout.chat_template_kwargs", "table"),
        ("rollout", "table"),
        ("sft.teacher", "table or none"),
    ],
)
def test_types_are_named_as_one_writes_them(name: str, type_name: str) -> None:
    assert {setting.name: setting.type_name for setting in settings()}[name] == type_name
