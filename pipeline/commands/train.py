"""`train`: begins, resumes or forks a run, and ends it cleanly on a signal. What a session does: `pipeline/commands/session.py`."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from pipeline.commands.doctor import check_machine
from pipeline.commands.fork import fork_run
from pipeline.commands.opened_run import make_tables
from pipeline.commands.session import Session
from pipeline.config import Config
from pipeline.config.loading import merged, read_config_file, validated
from pipeline.errors import LanpoError
from pipeline.observability import logs
from pipeline.observability.live_view import View
from pipeline.observability.secrets import secrets_of
from pipeline.run import provenance
from pipeline.run.folder import RunFolder
from pipeline.run.resume import check_resume_config
from pipeline.runtime import event_loop
from pipeline.runtime.files import write_atomic
from pipeline.storage.claim import check_claim, new_run


def train(config: Config, *, dry_run: bool = False) -> int:
    """Start a new run. Returns the exit status."""
    if dry_run:
        print(config.model_dump_json(indent=2))
        return 0
    check_machine(config)
    run = new_run(config)
    make_tables(run, config)
    return run_session(run, config, resumed=False)


def resume(folder: Path, config_file: Path | None, overrides: dict[str, Any], *, dry_run: bool = False) -> int:
    """Continue a run. Raises RunFolderError when the configuration differs in more than harmless settings."""
    run = RunFolder.open(folder)
    stored = run.config()
    wanted = validated(
        merged(stored.model_dump(mode="json"), merged(read_config_file(config_file) if config_file else {}, overrides))
    )
    check_resume_config(stored, wanted)
    if dry_run:
        print(wanted.model_dump_json(indent=2))
        return 0
    check_machine(wanted)
    check_claim(run)
    with run.locked():
        write_atomic(run.config_file, wanted.model_dump_json(indent=2))
    return run_session(run, wanted, resumed=True)


def fork(
    folder: Path, step: int | None, config_file: Path | None, overrides: dict[str, Any], *, dry_run: bool = False
) -> int:
    """Start a new run from a checkpoint of the one in `folder`, with its settings but for those given. Returns the exit status."""
    source = RunFolder.open(folder)
    stored = source.config().model_dump(mode="json")
    stored["run"]["name"] = ""
    config = validated(merged(stored, merged(read_config_file(config_file) if config_file else {}, overrides)))
    if dry_run:
        print(config.model_dump_json(indent=2))
        return 0
    check_machine(config)
    run = fork_run(source, config, step)
    make_tables(run, config)
    return run_session(run, config, resumed=True)


def run_session(run: RunFolder, config: Config, *, resumed: bool) -> int:
    """One session of a run, until it is done or stopped. A first SIGINT or SIGTERM drains; a second ends at once."""
    logs.configure(run.logs / "orchestrator.log", config.operations, secrets_of(config))
    view = View(config.learner.num_steps)
    view.log(f"run folder {run.path}")
    with run.locked():
        provenance.append(run, config)
        session = Session(run, config, view)
        try:
            event_loop.run(_stoppable(session.work(resumed), view))
        except asyncio.CancelledError:
            view.log(f"stopped; continue with: python -m pipeline.orchestrate train --resume {run.path}")
            return 130
        except (LanpoError, BaseExceptionGroup):
            logging.getLogger(__name__).exception("the run failed")
            view.log(f"the run failed; what it acknowledged is safe: train --resume {run.path}")
            raise
    return 0


async def _stoppable(work: Coroutine[Any, Any, None], view: View) -> None:
    """Run `work`; SIGINT and SIGTERM cancel it once, and its `finally` blocks drain and end the children."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)

    def stop() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        view.log("stopping: the learner finishes its step and saves a checkpoint (a second Ctrl-C ends at once)")
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    await task
