"""The page of recipes is what their files say, and the recipes differ in what they are named for."""

from __future__ import annotations

import pytest

from pipeline.config.loading import load_recipe
from pipeline.config.recipe_page import document
from pipeline.runtime.files import flat
from tests.documents import ROOT


def test_the_document_is_what_the_recipes_are() -> None:
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert page == document(), "renew it: python -m pipeline.config.recipe_page > docs/recipes.md"


@pytest.mark.parametrize(
    ("name", "base", "changes"),
    [
        ("lanpo", "quickstart", {"feedback.ratio": 0.75}),
        ("lanpo-annealed", "lanpo", {"feedback.end_ratio": 0.0}),
        ("lanpo-rescue", "lanpo", {"feedback.rescue": "reflect", "feedback.max_rescues_per_step": 4}),
        ("grpo", "quickstart", {"feedback.ratio": 0.0, "abstraction.enabled": False}),
        ("grpo-refill", "grpo", {"rollout.refill_zero_variance": True}),
    ],
)
def test_a_recipe_differs_from_what_it_extends_in_nothing_else(
    name: str, base: str, changes: dict[str, object]
) -> None:
    """So that runs of two recipes compare what the recipes are named for."""
    found, before = flat(load_recipe(name).model_dump()), flat(load_recipe(base).model_dump())
    assert {key: value for key, value in found.items() if before[key] != value} == {"recipe": name, **changes}
    for setting in changes:
        assert f"| `{name}` | `{setting}` |" in document()
