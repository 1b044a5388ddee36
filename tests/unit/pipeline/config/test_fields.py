"""The table of settings holds every one, with its type, its default and its meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from pipeline.config import Config
from pipeline.config.base import Probability
from pipeline.config.endpoints import EndpointSettings
from pipeline.config.experience import FeedbackSection
from pipeline.config.fields import known_fields, settings, type_name
from pipeline.runtime.files import flat


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
        optional = setting.name.startswith(("sft.teacher.", "abstraction.endpoint.", "feedback.similarity_endpoint."))
        assert optional or setting.default == value, setting.name
    assert [setting.name for setting in settings() if setting.required] == [
        "feedback.similarity_endpoint.url",
        "abstraction.endpoint.url",
        "sft.teacher.url",
    ]


def test_fields_of_what_comes_in_lists_are_known() -> None:
    assert {"endpoints.url", "problems.families.params", "rollout", "rollout.group_size"} <= set(known_fields())


@pytest.mark.parametrize(
    ("annotation", "name"),
    [
        (int, "int"),
        (Path, "Path"),
        (Probability, "float"),
        (Probability | None, "float or none"),
        (FeedbackSection.model_fields["ratio"].annotation, "float or [[int,float],…]"),
        (Literal["a", "b"], "{a,b}"),
        (tuple[str, ...], "[str,…]"),
        (tuple[EndpointSettings, ...], "[JSON,…]"),
        (dict[str, Any], "JSON"),
        (EndpointSettings | None, "JSON or none"),
    ],
)
def test_types_are_named_as_one_writes_them(annotation: Any, name: str) -> None:
    assert type_name(annotation) == name
