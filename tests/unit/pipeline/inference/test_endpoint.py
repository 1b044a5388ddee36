"""Where an endpoint's routes are."""

from __future__ import annotations

import pytest

from pipeline.config.endpoints import EndpointSettings, RequestsSection
from pipeline.inference.endpoint import Endpoint


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1/models"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1/models"),
        ("https://api.example.com/v1beta/openai/", "https://api.example.com/v1beta/openai/models"),
        ("https://api.example.com/api/paas/v4", "https://api.example.com/api/paas/v4/models"),
        ("https://api.example.com/openai/v1", "https://api.example.com/openai/v1/models"),
        ("https://api.example.com/team", "https://api.example.com/team/v1/models"),
    ],
)
def test_the_routes_of_a_provider_are_below_its_own_version(url: str, expected: str) -> None:
    assert str(Endpoint(EndpointSettings(url=url), "m", RequestsSection()).at("/v1/models")) == expected
