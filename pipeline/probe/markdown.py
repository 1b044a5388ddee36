"""The page of a probe: which skills are there, which is missing, and the numbers behind that."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.observability.live_view import duration
from pipeline.probe.report import INSPECTED, ProbeReport, SkillReport


def page(report: ProbeReport) -> str:
    """As Markdown, which reads well on a terminal too."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: ProbeReport) -> Iterator[str]:
    yield f"# Skills of {report.name}\n"
    yield "| skill | on | there | measured (95 % intervals) |"
    yield "|---|---|---|---|"
    for one in report.skills:
        yield f"| {one.skill} | {one.ground} | {one.verdict} | {one.reason} |"
    yield f"\n**{report.conclusion}**"
    for one in report.skills:
        yield from _details(one)
    if report.failures:
        counted = ", ".join(f"{kind} {num}" for kind, num in sorted(report.failures.items()))
        yield f"\nMeasures that failed for good: {counted}; the same command asks for them again."
    cost = f", cost {report.cost:.4f}" if report.cost else ""
    yield (
        f"\n{report.num_requests} requests and {report.num_known} replies known from before, "
        f"{report.num_prompt_tokens:,} + {report.num_completion_tokens:,} tokens{cost}, in {duration(report.seconds)}."
    )


def _details(one: SkillReport) -> Iterator[str]:
    yield f"\n## {one.skill}, {one.ground}\n"
    if one.skill == "inspect":
        yield from _transitions(one)
    yield "| measure | value | 95 % interval | problems |"
    yield "|---|---|---|---|"
    for rate in one.rates:
        yield f"| {rate.name} | {rate.value:.1%} | [{rate.low:.1%}, {rate.high:.1%}] | {rate.num} |"
    for effect in one.effects:
        low, high = 100 * effect.low, 100 * effect.high
        yield f"| {effect.name} | {100 * effect.value:+.1f} points | [{low:+.1f}, {high:+.1f}] | {effect.num} |"


def _transitions(one: SkillReport) -> Iterator[str]:
    """What became of right, wrong and cut attempts, as counts."""
    yield "| attempt | right after the critique | wrong after it |"
    yield "|---|---|---|"
    for kind, name in INSPECTED.items():
        if (rate := one.rate(name)) is not None:
            num_right = round(rate.value * rate.num)
            yield f"| {kind} | {num_right} | {rate.num - num_right} |"
    yield ""
