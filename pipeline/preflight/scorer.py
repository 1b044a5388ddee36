"""Looks whether the user's scorers give rewards that can be trusted: they are called on problems of the run before
anything starts."""

from __future__ import annotations

import asyncio

from pipeline.config import Config
from pipeline.errors import DataError, ProcessEndedError, RewardError, UserError
from pipeline.preflight.endpoints import Finding
from pipeline.problems.dataset import load_problems
from pipeline.rewards.judge.verifier import without_judges
from pipeline.rewards.probe import NUM_PROBLEMS, ProbeReport, probed
from pipeline.rewards.verifier import Verifier
from pipeline.runtime.plugins import is_plugin

TELL_EVERY_S = 8.0


def scorer_findings(config: Config) -> list[Finding]:
    """What a probe of the user's scorers found; nothing where there are none. With `reward.probe` off they are only
    loaded."""
    own = [one.scorer for one in config.reward.all_scorers if is_plugin(one.scorer)]
    if not own:
        return []
    name = f"scorer {', '.join(own)}"
    try:
        report = asyncio.run(_probe(config))
    except DataError:
        return []  # what is wrong with the problems is a finding of its own
    except (UserError, ProcessEndedError) as error:
        return [Finding("FAILED", name, str(error))]
    said = "".join(f"\n          {one}" for one in report.probed)
    if report.error:
        return [Finding("FAILED", name, f"{report.error}{said}\n          (reward.probe = false starts all the same)")]
    called = f"called on {len(report.probed)} problems{said}" if said else "loaded; reward.probe is off"
    return [Finding("ok", name, called)] + [Finding("warn", name, doubt) for doubt in report.doubts]


def check_scorer(config: Config) -> list[str]:
    """Lines that tell what the user's scorers returned; empty without any. Raises RewardError where they fail."""
    findings = scorer_findings(config)
    if failed := [finding for finding in findings if finding.state == "FAILED"]:
        raise RewardError(f"reward.{failed[0].name}: {failed[0].message}")
    return [f"{finding.name}: {finding.message}" for finding in findings]


async def _probe(config: Config) -> ProbeReport:
    few = config.problems.model_copy(update={"num_train": min(64, config.problems.num_train)})
    num_workers = min(config.reward.num_workers, NUM_PROBLEMS)
    settings = (without_judges(config.reward) or config.reward).model_copy(update={"num_workers": num_workers})
    async with Verifier(settings) as verifier:
        if not settings.probe:
            return ProbeReport([], "", [])
        tasks = await asyncio.to_thread(load_problems, few, config.run.seed, config.reward.code.packages)
        teller = asyncio.create_task(_tell(settings.timeout_s))
        try:
            return await probed(verifier, tasks.train, settings)
        finally:
            teller.cancel()


async def _tell(timeout_s: float) -> None:
    """Say, now and then, what is waited for: a model that judges may take minutes."""
    waited_s = 0.0
    while True:
        await asyncio.sleep(TELL_EVERY_S)
        waited_s += TELL_EVERY_S
        limit = f"an answer may take reward.timeout_s = {timeout_s:g}"
        print(f"…       scorer: called on known answers, not done after {waited_s:g} s; {limit}", flush=True)
