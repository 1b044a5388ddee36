"""`doctor`: finds what would keep a run from working, or from being right, before it starts anything."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from pipeline.commands.setting_options import settings_given
from pipeline.config import Config
from pipeline.config.inert import inert
from pipeline.config.loading import load_config
from pipeline.errors import UserError
from pipeline.observability.progress import warn
from pipeline.preflight.endpoints import Finding, findings
from pipeline.preflight.gamma import gamma_findings
from pipeline.preflight.judges import judge_findings
from pipeline.preflight.machine import CHECKS, Check, Doubt
from pipeline.preflight.scorer import check_scorer, scorer_findings
from pipeline.runtime import event_loop


def check_machine(config: Config) -> list[str]:
    """Raise the first UserError that a check of machine, configuration and scorers finds. Takes less than a second but
    for a scorer of the user's, of which the lines tell what it returned."""
    for _, check in CHECKS:
        check(config)
    return check_scorer(config)


def doctor_command(arguments: argparse.Namespace) -> int:
    """Check the configuration that the arguments make; return the exit status."""
    return doctor(load_config(arguments.config, settings_given(arguments)))


def doctor(config: Config) -> int:
    """Run every check, those of named endpoints included; print a line for each as it ends; exit status 2 when one
    failed."""
    found = []
    for finding in _found(config):
        found.append(finding)
        message = f": {finding.message}" if finding.message else ""
        print(f"{finding.state:<7} {finding.name}{message}", flush=True)
    num_failed = sum(finding.state == "FAILED" for finding in found)
    num_doubtful = sum(finding.state == "warn" for finding in found)
    doubtful = f" ({num_doubtful} to think about)" if num_doubtful else ""
    print(f"{num_failed} of {len(found)} checks failed{doubtful}" if num_failed else f"ready{doubtful}")
    return 2 if num_failed else 0


def _found(config: Config) -> Iterator[Finding]:
    """Every finding, as soon as it is there; what may take long is last."""
    yield from (_finding(config, name, check) for name, check in CHECKS)
    yield from (Finding("warn", "settings", line) for line in inert(config))
    yield from scorer_findings(config)
    yield from judge_findings(config)
    yield from gamma_findings(config)
    yield from event_loop.run(findings(config, warn))


def _finding(config: Config, name: str, check: Check) -> Finding:
    try:
        detail = check(config)
    except UserError as error:
        return Finding("FAILED", name, str(error))
    return Finding("warn" if isinstance(detail, Doubt) else "ok", name, detail or "")
