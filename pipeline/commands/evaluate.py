"""`eval`: benchmarks × inference modes, of a run's final model, any model, or any endpoint; given again it goes on."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.commands import eval_options
from pipeline.evaluation.markdown import page
from pipeline.evaluation.model_session import EvalOptions
from pipeline.evaluation.regrade import Regrade
from pipeline.evaluation.session import EvaluationSession, check_compare
from pipeline.observability.live_view import View
from pipeline.preflight.model_facts import facts_of
from pipeline.runtime import event_loop


def evaluate_command(arguments: argparse.Namespace) -> int:
    """Evaluate, print the report. The status is 1 while some answers could not be had, 130 after a signal."""
    chosen = eval_options.chosen(arguments)
    if arguments.compare is not None:
        check_compare(arguments.compare)
    options = EvalOptions(
        config=chosen.config,
        explicit=chosen.explicit,
        model_name=(arguments.run_folder or Path(chosen.config.model.path)).name,
        registry=arguments.registry,
        data=arguments.data,
        lessons=arguments.pool_run or arguments.run_folder,
        num_parameters=lambda model: facts_of(model).num_parameters,
        judge=eval_options.judge_of(arguments),
        compare=arguments.compare,
        out=arguments.out,
        fresh=arguments.fresh,
        moved=arguments.moved,
    )
    view = View(0, live=False)
    session = (Regrade if arguments.rejudge else EvaluationSession)(options, view.log, view.warn)
    folder, report, failure, first_failure = event_loop.run(session.run())
    if report is None:
        return 130
    print(page(report))
    view.log(f"every answer with its prompts, verdict and trace, the report and two plots are in {folder.path}")
    if failure is not None:
        raise failure
    if report.failures:
        view.log(f"some answers could not be had; the first failure: {first_failure}")
    return 1 if report.failures else 0
