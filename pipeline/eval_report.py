"""What the answers of an evaluation say: accuracies with intervals, paired comparisons, and modes at equal compute.

Pure functions of answers. An answer that no verifier could judge counts as not solved, and is counted by itself; one that could not be
had is left out, and is counted too."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from itertools import groupby
from statistics import fmean as mean
from typing import NamedTuple

from pydantic import BaseModel

from pipeline.eval_config import Mode
from pipeline.eval_folder import Answered
from pipeline.statistics import Estimate, Paired, at_budget, estimate, holm, majority_at_k, paired, pass_at_k
from pipeline.votes import votes_of


class Row(BaseModel):
    """One benchmark in one mode. `pass_at` and `maj_at` are by k; `maj_at` is empty for programs, which cannot vote.

    Tokens are of one answer, all of its turns, as an endpoint without a prefix cache would bill them."""

    benchmark: str
    mode: Mode
    num_problems: int
    num_samples: int
    num_missing: int
    avg: Estimate
    pass_at: dict[int, Estimate]
    maj_at: dict[int, Estimate]
    share_parsable: float
    share_cut: float
    share_with_lessons: float | None
    num_unjudged: int
    outcomes: dict[str, int]
    mean_prompt_tokens: float
    mean_completion_tokens: float
    num_judged: int = 0
    num_judge_agrees: int = 0

    @property
    def mean_tokens(self) -> float:
        return self.mean_prompt_tokens + self.mean_completion_tokens


class Comparison(BaseModel):
    """`a` − `b`, problem by problem. `adjusted_p` is Holm's over all comparisons of the report."""

    benchmark: str
    a: str
    b: str
    measure: str
    difference: Paired
    adjusted_p: float = 1.0


class Unmatched(BaseModel):
    """A mode whose tokens zero-shot could not be given, and why."""

    benchmark: str
    mode: Mode
    reason: str


class BenchmarkReport(BaseModel):
    """`comparisons` are at equal numbers of answers, `matched` at equal tokens: a mode against as many zero-shot answers, by majority,
    as its tokens would have paid for."""

    name: str
    rows: list[Row]
    comparisons: list[Comparison]
    matched: list[Comparison]
    unmatched: list[Unmatched]
    failures: dict[str, int] = {}
    num_asked: int = 0
    num_known: int = 0
    cost: float = 0.0
    asking_s: float = 0.0
    """From the first question to the last verdict."""
    seconds: float = 0.0
    """With all that comes before and after, servers started among it."""


class Cell(NamedTuple):
    """The answers of one benchmark in one mode: `answers_PN`, problems in the order of the benchmark. Measures are by problem, (P,)."""

    benchmark: str
    mode: Mode
    problems_P: list[str]
    answers_PN: list[list[Answered]]
    votes: bool

    @property
    def num_samples(self) -> int:
        return min(map(len, self.answers_PN))

    def correct(self) -> list[float]:
        return [mean([answer.verdict.correct for answer in answers]) for answers in self.answers_PN]

    def pass_at(self, k: int) -> list[float]:
        return [
            pass_at_k(len(answers), sum(answer.verdict.correct for answer in answers), k) for answers in self.answers_PN
        ]

    def majority_at(self, k: int) -> list[float]:
        return [
            majority_at_k(
                votes_of([answer.verdict.answer for answer in answers]),
                [answer.verdict.correct for answer in answers],
                k,
                problem,
            )
            for problem, answers in zip(self.problems_P, self.answers_PN, strict=True)
        ]

    @property
    def mean_tokens(self) -> float:
        return mean([answer.num_tokens for answers in self.answers_PN for answer in answers])


def ks(num_samples: int) -> list[int]:
    """1, 2, 4, … and the number of samples."""
    return sorted({2**power for power in range(num_samples.bit_length()) if 2**power <= num_samples} | {num_samples})


def cells(answers: Sequence[Answered], without_votes: Collection[str] = ()) -> list[Cell]:
    """Answers in their order, by benchmark and mode. `without_votes` are benchmarks whose answers are programs."""
    found: defaultdict[tuple[str, Mode], defaultdict[str, list[Answered]]] = defaultdict(lambda: defaultdict(list))
    for answer in answers:
        found[answer.benchmark, answer.mode][answer.problem_id].append(answer)
    return [
        Cell(benchmark, mode, list(by_problem), list(by_problem.values()), benchmark not in without_votes)
        for (benchmark, mode), by_problem in found.items()
    ]


def report(
    name: str,
    answers: Sequence[Answered],
    *,
    num_wanted: dict[str, int],
    without_votes: Collection[str] = (),
    other: Sequence[Answered] = (),
    other_name: str = "",
) -> BenchmarkReport:
    """`num_wanted` is how many answers each benchmark was to have in each mode; `other` are another evaluation's, to compare with."""
    found = cells(answers, without_votes)
    matched, unmatched = _matched(found)
    comparisons = _of_modes(found) + _with_other(name, found, cells(other, without_votes), other_name)
    everything = [*comparisons, *matched]
    for comparison, p in zip(everything, holm([one.difference.p_value for one in everything]), strict=True):
        comparison.adjusted_p = p
    return BenchmarkReport(
        name=name,
        rows=[_row(cell, num_wanted[cell.benchmark]) for cell in found],
        comparisons=comparisons,
        matched=matched,
        unmatched=unmatched,
    )


