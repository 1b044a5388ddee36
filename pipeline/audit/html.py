"""The audit as one HTML page: its numbers, then entries beside their sources. No script, no link to anywhere.

Whatever a model or a data set wrote is escaped."""

from __future__ import annotations

from pathlib import Path

from pipeline.audit.entries import AuditedEntry
from pipeline.audit.report import AuditReport
from prompts.render import render_lessons

TEMPLATE = Path(__file__).with_name("page.html")


def page(report: AuditReport, audited: list[AuditedEntry]) -> str:
    """The page as text."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, trim_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(report=report, audited=audited, render_lessons=render_lessons)
