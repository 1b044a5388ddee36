"""`probe`: which of the four skills a model has, whether it needs SFT; given again it goes on."""

from __future__ import annotations

import argparse

from pipeline.commands import eval_options
from pipeline.errors import ConfigError
from pipeline.observability.live_view import View
from pipeline.probe.grounds import BUILT_IN
from pipeline.probe.markdown import page
from pipeline.probe.session import ProbeSession
from pipeline.runtime import event_loop

FOREIGN_TOKENS, OWN_TOKENS = 1024, 192
"""Longest answer to the built-in problems: of an endpoint's model, which explains itself, and of one that was trained
here, at least."""


def probe_command(arguments: argparse.Namespace) -> int:
    """Probe, print the report. The status is 1 while some measures could not be had, 130 after a signal."""
    problems = vars(arguments)["eval.benchmarks"] = vars(arguments)["eval.benchmarks"] or [",".join(BUILT_IN)]
    chosen = eval_options.chosen(arguments)
    config = chosen.config
    if arguments.n < 1:
        raise ConfigError(f"--n {arguments.n}: give the number of problems, 1 or more")
    if arguments.pool_run and set(config.eval.benchmarks) <= set(BUILT_IN):
        raise ConfigError(
            f"--pool {arguments.pool_run} is for problems of yours, and --problems names {','.join(problems)}; name "
            "theirs too"
        )
    options = eval_options.of_session(arguments, chosen, arguments.pool_run)
    usual = FOREIGN_TOKENS if arguments.endpoint else max(config.longest_answer, OWN_TOKENS)
    view = View(0, live=False)
    max_tokens = config.eval.max_answer_tokens or usual
    session = ProbeSession(options, config.eval.benchmarks, arguments.n, max_tokens, view.log, view.warn)
    outcome = event_loop.run(session.run())
    files = "every answer with what was shown and expected, and the report,"
    return eval_options.ended(outcome, page, view, "measures", files)
