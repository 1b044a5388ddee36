"""Compares the judges that give rewards with labelled answers, before anything starts: what a run is paid by has to be
known.

Invariants: a judge that agrees with its labels on less than `reward.judge.min_agreement`, or that grades all known
answers alike, starts no run; what was found for the same judge and the same labels is not paid for again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from pipeline.config import Config
from pipeline.config.rollout import ScorerSettings
from pipeline.errors import EndpointError, RewardError, UserError
from pipeline.hashing import digest
from pipeline.inference.trouble import remedy_of
from pipeline.observability.progress import warn
from pipeline.preflight.endpoints import Finding
from pipeline.problems.dataset import load_problems
from pipeline.rewards.judge.agreement import LabelledAnswer, agreement, labelled_answers
from pipeline.rewards.judge.model import AnswerJudge
from pipeline.rewards.judge.verifier import JudgedVerifier, OpenedJudges, opened_judges
from pipeline.rewards.probe import is_flat, probed
from pipeline.rewards.version import judge_identity, verifier_version


class CheckedJudges(NamedTuple):
    """A line on each judge by the identity of what was compared, and what the comparison cost, as a run's totals."""

    lines: dict[str, str]
    spent: list[dict[str, Any]]


class _Labels(NamedTuple):
    """What a judge is compared with; `source` is a user's file, empty for what is shipped."""

    sample: list[LabelledAnswer]
    source: str = ""


def judge_findings(config: Config) -> list[Finding]:
    """What was found of each judge; nothing where there are none."""
    try:
        return [*asyncio.run(_compared(config, {}))[0].values()] if config.reward.judges else []
    except (UserError, EndpointError) as error:
        return [Finding("FAILED", "judge", _reason(error))]


def check_judges(config: Config, known: Mapping[str, str]) -> CheckedJudges:
    """What was found of each judge, of which `known` is what earlier sessions found, by identity. Raises RewardError
    for one that cannot be trusted, and for one that cannot be asked."""
    if not config.reward.judges:
        return CheckedJudges({}, [])
    try:
        findings, spent = asyncio.run(_compared(config, known))
    except (UserError, EndpointError) as error:
        raise RewardError(f"reward: {_reason(error)}") from error
    lines = {key: f"{one.name}: {one.message}" for key, one in findings.items()}
    if failed := [lines[key] for key, one in findings.items() if one.state == "FAILED"]:
        raise RewardError(f"reward: {failed[0]}")
    return CheckedJudges(lines, spent)


def _reason(error: Exception) -> str:
    return f"{error}; {remedy_of(error.kind)}" if isinstance(error, EndpointError) else str(error)


def _key(config: Config, judge: ScorerSettings, labels: _Labels | None) -> str:
    """Identity of a judge and of what it is compared with."""
    sample = [item.model_dump(mode="json") for item in labels.sample] if labels else []
    identity = judge_identity(judge, config.reward)
    return digest([identity, verifier_version("judge"), config.reward.threshold, sample])[:12]


def _labels_of(config: Config, judge: ScorerSettings) -> _Labels | None:
    """The labelled answers for a judge, the user's or those that are shipped; None where a rubric decides and there are
    none. Raises DataError."""
    settings = config.reward.judge
    if settings.labelled_file:
        sample = [one for one in labelled_answers(settings.labelled_file) if one.scorer in ("", judge.column)]
        if sample:
            return _Labels(sample, f" of {settings.labelled_file}")
    return None if judge.rubric or settings.rubric_column else _Labels(labelled_answers())


async def _compared(config: Config, known: Mapping[str, str]) -> tuple[dict[str, Finding], list[dict[str, Any]]]:
    """A finding on each judge by its identity, and what they cost. Only those that are not known are asked."""
    # Nothing has started: a judge that is away is reported in minutes, as by an evaluation.
    found: dict[str, Finding] = {}
    async with opened_judges(config.patient_as_eval, on_trouble=warn) as opened:
        for one in config.reward.judges:
            judge, name = opened.judges[one.column], f"judge {one.column}"
            labels = _labels_of(config, one)
            key = _key(config, one, labels)
            if (line := known.get(key)) is not None:
                found[key] = Finding("ok", name, line.removeprefix(f"{name}: "))
                continue
            print(f"…       {name}: {judge.name} is asked about answers that are known", flush=True)
            asking = _with_labels(config, judge, labels) if labels else _by_known_answers(config, judge, one)
            state, message = await asking
            found[key] = Finding("FAILED" if state else "ok", name, f"{judge.name} {message}{state}")
        return found, [client.usage.totals() for client in opened.clients.values()]


async def _with_labels(config: Config, judge: AnswerJudge, labels: _Labels) -> tuple[str, str]:
    """Why a judge cannot be trusted, empty where it can, and how far it agrees."""
    found, least = await agreement(judge, labels.sample), config.reward.judge.min_agreement
    line, reason = found.line().removeprefix("judge: ") + labels.source, ""
    if found.num_errors > found.num_judged:
        reason = (
            "; mend it, raise reward.judge.max_tokens where its replies are cut short, or name another endpoint "
            f"({judge.num_malformed} replies were no verdict)"
        )
    elif found.accuracy < least:
        reason = (
            f", which is less than reward.judge.min_agreement = {least:g}: what it pays for is not what is right; name "
            "a better judge, give labels of your own (reward.judge.labelled_file), or lower the level"
        )
    return reason, line


async def _by_known_answers(config: Config, judge: AnswerJudge, scorer: ScorerSettings) -> tuple[str, str]:
    """The same of a judge by a rubric without labels: answers to some problems that are known to differ must not all be
    graded alike."""
    few = config.problems.model_copy(update={"num_train": min(64, config.problems.num_train)})
    tasks = await asyncio.to_thread(load_problems, few, config.run.seed, config.reward.code.packages)
    settings = config.reward.model_copy(update={"scorer": scorer.scorer, "scorers": (scorer,)})
    async with JudgedVerifier(settings, OpenedJudges({scorer.column: judge}, {})) as verifier:
        report = await probed(verifier, tasks.train, settings)
    said = "".join(f"\n          {problem}" for problem in report.probed)
    # An empty answer is not shown to a judge.
    graded = [
        one._replace(verdicts={kind: verdict for kind, verdict in one.verdicts.items() if verdict.kind == "scored"})
        for one in report.probed
    ]
    reason = ""
    if config.reward.probe and (report.error or is_flat(graded)):
        alike = "it graded all known answers to a problem alike, so nothing can be learned from it"
        reason = f"\n          {report.error or alike} (reward.probe = false starts all the same)"
    return reason, f"was not compared with labels (reward.judge.labelled_file); it graded known answers{said}"
