"""`eval`: benchmarks × inference modes, of a run's final model, any model, or any endpoint; given again it goes on."""

from __future__ import annotations

import argparse

from pipeline.commands import eval_options
from pipeline.evaluation.markdown import page
from pipeline.evaluation.regrade import Regrade
from pipeline.evaluation.session import EvaluationSession, check_compare
from pipeline.observability.live_view import View
from pipeline.runtime import event_loop


def evaluate_command(arguments: argparse.Namespace) -> int:
    """Evaluate, print the report. The status is 1 while some answers could not be had, 130 after a signal."""
    chosen = eval_options.chosen(arguments)
    if arguments.compare is not None:
        check_compare(arguments.compare)
    lessons = arguments.pool_run or arguments.run_folder
    judge, compare = eval_options.judge_of(arguments), arguments.compare
    options = eval_options.of_session(arguments, chosen, lessons)._replace(judge=judge, compare=compare)
    view = View(0, live=False)
    session = (Regrade if arguments.rejudge else EvaluationSession)(options, view.log, view.warn)
    outcome = event_loop.run(session.run())
    files = "every answer with its prompts, verdict and trace, the report and two plots"
    return eval_options.ended(outcome, page, view, "answers", files)
