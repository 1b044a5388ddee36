"""Plots as PNG or SVG, by matplotlib; it is imported only here."""

from __future__ import annotations

from io import BytesIO

from pipeline.inference.load_test import Shot, StressReport

MAX_POINTS = 20_000


def plot_latency(shots: list[Shot], report: StressReport, form: str) -> bytes:
    """Latency of each request over the run, and its distribution, as 'svg' or 'png'."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    over_time, distribution = figure.subplots(1, 2)
    shown = shots[:: max(1, len(shots) // MAX_POINTS)]
    for failed, colour, name in ((False, "tab:blue", "answered"), (True, "tab:red", "failed")):
        points = [(shot.begin_s, shot.latency_s) for shot in shown if bool(shot.error) == failed]
        if points:
            over_time.plot(*zip(*points, strict=True), ".", markersize=2, color=colour, label=name, rasterized=True)
    over_time.set(xlabel="seconds since the beginning", ylabel="latency, s", ylim=(0, None))
    if shown:
        over_time.legend(loc="upper right")
    answered = sorted(shot.latency_s for shot in shots if not shot.error)
    first = sorted(shot.first_token_s for shot in shots if shot.first_token_s is not None)
    for seconds, colour, name in ((answered, "tab:blue", "answer"), (first, "tab:green", "first token")):
        if seconds:
            shares = [(index + 1) / len(seconds) for index in range(len(seconds))]
            distribution.plot(seconds, shares, color=colour, label=name)
    for name in ("p50", "p99"):
        if name in report.latency_s:
            distribution.axvline(report.latency_s[name], color="grey", linewidth=0.8, linestyle=":")
            distribution.text(report.latency_s[name], 0.02, name, rotation=90, ha="right", fontsize=8)
    distribution.set(xlabel="latency, s", ylabel="share of answers", ylim=(0, 1), xlim=(0, None))
    if answered:
        distribution.legend(loc="lower right")
    figure.suptitle(
        f"{report.num_answered:,} of {report.num_requests:,} requests answered at {report.concurrency:,} concurrent: "
        f"{report.requests_per_s:,.0f} requests/s"
    )
    content = BytesIO()
    figure.savefig(content, format=form, dpi=150)
    return content.getvalue()
