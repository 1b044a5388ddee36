"""What a critique says of an attempt: each step checked up to the first that fails, and a verdict.

Invariants: it claims only what was checked here; a right attempt is upheld, so that the verdict depends on the attempt
and on nothing else; the rule or the way that an attempt chose is not judged, only its computing."""

from __future__ import annotations

from pipeline.sft.worked_solutions import Solution


def critique(attempt: Solution, solution: Solution) -> str:
    """The lines about `attempt`, which was made of `solution`, the right one; the last gives the verdict."""
    lines, holds = _lines(attempt, solution)
    return "\n".join([*lines, f"Verdict: {'right' if holds else 'wrong'}."])


def remarks(attempt: Solution, solution: Solution) -> str:
    """The same in one line, without the verdict."""
    return " ".join(_lines(attempt, solution)[0])


def _lines(attempt: Solution, solution: Solution) -> tuple[list[str], bool]:
    if not attempt.steps and solution.steps:
        found = [f"{step.text}." for step in solution.steps]
        return ["It shows no steps.", *found, f"It says {attempt.answer}."], attempt.answer == solution.answer
    lines: list[str] = []
    for index, step in enumerate(attempt.steps):
        if index == attempt.wrong_step:
            return [*lines, f"{step.text} is wrong: it is {solution.steps[index].value}."], False
        lines.append(f"{step.text} is right.")
    if attempt.is_cut:
        return [*lines, "It ends before the answer."], False
    if attempt.wrong_step is not None:
        return [*lines, f"The answer is {solution.answer}, not {attempt.answer}."], False
    return lines, True
