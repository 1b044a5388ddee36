"""The audit as one HTML page: its numbers, then entries beside their sources. No script, no link to anywhere.

Whatever a model or a data set wrote is escaped."""

from __future__ import annotations

from html import escape

from pipeline.audit.entries import AuditedEntry
from pipeline.audit.report import AuditReport
from prompts.render import render_lessons

STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #b3261e; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; }
article { border-top: 1px solid var(--line); padding: 1rem 0; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1.5rem; margin-top: .6rem; }
@media (max-width: 800px) { .pair { grid-template-columns: 1fr; } }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #8881; padding: .6rem; border-radius: 6px; margin: .3rem 0; }
h3 { font-size: 1rem; margin: 0 0 .5rem; } .note { opacity: .75; font-size: .9rem; }
.good { color: var(--good); } .bad { color: var(--bad); } .tag { font-weight: 600; }
"""


NOTE = (
    "What a group draws is chance, so lessons − scratch drawn is what drawing lessons did, fall-backs included; where lessons were "
    "found is that, divided by their share. Which entry is shown is not chance: the rewards with one entry are an observation beside "
    "scratch groups of the same family and steps, and one interval in twenty misses the truth."
)


def page(report: AuditReport, sightings: list[AuditedEntry]) -> str:
    rows = "\n".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in report.rows())
    articles = "\n".join(_article(number, sighting) for number, sighting in enumerate(sightings, 1))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Audit of {escape(report.run)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"<h1>Audit of the pool of {escape(report.run)}</h1><table>{rows}</table>"
        f'<p class="note">{escape(NOTE)}</p>'
        f"<h2>{len(sightings)} entries beside their sources</h2>{articles}</body></html>\n"
    )


def _article(number: int, sighting: AuditedEntry) -> str:
    entry = sighting.entry
    state = "good" if sighting.transferable else "bad"
    words = "transferable" if sighting.transferable else "; ".join(sighting.reasons)
    judged = f" · judge: {escape(sighting.verdict)}" if sighting.verdict else ""
    reward = "" if sighting.mean_reward is None else f", mean reward {sighting.mean_reward:.2f}"
    torn = " · warns of what it advises" if sighting.contradictory else ""
    copied = f" · nearly a copy of {escape(sighting.copy_of)}" if sighting.copy_of else ""
    return (
        f'<article id="{escape(entry.id)}"><h3>{number}. {escape(entry.id)} '
        f'<span class="tag {state}">{escape(words)}</span>{judged}{torn}{copied}</h3>'
        f'<div class="note">problem {escape(entry.problem_id)} · made at step {entry.step} from a rollout with reward '
        f"{entry.reward:g} ({escape(entry.kind)}) · {sighting.age_steps} steps old · shown to "
        f"{_times(sighting.num_retrieved, 'group')}, {_times(sighting.num_rollouts, 'rollout')}{reward}</div>"
        f'<div class="note">reward with it − from scratch: {escape(_effect(sighting))}</div>'
        f'<div class="pair"><div><b>Lesson</b><pre>{escape(render_lessons((entry.lesson,)))}</pre></div>'
        f"<div><b>Problem</b><pre>{escape(entry.problem_text)}</pre><b>Trajectory</b>"
        f"<pre>{escape(sighting.trajectory or '(not in this journal)')}</pre></div></div></article>"
    )


def _times(num: int, noun: str) -> str:
    return f"{num} {noun}" if num == 1 else f"{num} {noun}s"


def _effect(sighting: AuditedEntry) -> str:
    if sighting.effect is not None:
        return str(sighting.effect)
    return "no groups to compare" if sighting.num_retrieved else "not shown yet"