def _row(cell: Cell, num_wanted: int) -> Row:
    answers = [answer for answers in cell.answers_PN for answer in answers]
    judged = [answer for answer in answers if answer.judged is not None and answer.judged.kind == "scored"]
    with_lessons = mean([bool(answer.inferred.lesson_ids) for answer in answers])
    return Row(
        benchmark=cell.benchmark,
        mode=cell.mode,
        num_problems=len(cell.problems_P),
        num_samples=cell.num_samples,
        num_missing=num_wanted - len(answers),
        avg=estimate(cell.correct()),
        pass_at={k: estimate(cell.pass_at(k)) for k in ks(cell.num_samples)},
        maj_at={k: estimate(cell.majority_at(k)) for k in ks(cell.num_samples)} if cell.votes else {},
        share_parsable=mean([answer.verdict.answer is not None for answer in answers]),
        share_cut=mean([answer.finish_reason == "length" for answer in answers]),
        share_with_lessons=with_lessons if cell.mode == "retrieval" else None,
        num_unjudged=sum(answer.verdict.kind == "error" for answer in answers),
        outcomes=dict(Counter(answer.verdict.kind for answer in answers)),
        mean_prompt_tokens=mean([answer.num_prompt_tokens for answer in answers]),
        mean_completion_tokens=mean([answer.num_completion_tokens for answer in answers]),
        num_judged=len(judged),
        num_judge_agrees=sum(
            answer.judged.correct == answer.verdict.correct for answer in judged if answer.judged is not None
        ),
    )


def _of_modes(found: list[Cell]) -> list[Comparison]:
    """Each mode against zero-shot, within its benchmark."""
    compared = []
    for _, group in groupby(found, key=lambda cell: cell.benchmark):
        base, others = _split(list(group))
        if base is not None:
            compared += [_compared(cell, base, cell.mode, base.mode) for cell in others]
    return compared


def _with_other(name: str, found: list[Cell], other: list[Cell], other_name: str) -> list[Comparison]:
    """Each mode against the same of another evaluation."""
    theirs = {(cell.benchmark, cell.mode): cell for cell in other}
    compared = []
    for cell in found:
        their = theirs.get((cell.benchmark, cell.mode))
        if their is not None and set(cell.problems_P) & set(their.problems_P):
            compared.append(_compared(cell, their, f"{name} ({cell.mode})", f"{other_name} ({cell.mode})"))
    return compared


def _compared(a: Cell, b: Cell, a_name: str, b_name: str) -> Comparison:
    values_a, values_b = (
        dict(zip(a.problems_P, a.correct(), strict=True)),
        dict(zip(b.problems_P, b.correct(), strict=True)),
    )
    both = [problem for problem in a.problems_P if problem in values_b]
    return Comparison(
        benchmark=a.benchmark,
        a=a_name,
        b=b_name,
        measure=f"avg@{a.num_samples}" if a.num_samples == b.num_samples else "mean of its samples",
        difference=paired([values_a[problem] for problem in both], [values_b[problem] for problem in both]),
    )


def _split(of_benchmark: list[Cell]) -> tuple[Cell | None, list[Cell]]:
    base = next((cell for cell in of_benchmark if cell.mode == "zero-shot"), None)
    return base, [cell for cell in of_benchmark if cell is not base]


def _matched(found: list[Cell]) -> tuple[list[Comparison], list[Unmatched]]:
    """Each mode against zero-shot with a majority over as many samples as the mode's tokens pay for."""
    matched: list[Comparison] = []
    unmatched: list[Unmatched] = []
    for benchmark, group in groupby(found, key=lambda cell: cell.benchmark):
        base, others = _split(list(group))
        for cell in others:
            reason = _why_not(base, cell)
            if base is None or reason:
                unmatched.append(Unmatched(benchmark=benchmark, mode=cell.mode, reason=reason))
            else:
                matched.append(_at_equal_tokens(base, cell))
    return matched, unmatched


def _budget(base: Cell, cell: Cell) -> float:
    """Zero-shot samples that one answer of `cell` pays for; one at least."""
    return max(1.0, cell.mean_tokens / base.mean_tokens)


def _why_not(base: Cell | None, cell: Cell) -> str:
    if base is None:
        return "zero-shot was not evaluated; add it to --mode"
    if not base.votes:
        return "programs cannot vote, so more zero-shot answers do not make one"
    if not base.mean_tokens:
        return "the endpoint does not tell how many tokens it used"
    budget = _budget(base, cell)
    if budget > base.num_samples:
        return f"its tokens pay for {budget:.2f} zero-shot answers, and there are {base.num_samples}; use --n {math.ceil(budget)}"
    return ""


def _at_equal_tokens(base: Cell, cell: Cell) -> Comparison:
    budget = _budget(base, cell)
    curves = zip(*(base.majority_at(k) for k in range(1, math.ceil(budget) + 1)), strict=True)
    by_problem = dict(zip(base.problems_P, (at_budget(curve, budget) for curve in curves), strict=True))
    values = dict(zip(cell.problems_P, cell.correct(), strict=True))
    both = [problem for problem in cell.problems_P if problem in by_problem]
    return Comparison(
        benchmark=cell.benchmark,
        a=cell.mode,
        b=f"zero-shot, maj@{budget:.2f}",
        measure=f"{cell.mean_tokens:,.0f} tokens a problem",
        difference=paired([values[problem] for problem in both], [by_problem[problem] for problem in both]),
    )
