"""`sft`: make the pairs, built in and a teacher's, train on them in the trainer's process, cache the result by the hash
of its inputs."""

from __future__ import annotations

import argparse
import asyncio
import shutil
from pathlib import Path
from typing import Any

from pipeline.commands.model_out import check_out, copied
from pipeline.commands.setting_options import settings_given
from pipeline.config import Config
from pipeline.config.loading import load_config, merged
from pipeline.errors import ConfigError, UserError
from pipeline.inference.local_servers import resolve_model
from pipeline.observability.live_view import View
from pipeline.preflight.settled import settled
from pipeline.problems.dataset import load_problems
from pipeline.run.folder import RunFolder
from pipeline.runtime import event_loop
from pipeline.runtime.files import write_atomic
from pipeline.sft.seeding import demanded
from pipeline.sft.stage import seeded_model

OPTION_OF = {"model": "--teacher-model", "api_key_env": "--teacher-key-env", "n": "--n"}


def teacher_of(parsed: argparse.Namespace) -> dict[str, Any]:
    """The teacher's options as settings. Raises ConfigError for an option without a teacher."""
    options = {"model": parsed.teacher_model, "api_key_env": parsed.teacher_key_env, "n": parsed.n}
    if parsed.teacher is None:
        if given := [OPTION_OF[name] for name, value in options.items() if value]:
            raise ConfigError(f"{given[0]} says something of a teacher; name it with --teacher URL")
        return {}
    teacher = {"url": parsed.teacher, **{name: options[name] for name in ("model", "api_key_env") if options[name]}}
    return {"sft": {"teacher": teacher, **({"num_teacher_pairs": parsed.n} if parsed.n else {})}}


def sft_command(arguments: argparse.Namespace) -> int:
    """Seed the skills and show where the model is."""
    config = load_config(arguments.config, merged(settings_given(arguments), teacher_of(arguments)))
    if arguments.out is not None:
        check_out(arguments.out)
    view = View(0, live=False)
    name = config.run.name or f"sft-{config.recipe}-{config.sft.seed}"
    run = RunFolder.create(
        config.model_copy(update={"run": config.run.model_copy(update={"name": _unused(config, name)})})
    )

    async def work() -> Path:
        try:
            model = await resolve_model(config, run, view.log)
            packages = config.reward.code.packages
            problems = await asyncio.to_thread(load_problems, config.problems, config.sft.seed, packages)
            found = await asyncio.to_thread(settled, demanded(config), model, problems.train)
        except UserError:
            shutil.rmtree(run.path, ignore_errors=True)  # made a moment ago, and of no use to anybody
            raise
        for line in found.lines:
            view.log(line)
        write_atomic(run.config_file, found.config.model_dump_json(indent=2))
        folder, report = await seeded_model(found.config, run, model, view.log, problems)
        view.log(f"SFT seeding done: {report}")
        return folder

    folder = event_loop.run(work())
    if arguments.out is not None:
        folder = copied(folder, arguments.out)
    view.log(f'load it with: transformers.AutoModelForCausalLM.from_pretrained("{folder}")')
    return 0


def _unused(config: Config, name: str) -> str:
    number = 1
    while (config.run.root / (candidate := f"{name}-{number}")).exists():
        number += 1
    return candidate
