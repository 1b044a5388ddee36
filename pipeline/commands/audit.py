"""`audit`: samples entries of a run's pool and reports what they are worth, as numbers, JSON and a page to read."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from pipeline.audit.effects import Groups
from pipeline.audit.entries import AuditedEntry, look
from pipeline.audit.html import page
from pipeline.audit.report import AuditReport
from pipeline.commands.opened_run import RunPool, open_run
from pipeline.config.endpoints import EndpointSettings
from pipeline.errors import DataError, EndpointError
from pipeline.experience.abstraction import near_copy
from pipeline.experience.pool_export import writing
from pipeline.experience.usefulness import total_use
from pipeline.inference.chat_client import ChatClient
from pipeline.inference.structured_output import THINKING_TOKENS, parse_json_reply
from pipeline.observability.progress import counted
from pipeline.rewards.judge.model import judge_endpoint
from pipeline.runtime import event_loop
from pipeline.runtime.written import Written
from pipeline.types import Experience, Message
from prompts.render import render_lessons, render_question
from prompts.schemas import JudgeLesson

REPORT, PAGE = "audit.json", "audit.html"
WIDTH = 40
SHOW_PROGRESS_FROM = 50


class _Verdict(BaseModel):
    verdict: Literal["transferable", "specific"]


def audit_command(arguments: argparse.Namespace) -> int:
    """Look, judge where asked to, write both files, print the report."""
    if arguments.n < 1:
        raise DataError(f"--n {arguments.n}: look at one entry at least")
    out = arguments.out or arguments.run
    parts = open_run(arguments.run, arguments.version)
    columns = parts.columns()
    sample = columns.sample(arguments.n, arguments.seed)
    if not sample:
        raise DataError(f"the pool of {arguments.run} is empty: no lesson was accepted yet; there is nothing to audit")
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    written = _written(out)
    groups = Groups(parts.outcomes(), [entry.id for entry in sample])
    entries = _audited(parts, sample, groups, newest=columns.bounds("step")[1])
    if arguments.judge:
        entries = event_loop.run(_judged(parts, entries, arguments))
    report = AuditReport.of(
        parts.run.path.name,
        columns.num_entries(),
        entries,
        arguments.seed,
        groups.effect_of_lessons(arguments.seed),
        spread_only=parts.config.rollout.refill_zero_variance,
    )
    shown = [{**one.model_dump(), "without_details": one.without_details, "reasons": one.reasons} for one in entries]
    with writing(out):
        written.write(REPORT, json.dumps({"report": report.model_dump(), "entries": shown}, indent=1), "--out")
        written.write(PAGE, page(report, entries), "--out")
    for name, value in report.rows():
        print(f"{name:<{WIDTH}} {value}")
    print(f"{'entries beside their sources':<{WIDTH}} {out / PAGE} (and {out / REPORT})")
    return 0


def _written(out: Path) -> Written:
    """What audits wrote in `out`, earlier versions among them. Raises RunFolderError where somebody else's files would
    be replaced."""
    written = Written(out, by="audit")
    if not written.is_listed(REPORT) and written.adopt(REPORT, _is_audit, replaced=True):
        written.adopt(PAGE, lambda path: b"<!doctype html>" in path.read_bytes()[:200], replaced=True)
    written.check(REPORT, PAGE, option="--out")
    return written


def _is_audit(path: Path) -> bool:
    return json.loads(path.read_text(encoding="utf-8")).keys() == {"report", "entries"}


def _audited(parts: RunPool, sample: list[Experience], groups: Groups, newest: int) -> list[AuditedEntry]:
    answers = parts.answers()
    entries = counted(sample, "entries", len(sample), least=SHOW_PROGRESS_FROM)
    return [_audit(parts, entry, groups, answers, newest) for entry in entries]


def _audit(parts: RunPool, entry: Experience, groups: Groups, answers: Mapping[str, str], newest: int) -> AuditedEntry:
    use = total_use(entry, groups.use_of(entry.id))
    trajectory = parts.journal.rollout_text(entry.rollout_id, entry.problem_text)
    update = {
        "copy_of": _copied(parts, entry),
        "num_retrieved": use.num_groups,
        "num_rollouts": use.num_rollouts,
        "mean_reward": use.mean_reward,
        "effect": groups.effect_of(entry.id),
        "age_steps": newest - entry.step,
    }
    return look(entry, trajectory, answers.get(entry.problem_hash)).model_copy(update=update)


def _copied(parts: RunPool, entry: Experience) -> str:
    """The entry that this one is nearly a copy of, empty for none: looked for where training does, among those of its
    problem and of the problems most like it. The whole pool would cost a comparison with each entry."""
    like = parts.pool.search(entry.problem_text, parts.config.feedback.num_candidates)
    others = [(other.id, other.lesson) for other in parts.pool.of_problem(entry.problem_id)]
    others += [(other.id, other.lesson) for other in like]
    threshold = parts.config.abstraction.near_copy_threshold
    return near_copy(entry.lesson, [other for other in others if other[0] != entry.id], threshold) or ""


async def _judged(parts: RunPool, entries: list[AuditedEntry], arguments: argparse.Namespace) -> list[AuditedEntry]:
    """`entries` with the verdicts of an endpoint. Raises EndpointSetupError, and DataError when it does not answer."""
    settings = EndpointSettings(url=arguments.judge, model=arguments.judge_model, api_key_env=arguments.judge_key_env)
    async with (
        judge_endpoint(settings, parts.config.requests) as judge,
        asyncio.TaskGroup() as tasks,
    ):
        asked = [tasks.create_task(_verdict(judge, audited)) for audited in entries]
    return [audited.model_copy(update={"verdict": task.result()}) for audited, task in zip(entries, asked, strict=True)]


async def _verdict(judge: ChatClient, audited: AuditedEntry) -> str:
    value = JudgeLesson(problem=audited.entry.problem_text, lesson=render_lessons((audited.entry.lesson,)))
    try:
        reply = await judge.chat(
            (Message(role="user", content=render_question(value)),),
            max_tokens=THINKING_TOKENS,
            temperature=0.0,
            stage="judge",
            schema=_Verdict.model_json_schema(),
        )
    except EndpointError as error:
        raise DataError(f"--judge did not answer ({error.kind}: {error})") from error
    try:
        return parse_json_reply(_Verdict, reply.text).verdict
    except ValidationError:
        return "unreadable"
