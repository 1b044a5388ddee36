"""Results of one benchmark in one mode under one setting, problem by problem.

A sample is an answer, or one that could not be had: that is wrong and gives no vote, because the problems that meet a
deadline are the hard ones, and leaving them out would flatter. What was not requested yet is no sample."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean as mean
from typing import NamedTuple

import numpy as np

from pipeline.config.evaluation import Mode
from pipeline.evaluation.folder import Answered, EvalFolder
from pipeline.evaluation.plan import PlannedCell, labels
from pipeline.evaluation.voting import votes_of
from pipeline.inference.usage import Prices
from pipeline.statistics import majority_curve, pass_at_k


def cell_name(mode: str, label: str) -> str:
    """How reports call a cell among those of its benchmark."""
    return f"{mode} ({label})" if label else mode


class Scored(NamedTuple):
    """What of an answer a report needs: a few hundred bytes of the kilobytes that are on the disk.

    `answer` is what is voted for. Tokens are of all turns and of the search for lessons, as an endpoint without a
    prefix cache bills them. `judged` is an LLM judge's verdict beside the verifier's, by `judge`; None where it gave
    none."""

    correct: bool
    kind: str
    answer: str | None
    finish_reason: str
    has_lessons: bool
    num_prompt_tokens: int
    num_completion_tokens: int
    cost: float
    judged: bool | None
    judge: str
    verifier: str

    @property
    def num_tokens(self) -> int:
        return self.num_prompt_tokens + self.num_completion_tokens


Sample = Scored | None
ProblemKey = tuple[str, str]
"""Id, and identity of text and gold: what another evaluation's problem must share to be compared."""


@dataclass(eq=False)
class Cell:
    """The samples of one planned cell, by problem.

    `samples_PN` are in the order of the plan; None is an answer that could not be had. `missing` counts these by kind.

    Measures are by problem; those of k are of the problems that have k samples or more, in the order of
    `with_samples(k)`."""

    planned: PlannedCell
    label: str
    problems_P: list[ProblemKey]
    samples_PN: list[list[Sample]]
    missing: Counter[str]
    num_unasked: int = 0

    @property
    def benchmark(self) -> str:
        return self.planned.benchmark

    @property
    def mode(self) -> Mode:
        return self.planned.mode

    @property
    def name(self) -> str:
        return cell_name(self.mode, self.label)

    @property
    def votes(self) -> bool:
        return self.planned.votes

    @property
    def num_samples(self) -> int:
        """Most of one problem."""
        return max(map(len, self.samples_PN))

    @property
    def fewest_samples(self) -> int:
        return min(map(len, self.samples_PN))

    def answered(self) -> Iterator[Scored]:
        return (sample for samples in self.samples_PN for sample in samples if sample is not None)

    def correct(self) -> list[float]:
        """Share of a problem's samples that is right."""
        return [mean([is_right(sample) for sample in samples]) for samples in self.samples_PN]

    def correct_of_answered(self) -> list[float]:
        """The same of what could be had alone: problems without any answer are left out."""
        kept = [[sample for sample in samples if sample is not None] for samples in self.samples_PN]
        return [mean([sample.correct for sample in samples]) for samples in kept if samples]

    def with_samples(self, k: int) -> list[int]:
        """Positions of the problems that have k samples or more."""
        return [position for position, samples in enumerate(self.samples_PN) if len(samples) >= k]

    def pass_at(self, k: int) -> list[float]:
        chosen = [self.samples_PN[position] for position in self.with_samples(k)]
        return [pass_at_k(len(samples), sum(map(is_right, samples)), k) for samples in chosen]

    def majority_at(self, k: int) -> list[float]:
        return [float(self.curves[position][k - 1]) for position in self.with_samples(k)]

    @cached_property
    def curves(self) -> list[np.ndarray]:
        """By problem the share of majorities that is right, of k = 1 to all of its samples."""
        return [
            majority_curve(
                votes_of([None if sample is None else sample.answer for sample in samples]),
                [is_right(sample) for sample in samples],
            )
            for samples in self.samples_PN
        ]

    @property
    def mean_tokens(self) -> float:
        return mean_of([sample.num_tokens for sample in self.answered()])

    @property
    def mean_cost(self) -> float:
        return mean_of([sample.cost for sample in self.answered()])


def is_right(sample: Sample) -> bool:
    return sample is not None and sample.correct


def mean_of(values: Sequence[float]) -> float:
    """Their mean, 0 of none."""
    return mean(values) if values else 0.0


def ks(num_samples: int) -> list[int]:
    """1, 2, 4, … and the number of samples."""
    return sorted({2**power for power in range(num_samples.bit_length()) if 2**power <= num_samples} | {num_samples})


def cells(plan: list[PlannedCell], answers: Mapping[str, Scored], failures: Mapping[str, str]) -> list[Cell]:
    """The cells of `plan` that have samples: `answers` by key, `failures` the kinds of those that could not be had."""
    label_of = labels(plan)
    found = [_cell(planned, label_of[planned.id], answers, failures) for planned in plan]
    return [cell for cell in found if cell.samples_PN]


def _cell(planned: PlannedCell, label: str, answers: Mapping[str, Scored], failures: Mapping[str, str]) -> Cell:
    cell = Cell(planned, label, [], [], Counter())
    for problem_id, wanted in planned.wanted.items():
        samples: list[Sample] = []
        for number in range(wanted.num_samples):
            key = planned.key(wanted, number)
            if (sample := answers.get(key)) is None and key not in failures:
                cell.num_unasked += 1
                continue
            if sample is None:
                cell.missing[failures[key]] += 1
            samples.append(sample)
        if samples:
            cell.problems_P.append((problem_id, wanted.task_hash))
            cell.samples_PN.append(samples)
    return cell


def scored(answer: Answered, prices: Prices) -> Scored:
    """The numbers of one answer. Texts that many share are kept once."""
    spent = [(turn.endpoint, turn.num_prompt_tokens, turn.num_completion_tokens) for turn in answer.inferred.turns]
    search = answer.inferred.search
    spent.append((search.endpoint, search.num_prompt_tokens, search.num_completion_tokens))
    return Scored(
        correct=answer.verdict.correct,
        kind=sys.intern(answer.verdict.kind),
        answer=None if answer.verdict.answer is None else sys.intern(answer.verdict.answer),
        finish_reason=sys.intern(answer.inferred.turns[-1].finish_reason),
        has_lessons=bool(answer.inferred.lesson_ids),
        num_prompt_tokens=sum(prompt for _, prompt, _ in spent),
        num_completion_tokens=sum(completion for _, _, completion in spent),
        cost=sum(prices.cost(*each) for each in spent),
        judged=answer.judged.correct if answer.judged is not None and answer.judged.kind == "scored" else None,
        judge=sys.intern(answer.judge),
        verifier=sys.intern(answer.verifier),
    )


def scored_answers(folder: EvalFolder, prices: Prices) -> dict[str, Scored]:
    """The numbers of every answer that a folder holds, by key. Blocking."""
    return {answer.key: scored(answer, prices) for answer in folder.answers()}
