"""The options of `eval`, and the configuration that they, a file and a run folder make."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.commands.setting_options import settings_given
from pipeline.config import Config
from pipeline.config.endpoints import EndpointSettings
from pipeline.config.loading import load_config, merged, read_config_file, validated
from pipeline.errors import ConfigError, RunFolderError
from pipeline.evaluation.benchmarks import HELD_OUT
from pipeline.run.folder import RunFolder

# Option, what it sets (a setting, or a field of the endpoint that --endpoint names), metavar, help.
SETTING_OPTIONS = (
    ("--model", "endpoint.model", "M", "model name there; default: the only one that it serves"),
    ("--api-key-env", "endpoint.api_key_env", "NAME", "environment variable that holds its key"),
    ("--concurrency", "endpoint.max_concurrency", "C", "most requests in flight there (default 128)"),
    ("--prompt-price", "endpoint.prompt_price", "P", "what a million prompt tokens cost there: the report tells costs"),
    ("--completion-price", "endpoint.completion_price", "P", "what a million completion tokens cost there"),
    ("--benchmark", "eval.benchmarks", "A,B", "names, .jsonl files, reasoning_gym:FAMILY; default without --endpoint: "
     f"{HELD_OUT}, the problems held out from training"),
    ("--mode", "eval.modes", "A,B", "zero-shot, retrieval, reflect; default: zero-shot"),
    ("--n", "eval.num_samples", "N", "answers to each problem in each mode: avg@n, pass@k and maj@k (default 1)"),
    ("--limit", "eval.limit", "N", "most problems of a benchmark, a seeded sample; default: all"),
    ("--max-tokens", "eval.max_answer_tokens", "N", "longest answer; default: what the benchmark suggests"),
    ("--temperature", "eval.temperature", "T", "default: 0 for one answer, else 1. Samples of one temperature add up: "
     "give 1 with --n 1 if more are to follow"),
)  # fmt: skip


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that name what is evaluated; one that sets one setting is another name of its option."""
    add = parser.add_argument
    add("--run-folder", type=Path, metavar="RUN", help="the final model of this run, with its configuration")
    add("--endpoint", metavar="URL", help="an endpoint that runs already (`endpoints` names several)")
    for option, name, metavar, meaning in SETTING_OPTIONS:
        add(option, dest=name, action="append", metavar=metavar, help=meaning)
    add(
        "--pool",
        dest="pool_run",
        type=Path,
        metavar="RUN|FILE",
        help="retrieval: the pool of this run, or a file of `pool export`; it is copied, never written; default: that "
        "of --run-folder",
    )
    add("--registry", type=Path, metavar="FILE", help="benchmarks of your own, as in pipeline/problems/benchmarks.toml")
    add("--data", type=Path, metavar="DIR", help="folder of <benchmark>.jsonl files, used in place of the hub")
    add(
        "--judge",
        metavar="URL",
        help="have an LLM judge every answer too; its agreement with labelled answers is shown",
    )
    add("--judge-model", default="", metavar="M", help="its model; default: the only one that it serves")
    add("--judge-key-env", default="", metavar="NAME", help="environment variable that holds its key")
    add("--judge-prompt-price", type=float, default=0.0, metavar="P", help="what a million of its prompt tokens cost")
    add("--judge-completion-price", type=float, default=0.0, metavar="P", help="and a million of its completion tokens")
    add("--compare", type=Path, metavar="DIR", help="compare with the evaluation in this folder, problem by problem")
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of the evaluation; default: evals/<model>. Benchmarks, modes and samples add up there, and are "
        "reported together",
    )
    add("--fresh", action="store_true", help="throw away what the folder holds, and ask everything anew")
    add("--rejudge", action="store_true", help="judge the answers that are kept anew; no request is repeated")
    add("--moved", action="store_true", help="the folder's model is at another address now")


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
            raise RunFolderError(
                f"{arguments.run_folder} has no final model yet; continue it with `train --resume "
                f"{arguments.run_folder}`"
            )
        # The final model is a whole one, whatever the servers of the run were given.
        served = {"model": {"path": str(run.final_model.resolve())}, "learner": {"transfer": "filesystem"}}
        stored = merged(run.config().model_dump(mode="json"), served)
        return Chosen(validated(merged(stored, explicit)), explicit)
    base = {"feedback": _feedback_of(arguments.pool_run)} if arguments.pool_run else {}
    config = load_config(arguments.config, merged(base, explicit))
    explicit = merged(read_config_file(arguments.config), explicit) if arguments.config else explicit
    return Chosen(_of_a_foreign_model(config, explicit) if arguments.endpoint else config, explicit)


def _endpoint_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The endpoint that the options name, as settings. Raises ConfigError."""
    if arguments.run_folder and arguments.endpoint:
        raise ConfigError("--run-folder serves its own model, --endpoint names another; give one of them")
    given = {}
    for option, name, *_ in SETTING_OPTIONS:
        if name.startswith("endpoint.") and (values := vars(arguments)[name]):
            if not arguments.endpoint:
                raise ConfigError(f"{option} {values[-1]} says how --endpoint is asked; name it too")
            given[name.removeprefix("endpoint.")] = values[-1]
    if not arguments.endpoint:
        return {}
    endpoint = {"endpoints": [{"url": arguments.endpoint, **given}]}
    return endpoint if "model" in given else endpoint | {"model": {"name": ""}}


def _feedback_of(source: Path) -> dict[str, Any]:
    """How the run of a pool finds lessons is how they are found for an evaluation, unless told otherwise; a file tells
    nothing."""
    return RunFolder.open(source).config().feedback.model_dump(mode="json") if source.is_dir() else {}


def _of_a_foreign_model(config: Config, explicit: dict[str, Any]) -> Config:
    """An endpoint's model was not trained here: neither the quickstart's problems nor its system message are meant for
    it.

    Raises ConfigError where nothing says what is asked."""
    if "benchmarks" not in explicit.get("eval", {}) and not {"problems", "recipe"} & explicit.keys():
        raise ConfigError(
            f"--endpoint {config.endpoints[0].url}: name what it is asked with --benchmark, for example gsm8k, "
            f"math500, humaneval, a .jsonl file, or {HELD_OUT}, the problems that the recipe {config.recipe!r} holds out"
        )
    if "system_prompt" in explicit.get("rollout", {}):
        return config
    return config.model_copy(update={"rollout": config.rollout.model_copy(update={"system_prompt": ""})})


def judge_of(arguments: argparse.Namespace) -> EndpointSettings | None:
    """The judge that the options name."""
    if not arguments.judge:
        return None
    return EndpointSettings(
        url=arguments.judge,
        model=arguments.judge_model,
        api_key_env=arguments.judge_key_env,
        prompt_price=arguments.judge_prompt_price,
        completion_price=arguments.judge_completion_price,
    )
