"""A finding of pydantic names the field, the value and what is wrong, once, and shows no secret."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.config.loading import validated
from pipeline.config.validation import InvalidField, invalid_fields
from pipeline.errors import ConfigError


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    count: Annotated[int, Field(ge=0)] | tuple[int, ...] = 0


class Outer(BaseModel):
    inner: Inner
    text: str = ""

    @model_validator(mode="after")
    def _fits(self) -> Outer:
        if self.text == "bad":
            raise ValueError("Text = 'bad' fits nothing")
        return self


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"inner": {}, "text": 3}, ["text = 3: input should be a valid string"]),
        ({}, ["inner: Field required; it has no default"]),
        ({"inner": {}, "text": "bad"}, ["Text = 'bad' fits nothing"]),
        ({"inner": {"cuont": 1}}, ["inner.cuont = 1: unknown field; did you mean inner.count?"]),
        ({"inner": {"zzz": 1}}, ["inner.zzz = 1: unknown field, see the list"]),
        (
            {"inner": {"count": -1}},
            [
                "inner.count = -1: input should be greater than or equal to 0",
                "inner.count = -1: input should be a valid tuple",
            ],
        ),
        ({"inner": {"count": (1, "x")}}, None),
    ],
)
def test_each_finding_is_a_line(values: dict[str, Any], expected: list[str] | None) -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(values)
    lines = [str(invalid) for invalid in invalid_fields(caught.value, ["inner.count", "text"], hint=", see the list")]
    if expected is None:
        assert "inner.count.1 = 'x': input should be a valid integer, unable to parse string as an integer" in lines
    else:
        assert lines == expected


def test_a_long_value_is_shortened() -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate({"inner": {}, "text": ["x" * 10_000]})
    (invalid,) = invalid_fields(caught.value)
    assert len(invalid.value) < 300 and invalid.value.endswith("…")


def test_a_line_without_field_or_value_has_no_sign_of_them() -> None:
    assert str(InvalidField("", "", "no")) == "no"
    assert str(InvalidField("a", "", "no")) == "a: no"
    assert str(InvalidField("a", "1", "no")) == "a = 1: no"


def test_a_secret_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        validated({"run": {"store": "s3://user:hidden@bucket/x"}})
    assert str(caught.value).startswith("run.store: a URI of bucket and prefix only")
    assert "hidden" not in str(caught.value)
