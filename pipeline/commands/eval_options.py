"""What `eval` and `probe` share: their options, the configuration that these, a file and a run folder make, and how a
session's outcome is shown."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from pydantic import ValidationError

from pipeline.commands.parser import COMMANDS
from pipeline.commands.setting_options import settings_given
from pipeline.config import Config
from pipeline.config.endpoints import EndpointSettings
from pipeline.config.loading import load_config, merged, read_config_file, validated
from pipeline.config.validation import invalid_fields
from pipeline.errors import ConfigError, RunFolderError
from pipeline.evaluation.benchmarks import HELD_OUT
from pipeline.evaluation.model_session import EvalOptions, Outcome
from pipeline.observability.live_view import View
from pipeline.preflight.model_facts import facts_of
from pipeline.run.folder import RunFolder
from pipeline.weights.publishing import REFERENCE, path_of


class Report(Protocol):
    """`failures` counts what could not be had in this session, by kind."""

    @property
    def failures(self) -> dict[str, int]: ...


R = TypeVar("R", bound=Report)


class Chosen(NamedTuple):
    """`explicit` is what the user set, by options or in a file, apart from recipes, runs and defaults."""

    config: Config
    explicit: dict[str, Any]


def chosen(arguments: argparse.Namespace) -> Chosen:
    """The configuration of an evaluation. Raises ConfigError, RunFolderError."""
    explicit = merged(settings_given(arguments), _endpoint_of(arguments))
    if arguments.run_folder is not None:
        run = RunFolder.open(arguments.run_folder)
        if not run.final_model.exists():
            begun = path_of(run, REFERENCE)
            also = f", and --model.path {begun} the one that training began with" if begun.exists() else ""
            raise RunFolderError(
                f"{arguments.run_folder} has no final model yet; continue it with `train --resume "
                f"{arguments.run_folder}`. In place of --run-folder, --model.path {run.config().model.path} names its "
                f"base model{also}"
            )
        # The final model is a whole one, whatever the servers of the run were given.
        served = {"model": {"path": str(run.final_model.resolve())}, "learner": {"transfer": "filesystem"}}
        stored = merged(run.config().model_dump(mode="json"), served)
        return Chosen(validated(merged(stored, explicit)), explicit)
    base = _shown_as(arguments.pool_run) if arguments.pool_run else {}
    config = load_config(arguments.config, merged(base, explicit))
    explicit = merged(read_config_file(arguments.config), explicit) if arguments.config else explicit
    return Chosen(_of_a_foreign_model(config, explicit) if arguments.endpoint else config, explicit)


def _endpoint_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The endpoint that the options name, as settings. Raises ConfigError."""
    if arguments.run_folder and arguments.endpoint:
        raise ConfigError("--run-folder serves its own model, --endpoint names another; give one of them")
    given = {}
    for option, settings in COMMANDS["eval"].options.items():
        name = settings.get("dest", "")
        if name.startswith("endpoint.") and (values := vars(arguments)[name]):
            if not arguments.endpoint:
                raise ConfigError(f"{option} {values[-1]} says how --endpoint is asked; name it too")
            given[name.removeprefix("endpoint.")] = values[-1]
    if not arguments.endpoint:
        return {}
    endpoint = {"endpoints": [{"url": arguments.endpoint, **given}]}
    return endpoint if "model" in given else endpoint | {"model": {"name": ""}}


def _shown_as(source: Path) -> dict[str, Any]:
    """How the run of a pool finds and words lessons is how an evaluation does, unless told otherwise; a file tells
    nothing."""
    if not source.is_dir():
        return {}
    config = RunFolder.open(source).config()
    return {"feedback": config.feedback.model_dump(mode="json"), "rollout": {"templates": config.rollout.templates}}


def _of_a_foreign_model(config: Config, explicit: dict[str, Any]) -> Config:
    """An endpoint's model was not trained here: neither the quickstart's problems nor its system message are meant for
    it.

    Raises ConfigError where nothing says what is asked."""
    if "benchmarks" not in explicit.get("eval", {}) and not {"problems", "recipe"} & explicit.keys():
        raise ConfigError(
            f"--endpoint {config.endpoints[0].url}: name what it is asked with --benchmark, for example gsm8k, "
            f"math500, humaneval, a .jsonl file, or {HELD_OUT}, the problems that the recipe {config.recipe!r} "
            "holds out"
        )
    if "system_prompt" in explicit.get("rollout", {}):
        return config
    return config.model_copy(update={"rollout": config.rollout.model_copy(update={"system_prompt": ""})})


def judge_of(arguments: argparse.Namespace) -> EndpointSettings | None:
    """The judge that the options name. Raises ConfigError."""
    if not arguments.judge:
        return None
    try:
        return EndpointSettings(
            url=arguments.judge,
            model=arguments.judge_model,
            api_key_env=arguments.judge_key_env,
            prompt_price=arguments.judge_prompt_price,
            completion_price=arguments.judge_completion_price,
        )
    except ValidationError as error:
        raise ConfigError("\n".join(f"--judge: {found}" for found in invalid_fields(error))) from None


def of_session(arguments: argparse.Namespace, chosen: Chosen, lessons: Path | None) -> EvalOptions:
    """What a session is given; `lessons` is the run or the file of its pool."""
    return EvalOptions(
        config=chosen.config,
        explicit=chosen.explicit,
        model_name=(arguments.run_folder or Path(chosen.config.model.path)).name,
        registry=arguments.registry,
        data=arguments.data,
        lessons=lessons,
        num_parameters=lambda model: facts_of(model).num_parameters,
        out=arguments.out,
        fresh=arguments.fresh,
        moved=arguments.moved,
    )


def ended(outcome: Outcome[R], page: Callable[[R], str], view: View, what: str, files: str) -> int:
    """Print the report of a session, and return the command's status: 130 where it was stopped, 1 while some of `what`
    it is after could not be had. Raises the failure that ended it early."""
    folder, report, failure, first_failure = outcome
    if report is None:
        return 130
    print(page(report))
    view.log(f"{files} are in {folder.path}")
    if failure is not None:
        raise failure
    if report.failures:
        view.log(f"some {what} could not be had; the first failure: {first_failure}")
    return 1 if report.failures else 0
