"""Settings of a language model that judges answers as a reward: where it is, what it decides by, how it is trusted."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from pipeline.config.base import Positive, Probability, Section
from pipeline.config.endpoints import EndpointSettings

JUDGE = "judge"
"""The value of `reward.scorer` that means a language model."""


class JudgeSection(Section):
    """Of each scorer 'judge' in `reward.scorers`, which may name a rubric and an endpoint of its own."""

    endpoint: EndpointSettings | None = Field(
        None, description="The language model that judges, at an OpenAI-compatible endpoint."
    )
    rubric: str = Field(
        "",
        description="What an answer is graded by, in words: a reward from 0 to 1 in tenths. Empty: whether it means "
        "the gold answer, 1 or 0.",
    )
    rubric_column: str = Field(
        "", description="Column of your rows with a rubric of that problem's own, shown behind `rubric`; empty: none."
    )
    max_tokens: Positive = Field(1024, description="Longest reply of a judge, its thinking included.")
    labelled_file: Path | None = Field(
        None,
        description='Answers that the judge is compared with at the start, one JSON object a line: {"question": …, '
        '"text": …, "correct": true, "gold": …}. none: 84 that are shipped; for a rubric, known answers to your '
        "problems, whose grades must differ.",
    )
    min_agreement: Probability = Field(
        0.8, description="Least share of labelled answers on which it must agree with the label; below, no run starts."
    )
