"""Plots of an evaluation: accuracy by benchmark and mode, and accuracy against the tokens spent; matplotlib is imported
only here."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from pipeline.evaluation.report import BenchmarkReport, ReportRow

COLOURS = {"zero-shot": "tab:blue", "retrieval": "tab:green", "reflect": "tab:orange"}
LINES = ("-", "--", ":", "-.")
"""Settings of one mode share its colour."""


def plot_accuracy(report: BenchmarkReport) -> bytes:
    """SVG: a bar for each benchmark and mode, with its 95 % interval."""
    figure, axes = _axes(1, max(5.0, 1.6 + 0.9 * len(report.rows)))
    axis = axes[0]
    names = list(dict.fromkeys(row.benchmark for row in report.rows))
    bars = list(dict.fromkeys((row.mode, row.label) for row in report.rows))
    width = 0.8 / len(bars)
    for row in report.rows:
        at = names.index(row.benchmark) + (bars.index((row.mode, row.label)) - (len(bars) - 1) / 2) * width
        spread = [[row.avg.value - row.avg.low], [row.avg.high - row.avg.value]]
        axis.bar(at, row.avg.value, width * 0.92, color=COLOURS[row.mode], yerr=spread, capsize=3)
        axis.text(at, row.avg.high + 0.01, f"{row.avg.value:.1%}", ha="center", va="bottom", fontsize=8)
        if row.label:
            axis.text(at, 0.01, row.label, ha="center", va="bottom", fontsize=6, rotation=90)
    for mode in dict.fromkeys(mode for mode, _ in bars):
        axis.bar(0, 0, color=COLOURS[mode], label=mode)
    axis.set(xticks=range(len(names)), xticklabels=names, ylim=(0, 1.1), ylabel="share solved, mean of the samples")
    axis.legend(loc="upper right", fontsize=8)
    figure.suptitle(f"{report.name}: accuracy with 95 % intervals")
    return _svg(figure)


def plot_compute(report: BenchmarkReport) -> bytes:
    """SVG: accuracy of a majority of k answers against the tokens of these k answers, a panel for each benchmark."""
    names = list(dict.fromkeys(row.benchmark for row in report.rows if row.maj_at))
    figure, axes = _axes(max(1, len(names)), 5.0 * max(1, len(names)))
    for axis, name in zip(axes, names, strict=False):
        axis.set(title=name)
        # Tokens that no endpoint told have no place on a logarithmic axis.
        rows = [row for row in report.rows if row.benchmark == name and row.maj_at and row.mean_tokens > 0]
        if not rows:
            axis.text(0.5, 0.5, "the endpoint does not tell\nhow many tokens it used", ha="center")
            continue
        _curves(axis, rows)
        axis.set(
            xscale="log",
            xlabel="tokens a problem (prompt + completion)",
            ylabel="share solved by the majority of k",
        )
        axis.grid(alpha=0.3, which="both")
        axis.legend(fontsize=8)
    if not names:
        axes[0].text(0.5, 0.5, "programs cannot vote", ha="center")
    figure.suptitle(f"{report.name}: accuracy against compute")
    return _svg(figure)


def _curves(axis: Any, rows: Sequence[ReportRow]) -> None:
    for number, row in enumerate(rows):
        at = [k for k in sorted(row.maj_at) if k <= row.shown_k]
        line = LINES[sum(other.mode == row.mode for other in rows[:number]) % len(LINES)]
        tokens = [k * row.mean_tokens for k in at]
        colour = COLOURS[row.mode]
        axis.plot(tokens, [row.maj_at[k].value for k in at], f"o{line}", color=colour, label=row.name, markersize=4)
        axis.fill_between(
            tokens,
            [row.maj_at[k].low for k in at],
            [row.maj_at[k].high for k in at],
            color=colour,
            alpha=0.15,
            linewidth=0,
        )
        for k, x in zip(at, tokens, strict=True):
            axis.annotate(f"{k}", (x, row.maj_at[k].value), textcoords="offset points", xytext=(0, 5), fontsize=7)


def _svg(figure: Any) -> bytes:
    content = BytesIO()
    figure.savefig(content, format="svg", dpi=150)
    return content.getvalue()


def _axes(number: int, width: float) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 4.2), layout="constrained")
    found = figure.subplots(1, number)
    return figure, [found] if number == 1 else list(found)
