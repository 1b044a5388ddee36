"""Compares the judges that give rewards with labelled answers, before anything starts: what a run is paid by has to be
known.

Invariants: a judge that agrees with its labels on less than `reward.judge.min_agreement`, or that grades all known
answers alike, starts no run; what was found for the same judge and the same labels is not paid for again."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path

from pipeline.config import Config
from pipeline.config.rollout import ScorerSettings
from pipeline.errors import EndpointError, RewardError, UserError
from pipeline.hashing import digest
from pipeline.inference.trouble import remedy_of
from pipeline.preflight.endpoints import Finding
from pipeline.problems.dataset import load_problems
from pipeline.rewards.judge.agreement import LABELLED, agreement, labelled_answers
from pipeline.rewards.judge.model import AnswerJudge
from pipeline.rewards.judge.verifier import JudgedVerifier, OpenedJudges, opened_judges
from pipeline.rewards.probe import is_flat, probed
from pipeline.rewards.version import judge_identity, verifier_version


def judge_findings(config: Config, known: Mapping[str, str] | None = None) -> list[Finding]:
    """What was found of each judge; nothing where there are none. `known` is what earlier sessions found, by
    identity."""
    if not config.reward.judges:
        return []
    try:
        return list(asyncio.run(_compared(config, known or {})).values())
    except (UserError, EndpointError) as error:
        remedy = f"; {remedy_of(error.kind)}" if isinstance(error, EndpointError) else ""
        return [Finding("FAILED", "judge", f"{error}{remedy}")]


def check_judges(config: Config, known: Mapping[str, str]) -> dict[str, str]:
    """A line on each judge, by the identity of what was compared. Raises RewardError for one that cannot be trusted,
    and for one that cannot be asked."""
    findings = judge_findings(config, known)
    if failed := [finding for finding in findings if finding.state == "FAILED"]:
        raise RewardError(f"reward: {failed[0].name}: {failed[0].message}")
    keys = [_key(config, judge) for judge in config.reward.judges]
    return {key: f"{one.name}: {one.message}" for key, one in zip(keys, findings, strict=True)}


def _key(config: Config, judge: ScorerSettings) -> str:
    """Identity of a judge and of what it is compared with."""
    settings = config.reward
    file = _labels_of(config, judge)
    labels = hashlib.sha256(file.read_bytes()).hexdigest() if file and file.is_file() else ""
    return digest([judge_identity(judge, settings), verifier_version("judge"), settings.threshold, labels])[:12]


def _labels_of(config: Config, judge: ScorerSettings) -> Path | None:
    """The file of labelled answers; None where a rubric decides and there are none."""
    settings = config.reward.judge
    return settings.labelled_file or (None if judge.rubric or settings.rubric_column else LABELLED)


async def _compared(config: Config, known: Mapping[str, str]) -> dict[str, Finding]:
    """A finding on each judge, by its column. Only those that are not known are asked."""
    # Nothing has started: a judge that is away is reported in minutes, as by an evaluation.
    requests = config.requests.model_copy(update={"max_outage_s": config.eval.max_outage_s})
    keys = {judge.column: _key(config, judge) for judge in config.reward.judges}
    found = {}
    async with opened_judges(config.model_copy(update={"requests": requests})) as opened:
        for one in config.reward.judges:
            judge, name = opened.judges[one.column], f"judge {one.column}"
            if (line := known.get(keys[one.column])) is not None:
                found[one.column] = Finding("ok", name, line.removeprefix(f"{name}: "))
            elif (file := _labels_of(config, one)) is not None:
                found[one.column] = await _with_labels(config, judge, name, file)
            else:
                found[one.column] = await _by_known_answers(config, judge, name, one)
    return found


async def _with_labels(config: Config, judge: AnswerJudge, name: str, file: Path) -> Finding:
    found, least = await agreement(judge, labelled_answers(file)), config.reward.judge.min_agreement
    line = found.line().removeprefix("judge: ")
    which = "" if file == LABELLED else f" ({file})"
    reason = ""
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
    return Finding("FAILED" if reason else "ok", name, f"{judge.name} {line}{which}{reason}")


async def _by_known_answers(config: Config, judge: AnswerJudge, name: str, one: ScorerSettings) -> Finding:
    """A judge by a rubric without labels: answers to some problems that are known to differ must not all be graded
    alike."""
    few = config.problems.model_copy(update={"num_train": min(64, config.problems.num_train)})
    tasks = await asyncio.to_thread(load_problems, few, config.run.seed)
    settings = config.reward.model_copy(update={"scorer": one.scorer, "scorers": (one,)})
    async with JudgedVerifier(settings, OpenedJudges({one.column: judge}, {})) as verifier:
        report = await probed(verifier, tasks.train, settings)
    said = "".join(f"\n          {problem}" for problem in report.probed)
    # An empty answer is not shown to a judge.
    graded = [
        problem._replace(verdicts={kind: said for kind, said in problem.verdicts.items() if said.kind == "scored"})
        for problem in report.probed
    ]
    if config.reward.probe and (report.error or is_flat(graded)):
        reason = report.error or "it graded all known answers to a problem alike, so nothing can be learned from it"
        remedy = "\n          (reward.probe = false starts all the same)"
        return Finding("FAILED", name, f"{judge.name}: {reason}{said}{remedy}")
    without = "was not compared with labels (reward.judge.labelled_file); it graded known answers"
    return Finding("ok", name, f"{judge.name} {without}{said}")
