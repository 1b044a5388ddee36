"""An evaluation's report as Markdown, for a terminal and a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.evaluation.comparison import Comparison
from pipeline.evaluation.report import BenchmarkReport, Change, Regraded, ReportRow
from pipeline.statistics import Estimate
from pipeline.types import FAILED

MAX_CHANGES = 20
"""Shown of the answers that judging anew made right or wrong; report.json has all."""
MAX_CELL_CHARS = 60


def page(report: BenchmarkReport) -> str:
    return "\n".join(_lines(report)) + "\n"


def _lines(report: BenchmarkReport) -> Iterator[str]:
    yield f"# {report.name}"
    yield ""
    several, priced = (any(row.num_samples > 1 for row in report.rows), any(row.mean_cost for row in report.rows))
    incomplete = any(row.num_missing for row in report.rows)
    yield from _table([_result(row, several=several, priced=priced, incomplete=incomplete) for row in report.rows])
    if report.comparisons:
        yield from (
            "",
            "Compared problem by problem (difference in points; p of a sign-flip test, and Holm's for all of them):",
            "",
        )
        yield from _table([_difference(one) for one in report.comparisons])
    if report.matched:
        yield from (
            "",
            (
                "At equal cost (tokens; money where prices are given): a mode against a majority of as many zero-shot "
                "answers as it pays for:"
            ),
            "",
        )
        yield from _table([_difference(one) for one in report.matched])
    for missing in report.unmatched:
        yield f"\n{missing.benchmark}, {missing.mode}: not compared at equal tokens: {missing.reason}."
    for row in report.rows:
        yield from _cautions(row)
    for one in report.regraded:
        yield from _regraded(one)
    for note in report.notes:
        yield f"\n{note}."
    if report.failures:
        yield f"\nRequests of this session that failed for good: {_counted(report.failures)}."
    yield ""
    yield from _spending(report)


def _table(rows: list[dict[str, str]]) -> Iterator[str]:
    """The first row names the columns."""
    for header in rows[:1]:
        yield "| " + " | ".join(header) + " |"
        yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(row.values()) + " |"


def _result(row: ReportRow, *, several: bool, priced: bool, incomplete: bool) -> dict[str, str]:
    few, most = row.fewest_samples, row.num_samples
    maj_at = _at_k(row, row.maj_at) if several and row.maj_at else "-"
    return {
        "benchmark": row.benchmark,
        "mode": row.name,
        "problems": f"{row.num_problems}",
        "samples": f"{most}" if few == most else f"{few} to {most}",
        "avg@k": _shown(row.avg),
        **({"without an answer": f"{row.num_missing}"} if incomplete else {}),
        **({"pass@k": _at_k(row, row.pass_at), "maj@k": maj_at} if several else {}),
        "parsable": f"{row.share_parsable:.1%}",
        "cut short": f"{row.share_cut:.1%}",
        "tokens an answer (prompt + completion)": f"{row.mean_prompt_tokens:,.0f} + {row.mean_completion_tokens:,.0f}",
        **({"cost an answer": f"{row.mean_cost:.3g}"} if priced else {}),
    }


def _shown(found: Estimate) -> str:
    return f"{found.value:.1%} [{found.low:.1%}, {found.high:.1%}]"


def _at_k(row: ReportRow, measured: Mapping[int, Estimate]) -> str:
    """The measure at the largest k that most problems have; k and their number where these go without saying no
    longer."""
    k = row.shown_k
    found = measured[k]
    plain = k == row.num_samples and found.num_problems == row.num_problems
    return _shown(found) + ("" if plain else f" (k = {k}, {found.num_problems} problems)")


def _difference(one: Comparison) -> dict[str, str]:
    found = one.difference
    return {
        "benchmark": one.benchmark,
        "a": one.a,
        "b": one.b,
        "at": one.measure,
        "a − b": f"{100 * found.effect:+.1f}",
        "95 % interval": f"{100 * found.low:+.1f} to {100 * found.high:+.1f}",
        "p": _p(found.p_value),
        "p (Holm)": _p(one.adjusted_p),
        "problems": f"{found.num_problems}",
    }


def _p(value: float) -> str:
    """The test draws `statistics.NUM_FLIPS` times, so that no p below 0.0001 is known."""
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def _cautions(row: ReportRow) -> Iterator[str]:
    """What a reader of the row must know."""
    where = f"\n{row.benchmark}, {row.name}: "
    if row.num_missing:
        without = f"; without them avg is {_shown(row.avg_answered)}" if row.avg_answered else ""
        yield (
            f"{where}{row.num_missing} answers could not be had ({_counted(row.missing)}) and count as wrong{without}. "
            "The same command asks for them again."
        )
    if row.num_unasked:
        yield f"{where}unfinished: {row.num_unasked} answers that are wanted were not asked for yet."
    if row.num_unjudged:
        kinds = {kind: number for kind, number in row.outcomes.items() if kind in FAILED}
        yield (
            f"{where}{row.num_unjudged} answers could not be judged ({_counted(kinds)} of the verifier); they count as "
            "not solved."
        )
    if row.num_older_verdicts:
        yield (
            f"{where}{row.num_older_verdicts} verdicts are of another version of the verifier; --rejudge judges the "
            "answers that are kept anew, and asks nothing."
        )
    if row.share_with_lessons is not None:
        yield f"{where}{row.share_with_lessons:.0%} of the prompts held lessons; the others fell back to zero-shot."
    if row.share_cut > 0.05:
        yield (
            f"{where}{row.share_cut:.0%} of the answers were cut short; let them be longer (--max-tokens, a longer "
            "context)."
        )
    if num_filtered := row.finish_reasons.get("content_filter", 0):
        yield f"{where}{num_filtered} answers were ended by the provider's filter; they are scored as they are."
    if row.num_judged:
        yield f"{where}the judge agrees with the verifier on {row.num_judge_agrees} of {row.num_judged} answers."


def _regraded(one: Regraded) -> Iterator[str]:
    """What judging anew changed."""
    before, where = ", ".join(version or "unknown" for version in one.versions), f"{one.benchmark}, {one.name}"
    yield (
        f"\n{where}: {one.num_judged} verdicts were given anew, by version {one.version} of the "
        f"verifier ({before} before), and no model was asked: from wrong to right {one.num_right_now}, from right "
        f"to wrong {one.num_wrong_now}; verdicts that differ {len(one.changes)}."
    )
    if one.num_kept:
        yield f"\n{where}: {one.num_kept} answers could not be judged anew, and keep their verdicts."
    turned = [change for change in one.changes if change.correct != change.was_correct]
    if turned:
        yield ""
        yield from _table([_change(change) for change in turned[:MAX_CHANGES]])
        if len(turned) > MAX_CHANGES:
            yield f"\n(and {len(turned) - MAX_CHANGES} more, in report.json)"


def _change(change: Change) -> dict[str, str]:
    return {
        "problem": change.problem_id,
        "sample": f"{change.sample}",
        "before": _cell(change.before),
        "now": _cell(change.now),
    }


def _cell(text: str) -> str:
    """`text` as it may stand in a table."""
    short = text if len(text) <= MAX_CELL_CHARS else f"{text[:MAX_CELL_CHARS]}…"
    return " ".join(short.split()).replace("|", "\\|")


def _counted(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} {number}" for kind, number in sorted(kinds.items()))


def _spending(report: BenchmarkReport) -> Iterator[str]:
    verdicts = (
        f", {report.num_verdicts:,} verdicts ({report.num_verdicts / report.asking_s:,.1f}/s)"
        if report.asking_s
        else ""
    )
    yield (
        f"This session: {report.num_asked:,} requests, {report.num_known:,} replies known from before{verdicts}, "
        f"{report.asking_s:,.1f} of {report.seconds:,.1f} s asking"
        + (f", cost {report.cost:.4f}" if report.cost else "")
        + "."
    )
    for one in report.spent:
        by = f" by {one.endpoint}" if one.endpoint else ""
        cost = f", cost {one.cost:.4f}" if one.cost else ""
        yield (
            f"All sessions, {one.stage}{by}: {one.num_replies:,} replies, {one.num_prompt_tokens:,} + "
            f"{one.num_completion_tokens:,} tokens{cost}."
        )
