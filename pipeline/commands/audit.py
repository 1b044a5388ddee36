"""`audit`: samples entries of a run's pool and reports what they are worth, as numbers, JSON and a page to read."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from pipeline import event_loop
from pipeline.abstraction import near_copy
from pipeline.audit import Sighting, effect, look
from pipeline.audit_page import page
from pipeline.audit_report import AuditReport
from pipeline.commands.run_pool import RunPool, open_run
from pipeline.config import EndpointSettings
from pipeline.endpoints import EndpointPool, pool_of
from pipeline.errors import DataError, EndpointError
from pipeline.records import Experience, Message
from pipeline.usefulness import total_use
from prompts.render import render, render_lessons
from prompts.schemas import JudgeLesson

REPORT, PAGE = "audit.json", "audit.html"


class _Verdict(BaseModel):
    verdict: Literal["transferable", "specific"]


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="the run folder; the run may go on meanwhile")
    add("--n", type=int, default=50, help="entries to look at (default 50)")
    add("--seed", type=int, default=0, help="seed of the sample")
    add(
        "--version",
        default="",
        metavar="V",
        help="version of the pool, a number or the name of a pin; default: the newest",
    )
    add("--judge", default="", metavar="URL", help="an endpoint that judges each entry as well")
    add("--judge-model", default="", metavar="NAME", help="model name there")
    add("--judge-key-env", default="", metavar="NAME", help="environment variable that holds its key")
    add("--out", type=Path, metavar="DIR", help="where audit.json and audit.html go; default: the run folder")


def audit_command(arguments: argparse.Namespace) -> int:
    """Look, judge where asked to, write both files, print the report."""
    if arguments.n < 1:
        raise DataError(f"--n {arguments.n}: look at one entry at least")
    parts = open_run(arguments.run, arguments.version)
    entries = list(parts.pool.entries())
    if not entries:
        raise DataError(f"the pool of {arguments.run} is empty: no lesson was accepted yet; there is nothing to audit")
    sample = random.Random(arguments.seed).sample(entries, k=min(arguments.n, len(entries)))
    sightings = _sightings(parts, sample, entries)
    if arguments.judge:
        sightings = event_loop.run(_judged(parts, sightings, arguments))
    outcomes = list(parts.journal.outcomes(parts.run.lineages()))
    report = AuditReport.of(
        parts.run.path.name, len(entries), sightings, arguments.seed, effect(outcomes, seed=arguments.seed)
    )
    out = arguments.out or parts.run.path
    out.mkdir(parents=True, exist_ok=True)
    found = {"report": report.model_dump(), "entries": [_as_json(sighting) for sighting in sightings]}
    (out / REPORT).write_text(json.dumps(found, indent=1), encoding="utf-8")
    (out / PAGE).write_text(page(report, sightings), encoding="utf-8")
    for name, value in report.rows():
        print(f"{name:<36} {value}")
    print(f"{'entries beside their sources':<36} {out / PAGE} (and {out / REPORT})")
    return 0


def _as_json(sighting: Sighting) -> dict[str, object]:
    return {**sighting.model_dump(), "transferable": sighting.transferable, "reasons": sighting.reasons}


def _sightings(parts: RunPool, sample: list[Experience], entries: list[Experience]) -> list[Sighting]:
    answers = {task.problem.id: task.label.answer for task in parts.problems().train}
    newest = max(entry.step for entry in entries)
    threshold = parts.config.abstraction.near_copy_threshold
    lessons = [(entry.id, entry.lesson) for entry in entries]
    found = []
    for entry in sample:
        use = total_use(entry, parts.usefulness.of(entry.id))
        others = [(entry_id, lesson) for entry_id, lesson in lessons if entry_id != entry.id]
        seen = look(entry, parts.journal.rollout_text(entry.rollout_id), answers.get(entry.problem_id))
        update = {
            "copy_of": near_copy(entry.lesson, others, threshold) or "",
            "num_retrieved": use.num_groups,
            "num_rollouts": use.num_rollouts,
            "mean_reward": use.mean_reward,
            "age_steps": newest - entry.step,
        }
        found.append(seen.model_copy(update=update))
    return found


async def _judged(parts: RunPool, sightings: list[Sighting], arguments: argparse.Namespace) -> list[Sighting]:
    """`sightings` with the verdicts of an endpoint. Raises EndpointError when it does not answer."""
    endpoint = EndpointSettings(url=arguments.judge, model=arguments.judge_model, api_key_env=arguments.judge_key_env)
    async with pool_of(parts.config, (endpoint,)) as judge, asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(_verdict(judge, sighting)) for sighting in sightings]
    return [
        sighting.model_copy(update={"verdict": task.result()}) for sighting, task in zip(sightings, asked, strict=True)
    ]


async def _verdict(judge: EndpointPool, sighting: Sighting) -> str:
    value = JudgeLesson(problem=sighting.entry.problem_text, lesson=render_lessons((sighting.entry.lesson,)))
    try:
        reply = await judge.chat(
            (Message(role="user", content=render(value)),),
            max_tokens=32,
            temperature=0.0,
            stage="judge",
            schema=_Verdict.model_json_schema(),
        )
    except EndpointError as error:
        raise DataError(f"--judge did not answer ({error.kind}: {error})") from error
    try:
        return _Verdict.model_validate_json(reply.text).verdict
    except ValidationError:
        return "unreadable"
