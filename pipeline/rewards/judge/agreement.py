"""How far a judge can be trusted: what it says of answers whose labels are known, the shipped ones or the user's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from pipeline.config.validation import invalid_fields
from pipeline.errors import DataError, EndpointError
from pipeline.rewards.judge.model import AnswerJudge
from pipeline.statistics import cohen_kappa, wilson_interval
from pipeline.types import Label, Problem, Record, Verdict

LABELLED = Path(__file__).parent / "labelled_answers.jsonl"


class LabelledAnswer(Record):
    """An answer, and whether it is right, as a person says."""

    question: str
    text: str
    correct: bool
    gold: str = ""
    scorer: str = ""
    """Name of the judge that it is for; empty: for every one."""
    category: str = ""
    row: dict[str, Any] = Field(default_factory=dict)
    """Of its problem, for a rubric that stands in a column."""


def labelled_answers(file: Path = LABELLED) -> list[LabelledAnswer]:
    """The answers in a file, one a line. Those that are shipped are half right, half wrong, near misses and requests to
    the judge among them.

    Raises DataError naming file and line."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: labelled answers cannot be read ({error}); name another file") from error
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(LabelledAnswer.model_validate_json(line))
            except ValidationError as error:
                raise DataError(
                    f"{file}, line {number}: {invalid_fields(error)[0]}; a labelled answer is one JSON object "
                    '{"question": …, "text": …, "correct": true, "gold": …}'
                ) from error
    if not found:
        raise DataError(f"{file} holds no labelled answers; write one JSON object a line")
    return found


class Agreement(BaseModel):
    """Of a judge with labels. What it called correct and is: true positives."""

    num_true_positives: int = 0
    num_false_positives: int = 0
    num_true_negatives: int = 0
    num_false_negatives: int = 0
    num_errors: int = 0

    @property
    def num_judged(self) -> int:
        return self.num_true_positives + self.num_false_positives + self.num_true_negatives + self.num_false_negatives

    @property
    def num_agreed(self) -> int:
        return self.num_true_positives + self.num_true_negatives

    @property
    def accuracy(self) -> float:
        """Share of what it judged on which it agrees; NaN when it judged nothing."""
        return self.num_agreed / self.num_judged if self.num_judged else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """95 % of `accuracy` (Wilson)."""
        return wilson_interval(self.num_agreed, self.num_judged)

    @property
    def kappa(self) -> float | None:
        return cohen_kappa(
            self.num_true_positives, self.num_false_positives, self.num_true_negatives, self.num_false_negatives
        )

    def line(self) -> str:
        total = self.num_judged + self.num_errors
        if not self.num_judged:
            return f"judge: no verdict on any of {total} labelled answers"
        low, high = self.interval
        kappa = "undefined" if self.kappa is None else f"{self.kappa:.2f}"
        return (
            f"judge: agrees with {self.accuracy:.1%} [{low:.1%}, {high:.1%}] of {self.num_judged} labelled answers, "
            f"kappa {kappa}; {self.num_false_positives} wrong ones called correct, {self.num_false_negatives} correct "
            f"ones wrong, {self.num_errors} without a verdict"
        )


async def agreement(judge: AnswerJudge, sample: Sequence[LabelledAnswer] | None = None) -> Agreement:
    """What `judge` says of labelled answers, the shipped ones unless others are given, against their labels.

    The client bounds the requests in flight."""
    sample = labelled_answers() if sample is None else sample
    asked = (_verdict(judge, number, item) for number, item in enumerate(sample))
    verdicts = await asyncio.gather(*asked, return_exceptions=True)
    pairs = []
    for item, verdict in zip(sample, verdicts, strict=True):
        if isinstance(verdict, BaseException):
            raise verdict
        pairs.append((item.correct, verdict))
    return agreement_of(pairs)


async def _verdict(judge: AnswerJudge, number: int, item: LabelledAnswer) -> Verdict:
    identity = f"labelled-{number:04d}"
    problem = Problem(id=identity, text=item.question, split="heldout")
    try:
        return await judge.verify(problem, item.text, Label(problem_id=identity, answer=item.gold, row=item.row))
    except EndpointError:
        return Verdict(kind="error")


def agreement_of(pairs: Sequence[tuple[bool, Verdict]]) -> Agreement:
    """Labels and the verdicts on them, counted. A verdict that carries no judgement is an error."""
    judged = [(label, verdict.correct) for label, verdict in pairs if verdict.kind == "scored"]
    return Agreement(
        num_true_positives=judged.count((True, True)),
        num_false_positives=judged.count((False, True)),
        num_true_negatives=judged.count((False, False)),
        num_false_negatives=judged.count((True, False)),
        num_errors=len(pairs) - len(judged),
    )
