"""What `doctor` says of gamma: it filters next to nothing, or hardly a lesson passes, or neither."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config
from pipeline.config.experience import FeedbackSection
from pipeline.config.loading import load_recipe
from pipeline.preflight.endpoints import Finding
from pipeline.preflight.gamma import gamma_findings

NAMES = ["dax", "wif", "blicketron", "gop", "zorbulanti", "mep"]


@pytest.fixture
def operators(tmp_path: Path) -> dict[str, Any]:
    """Problems of six operators, of which those of one are .97 alike, and others less."""
    rows = [
        {"question": f"In {name} arithmetic the sign {name} joins two numbers. What is {a} {name} {b}?", "answer": 1}
        for a in range(10, 16)
        for b in range(20, 26)
        for name in NAMES
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {"source": "jsonl", "train_file": str(tmp_path / "rows.jsonl"), "num_heldout": 12}


def found(problems: dict[str, Any], **feedback: Any) -> Finding:
    config = {"problems": problems, "eval": {"num_problems": 12}, "feedback": feedback, "learner": {"num_steps": 40}}
    (finding,) = gamma_findings(Config.model_validate(config))
    return finding


@pytest.mark.parametrize(
    ("gamma", "state", "words"),
    [
        (0.3, "warn", "it filters next to nothing, so that rank alone chooses lessons; raise it, unless every"),
        (0.93, "ok", "% are below"),
        (1.0, "warn", "hardly a lesson is shown; lower it"),
    ],
)
def test_a_gamma_that_removes_nothing_or_all_is_doubted(
    operators: dict[str, Any], gamma: float, state: str, words: str
) -> None:
    finding = found(operators, similarity_threshold=gamma, similarity="lexical")
    assert finding.state == state
    assert words in finding.message
    assert f"feedback.similarity_threshold = {gamma:g} would remove" in finding.message


def test_the_quickstarts_gamma_is_said_to_filter_nothing() -> None:
    (finding,) = gamma_findings(load_recipe("quickstart"))
    assert finding.state == "warn"
    assert "would remove 0.0%" in finding.message


def test_who_asks_an_endpoint_is_not_estimated_and_who_retrieves_nothing_not_asked(operators: dict[str, Any]) -> None:
    assert found(operators, similarity="judge").message.startswith("not estimated")
    assert list(gamma_findings(load_recipe("grpo"))) == []


@pytest.mark.parametrize(("share", "words"), [(0.049, "raise"), (0.05, ""), (0.95, ""), (0.951, "lower")])
def test_the_bounds_of_a_useful_gamma(share: float, words: str) -> None:
    verdict = FeedbackSection().gamma_verdict(share)
    assert bool(verdict) == bool(words)
    assert words in verdict
