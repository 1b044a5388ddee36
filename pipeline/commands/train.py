"""`train`: begins, resumes or forks a run, and ends it cleanly on a signal; `session` has what a session does."""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from pipeline.commands.doctor import check_machine
from pipeline.commands.fork import fork_run
from pipeline.commands.opened_run import make_tables
from pipeline.commands.session import Session
from pipeline.commands.setting_options import settings_given
from pipeline.config import Config
from pipeline.config.inert import inert
from pipeline.config.loading import load_config, merged, read_config_file, validated
from pipeline.errors import ConfigError, LanpoError
from pipeline.observability import logs
from pipeline.observability.live_view import View
from pipeline.observability.progress import warn
from pipeline.observability.secrets import secrets_of
from pipeline.preflight.judges import CheckedJudges, check_judges
from pipeline.preflight.settled import without_open
from pipeline.run import checkpoints, provenance
from pipeline.run.folder import RunFolder
from pipeline.run.resume import check_resume_config, schedule_note
from pipeline.run.state import RunState
from pipeline.runtime import event_loop
from pipeline.runtime.files import write_atomic
from pipeline.storage.claim import check_claim, new_run
from pipeline.weights.publishing import adopt_old, check_final_model


def train_command(arguments: argparse.Namespace) -> int:
    """Begin, resume or fork a run, or print its configuration; return the exit status."""
    if arguments.at_step is not None and not arguments.fork:
        raise ConfigError("--at-step says where --fork begins; it goes with --fork RUN")
    given = settings_given(arguments)
    if source := arguments.resume or arguments.fork:
        run = RunFolder.open(source)
        stored = run.config()
        config = _changed(stored, arguments, given)
        if arguments.resume:
            check_resume_config(stored, config)
    else:
        config = load_config(arguments.config, given)
    if arguments.dry_run:
        print(config.model_dump_json(indent=2))
        return 0
    for line in check_machine(_begun(config) if source else config):
        print(line, flush=True)
    if arguments.resume and (note := schedule_note(stored, config, checkpoints.newest_whole(run) or 0)):
        print(note, flush=True)
    for line in inert(config):
        warn(f"warning: {line}")
    judges = check_judges(config, RunState(run).values.get("judges", {}) if arguments.resume else {})
    for line in judges.lines.values():
        print(line, flush=True)
    if arguments.resume:
        return _resume(run, config, judges)
    run = fork_run(run, config, arguments.at_step) if arguments.fork else new_run(config)
    make_tables(run, config)
    return run_session(run, config, judges, resumed=bool(arguments.fork))


def _changed(stored: Config, arguments: argparse.Namespace, given: dict[str, Any]) -> Config:
    """The configuration of a run with what file and options change; a fork gets a name of its own."""
    values = stored.model_dump(mode="json")
    if arguments.fork:
        values["run"]["name"] = ""
    from_file = read_config_file(arguments.config) if arguments.config else {}
    return validated(merged(values, without_open(merged(from_file, given), values)))


def _begun(config: Config) -> Config:
    """For the checks of a run that was begun: whether it was seeded was decided then."""
    return config.model_copy(update={"sft": config.sft.model_copy(update={"enabled": False})})


def _resume(run: RunFolder, config: Config, judges: CheckedJudges) -> int:
    check_claim(run)
    with run.locked():
        check_final_model(run)
        adopt_old(run)
        write_atomic(run.config_file, config.model_dump_json(indent=2))
    return run_session(run, config, judges, resumed=True)


def run_session(run: RunFolder, config: Config, judges: CheckedJudges, *, resumed: bool) -> int:
    """One session of a run, until it is done or stopped; `judges` is what is known of those that give its rewards. A
    first SIGINT or SIGTERM drains; a second ends at once."""
    logs.configure(run.logs / "orchestrator.log", config.operations, secrets_of(config))
    view = View(config.learner.num_steps)
    view.log(f"run folder {run.path}")
    with run.locked():
        provenance.append(run, config)
        session = Session(run, config, view)
        if judges.lines:
            session.state.values["judges"] = judges.lines
        for spent in judges.spent:
            session.state.add_to_totals(**spent)
        try:
            event_loop.run(_stoppable(session.work(resumed), view))
        except KeyboardInterrupt:
            view.log(f"stopped; continue with: python -m pipeline.orchestrate train --resume {run.path}")
            return 130
        except (LanpoError, BaseExceptionGroup):
            logging.getLogger(__name__).exception("the run failed")
            view.log(f"the run failed; what it acknowledged is safe: train --resume {run.path}")
            raise
    return 0


async def _stoppable(work: Coroutine[Any, Any, None], view: View) -> None:
    """Run `work`; the first SIGINT or SIGTERM cancels it, and its `finally` blocks drain and end the children."""
    task = asyncio.ensure_future(work)

    def stop() -> None:
        view.log("stopping: the learner finishes its step and saves a checkpoint (a second Ctrl-C ends at once)")
        task.cancel()

    with event_loop.on_stop(stop):
        await task
