"""Comparisons of cells, problem by problem: of modes, of two evaluations, and with zero-shot at equal tokens or
cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pydantic import BaseModel

from pipeline.evaluation.results import Cell, ProblemKey
from pipeline.runtime.files import flat
from pipeline.statistics import Paired, at_budget, paired


class Comparison(BaseModel):
    """`a` − `b`, problem by problem. `adjusted_p` is Holm's over all comparisons of the report."""

    benchmark: str
    a: str
    b: str
    measure: str
    difference: Paired
    adjusted_p: float = 1.0


class Unmatched(BaseModel):
    """A mode whose tokens or money zero-shot could not be given, and why."""

    benchmark: str
    mode: str
    reason: str


class Other(NamedTuple):
    """Another evaluation, to compare with."""

    name: str
    cells: list[Cell]


def of_modes(found: Sequence[Cell]) -> list[Comparison]:
    """Each mode against zero-shot under the same setting."""
    compared = []
    for cell in found:
        base = base_of(cell, found)
        if base is not None and cell.mode != "zero-shot":
            compared += _compared(cell, base, cell.name, base.name)
    return compared


def base_of(cell: Cell, found: Sequence[Cell]) -> Cell | None:
    """Zero-shot of the same benchmark under the same setting."""
    of_setting = [other for other in found if other.mode == "zero-shot" and other.benchmark == cell.benchmark]
    return next((other for other in of_setting if other.planned.settings == cell.planned.settings), None)


def with_other(name: str, found: Sequence[Cell], other: Other) -> tuple[list[Comparison], list[str]]:
    """Each mode against the same of another evaluation, and what a reader must know of that."""
    compared: list[Comparison] = []
    notes = []
    for cell in found:
        where = f"{cell.benchmark}, {cell.name}"
        theirs = [one for one in other.cells if (one.benchmark, one.mode) == (cell.benchmark, cell.mode)]
        if not theirs:
            notes.append(f"{where}: {other.name} has no such answers, so nothing is compared")
            continue
        differing = [_differing(cell, one) for one in theirs]
        nearest = min(range(len(theirs)), key=lambda number: len(differing[number]))
        their, differs = theirs[nearest], differing[nearest]
        found_here = _compared(cell, their, f"{name} ({cell.name})", f"{other.name} ({their.name})")
        if not found_here:
            notes.append(f"{where}: no problem of it is in {other.name} too, so nothing is compared")
        elif differs:
            notes.append(f"{where}: {other.name} was asked with another setting: {', '.join(differs)}")
        compared += found_here
    return compared, notes


def _differing(a: Cell, b: Cell) -> list[str]:
    """Settings that two cells do not share; lessons of different pools are meant to differ."""
    one, two = (flat({**cell.planned.settings, **cell.planned.of_mode}) for cell in (a, b))
    names = sorted({*one, *two} - {"pool"})
    return [f"{name} {two.get(name)!r}, here {one.get(name)!r}" for name in names if one.get(name) != two.get(name)]


def _compared(a: Cell, b: Cell, a_name: str, b_name: str) -> list[Comparison]:
    """None or one comparison: of the problems that both have."""
    same_number = {a.num_samples, a.fewest_samples, b.num_samples, b.fewest_samples} == {a.num_samples}
    measure = f"avg@{a.num_samples}" if same_number else "mean of its samples"
    by_problem = dict(zip(b.problems_P, b.correct(), strict=True))
    return _paired(a, a_name, b_name, measure, by_problem)


def _paired(
    cell: Cell, a_name: str, b_name: str, measure: str, by_problem: dict[ProblemKey, float]
) -> list[Comparison]:
    values = dict(zip(cell.problems_P, cell.correct(), strict=True))
    both = [problem for problem in values if problem in by_problem]
    if not both:
        return []
    difference = paired([values[problem] for problem in both], [by_problem[problem] for problem in both])
    return [Comparison(benchmark=cell.benchmark, a=a_name, b=b_name, measure=measure, difference=difference)]


class Currency(NamedTuple):
    """What is made equal: what one answer of a cell takes of it, and how that is written."""

    unit: str
    of: Callable[[Cell], float]
    text: Callable[[float], str]


TOKENS = Currency("tokens", lambda cell: cell.mean_tokens, lambda amount: f"{amount:,.0f} tokens a problem")
COST = Currency("cost", lambda cell: cell.mean_cost, lambda amount: f"cost {amount:.3g} a problem")


def at_equal(currency: Currency, found: Sequence[Cell]) -> tuple[list[Comparison], list[Unmatched]]:
    """Each mode against zero-shot with a majority over as many samples as the mode's tokens, or money, pay for."""
    matched: list[Comparison] = []
    unmatched: list[Unmatched] = []
    for cell in found:
        if cell.mode == "zero-shot":
            continue
        base = base_of(cell, found)
        reason = _why_not(currency, base, cell)
        if base is None or reason:
            unmatched.append(Unmatched(benchmark=cell.benchmark, mode=cell.name, reason=reason))
        else:
            matched += _at_equal(currency, base, cell)
    return matched, unmatched


def _budget(currency: Currency, base: Cell, cell: Cell) -> float:
    """Zero-shot samples that one answer of `cell` pays for; one at least."""
    return max(1.0, currency.of(cell) / currency.of(base))


def _why_not(currency: Currency, base: Cell | None, cell: Cell) -> str:
    if base is None:
        return "zero-shot was not evaluated under this setting; add it to --mode"
    if not base.votes:
        return "programs cannot vote, so more zero-shot answers do not make one"
    if not currency.of(base):
        return "the endpoint does not tell how many tokens it used"
    num = math.ceil(_budget(currency, base, cell))
    if num > base.num_samples:
        return (
            f"its {currency.unit} pay{'' if currency.unit == 'tokens' else 's'} for "
            f"{_budget(currency, base, cell):.2f} zero-shot answers, and there are {base.num_samples}; use --n {num}"
        )
    return ""


def _at_equal(currency: Currency, base: Cell, cell: Cell) -> list[Comparison]:
    budget = _budget(currency, base, cell)
    chosen = base.with_samples(math.ceil(budget))
    by_problem = {base.problems_P[position]: at_budget(base.curves[position].tolist(), budget) for position in chosen}
    return _paired(cell, cell.name, f"zero-shot, maj@{budget:.2f}", currency.text(currency.of(cell)), by_problem)
