"""What the command line says of settings is what the configuration gets, and options are exact."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.commands.parser import build_parser
from pipeline.commands.setting_options import settings_given
from pipeline.config import Config
from pipeline.config.loading import load_config, load_recipe
from pipeline.errors import ConfigError

ENDPOINT = {"max_concurrency": 128, "model": "", "api_key_env": "", "prompt_price": 0.0, "completion_price": 0.0}
ENDPOINT |= {"packs_weights": False}


def given(*arguments: str, command: str = "train") -> dict[str, Any]:
    return settings_given(build_parser([command]).parse_args([command, *arguments]))


def config_of(*arguments: str) -> Config:
    return load_config(None, given(*arguments))


# Command line, setting, value of it in the configuration.
ACCEPTED: list[tuple[list[str], str, Any]] = [
    (["--rollout.group_size", "16"], "rollout.group_size", 16),
    (["--rollout.group_size=16"], "rollout.group_size", 16),
    (["--rollout.group_size=16", "--rollout.group_size=4"], "rollout.group_size", 4),
    (["--learner.num_steps", "1_000"], "learner.num_steps", 1000),
    (["--learner.num_steps", " 10 "], "learner.num_steps", 10),
    (["--run.seed", "1.0"], "run.seed", 1),
    (["--learner.learning_rate", "1e-5"], "learner.learning_rate", 1e-5),
    (["--servers.dtype", "bfloat16"], "servers.dtype", "bfloat16"),
    (["--run.root", "/x/y"], "run.root", "/x/y"),
    (["--recipe", "grpo"], "recipe", "grpo"),
    # Booleans.
    *((["--sft.enabled", word], "sft.enabled", False) for word in ("false", "False", "0", "no", "off")),
    *((["--sft.enabled", word], "sft.enabled", True) for word in ("true", "True", "1", "yes", "on")),
    (["--sft.enabled", "auto"], "sft.enabled", "auto"),
    (["--sft.enabled", "false", "--sft.enabled", "true"], "sft.enabled", True),
    # Text is text, whatever it looks like.
    *((["--rollout.system_prompt", text], "rollout.system_prompt", text) for text in ("", "a b", '"a"', "[1]", "true")),
    *((["--rollout.system_prompt", text], "rollout.system_prompt", text) for text in ("none", "a,b", '{"a":1}', "12")),
    (["--rollout.system_prompt=-x"], "rollout.system_prompt", "-x"),
    (["--run.name", ""], "run.name", ""),
    # None where it may be.
    *((["--eval.limit", word], "eval.limit", None) for word in ("none", "null", "None")),
    (["--eval.limit", "5", "--eval.limit", "null"], "eval.limit", None),
    (["--eval.limit", "5"], "eval.limit", 5),
    (["--eval.temperature", "0.5"], "eval.temperature", 0.5),
    (["--servers.canary_tolerance", "null"], "servers.canary_tolerance", None),
    # Schedules.
    (["--feedback.ratio", "0.5"], "feedback.ratio", 0.5),
    (["--feedback.ratio", "[0.3]"], "feedback.ratio", 0.3),
    (["--feedback.ratio", "[[0,0.1],[10,0.9]]"], "feedback.ratio", [[0, 0.1], [10, 0.9]]),
    (["--feedback.ratio", "[[0,0.1]]", "--feedback.ratio", "[[10,0.6]]"], "feedback.ratio", [[0, 0.1], [10, 0.6]]),
    (["--learner.kl_coef", "0"], "learner.kl_coef", 0.0),
    # Lists.
    (["--servers.gpu_ids", "0"], "servers.gpu_ids", ["0"]),
    (["--servers.gpu_ids", "0,1"], "servers.gpu_ids", ["0", "1"]),
    (["--servers.gpu_ids", "0, 1"], "servers.gpu_ids", ["0", "1"]),
    (["--servers.gpu_ids", '0,"1,2"'], "servers.gpu_ids", ["0", "1,2"]),
    (["--servers.gpu_ids", '"0,1"'], "servers.gpu_ids", ["0,1"]),
    (["--servers.gpu_ids", '["0,1","2,3"]'], "servers.gpu_ids", ["0,1", "2,3"]),
    (["--servers.gpu_ids", "[0,1]"], "servers.gpu_ids", ["0", "1"]),
    (["--servers.gpu_ids", "0", "--servers.gpu_ids", "1"], "servers.gpu_ids", ["0", "1"]),
    (["--servers.gpu_ids", '["0"]', "--servers.gpu_ids", "1"], "servers.gpu_ids", ["0", "1"]),
    (["--servers.gpu_ids", "[]"], "servers.gpu_ids", []),
    (["--servers.gpu_ids", ""], "servers.gpu_ids", [""]),
    (["--servers.extra_args=--x,y"], "servers.extra_args", ["--x", "y"]),
    (["--servers.extra_args", '["--x","y"]'], "servers.extra_args", ["--x", "y"]),
    (["--eval.modes", "zero-shot,retrieval"], "eval.modes", ["zero-shot", "retrieval"]),
    (["--learner.lora.target_modules", "q_proj"], "learner.lora.target_modules", ["q_proj"]),
    # Lists of tables.
    (["--endpoints", '[{"url":"http://a"},{"url":"http://b"}]'], "endpoints.url", ["http://a", "http://b"]),
    (["--endpoints", '{"url":"http://a"},{"url":"http://b"}'], "endpoints.url", ["http://a", "http://b"]),
    (["--endpoints", '{"url":"http://a"}', "--endpoints", '{"url":"http://b"}'], "endpoints.url", ["http://a", "http://b"]),
    (["--problems.families", '[{"name":"chain_sum","params":{"min_terms":2}}]'], "problems.families.params", [{"min_terms": 2}]),
    # Free-form tables.
    (["--rollout.chat_template_kwargs", '{"a": {"b": [1]}}'], "rollout.chat_template_kwargs", {"a": {"b": [1]}}),
    (["--rollout.chat_template_kwargs", "a=1,b=x"], "rollout.chat_template_kwargs", {"a": "1", "b": "x"}),
    (
        ["--rollout.chat_template_kwargs", "a=1", "--rollout.chat_template_kwargs", '{"b": true}'],
        "rollout.chat_template_kwargs", {"a": "1", "b": True},
    ),
    # Sections as a whole; what is said of one field wins, wherever it stands.
    (["--rollout", '{"group_size": 4}'], "rollout.group_size", 4),
    (["--rollout", '{"group_size": 4}', "--rollout", '{"max_refills": 3}'], "rollout.group_size", 8),
    (["--rollout", '{"sampling": {"top_k": 4}}'], "rollout.sampling.top_k", 4),
    (["--rollout.sampling", '{"top_k": 4}', "--rollout.sampling.top_p", "0.5"], "rollout.sampling.top_k", 4),
    (["--rollout", '{"group_size": 4}', "--rollout.group_size", "2"], "rollout.group_size", 2),
    (["--rollout.group_size", "2", "--rollout", '{"group_size": 4}'], "rollout.group_size", 2),
    (["--learner.lora", '{"rank": 8}'], "learner.lora.rank", 8),
    (["--model", '{"path": "p"}', "--model.name", "m"], "model", {"path": "p", "name": "m"}),
    # Sections that need not be there.
    (["--sft.teacher.url", "http://t"], "sft.teacher", {**ENDPOINT, "url": "http://t"}),
    (["--sft.teacher", '{"url":"http://t"}', "--sft.teacher.model", "m"], "sft.teacher", {**ENDPOINT, "url": "http://t", "model": "m"}),
    (["--sft.teacher", "null"], "sft.teacher", None),
    (["--abstraction.endpoint.url", "http://t"], "abstraction.endpoint", {**ENDPOINT, "url": "http://t"}),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "name", "expected"), ACCEPTED, ids=lambda value: repr(value)[:60])
def test_a_value_is_read_as_it_is_written(arguments: list[str], name: str, expected: Any) -> None:
    value: Any = config_of(*arguments).model_dump(mode="json")
    for part in name.split("."):
        value = [item[part] for item in value] if isinstance(value, list) else value[part]
    assert value == expected


def test_what_is_not_said_is_the_recipes() -> None:
    assert given() == {}
    assert config_of() == load_recipe("quickstart")


def test_a_name_says_the_section_of_its_value() -> None:
    assert given("--rollout.sampling.top_k", "4", "--run.seed=1") == {
        "run": {"seed": "1"},
        "rollout": {"sampling": {"top_k": "4"}},
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learner.num_steps", "many"], "learner.num_steps = 'many': input should be a valid integer"),
        (["--learner.num_steps", "1e3"], "learner.num_steps = '1e3': input should be a valid integer"),
        (["--sft.enabled", "maybe"], "sft.enabled = 'maybe': use 'auto', true or false"),
        (["--learner.kl_coef=-1e-3"], "learner.kl_coef = '-1e-3': input should be greater than or equal to 0"),
        (["--feedback.ratio", "0.1,0.2"], "feedback.ratio = ['0.1', '0.2']: input should be a valid number"),
        (["--feedback.ratio", "[[3,0.1],[1,0.2]]"], "steps ascending"),
        (["--servers.dtype", "bf"], "servers.dtype = 'bf': input should be 'float32', 'bfloat16', 'float16' or 'auto'"),
        (["--sft.teacher.model", "m"], "sft.teacher.url: Field required; it has no default"),
        (["--rollout", '{"group_siz": 4}'], "rollout.group_siz = 4: unknown setting; did you mean rollout.group_size?"),
        (["--rollout", "[1]"], "rollout = [1]: input should be a valid dictionary"),
        (["--rollout", "{"], "--rollout {: not valid JSON: "),
        (["--servers.gpu_ids", "[abc"], "--servers.gpu_ids [abc: not valid JSON: "),
        (["--servers.gpu_ids", "[true]"], "servers.gpu_ids.0 = True: input should be a valid string"),
        (["--endpoints", "http://a"], "endpoints.0 = 'http://a': input should be a valid dictionary"),
        (["--rollout.chat_template_kwargs", "x"], "--rollout.chat_template_kwargs x: give a table as JSON"),
        (["--sft", "null"], "sft = None: input should be a valid dictionary"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_read_names_the_setting(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_of(*arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize("command", ["train", "eval", "sft", "doctor"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learner.lr", "1e-3"], "unknown option --learner.lr; did you mean --learner.learning_rate?"),
        (["--learner.lr=1e-3"], "unknown option --learner.lr; did you mean --learner.learning_rate?"),
        (["--rollout.group", "4"], "unknown option --rollout.group; did you mean --rollout.group_size?"),
        (["--rollout.group-size", "4"], "unknown option --rollout.group-size; did you mean --rollout.group_size?"),
        (["--rollout.temperature", "1"], "unknown option --rollout.temperature; did you mean --rollout.sampling.temperature?"),
        (["--group_size", "1"], "unknown option --group_size; did you mean --rollout.group_size?"),
        (["--rec", "grpo"], "unknown option --rec; did you mean --recipe?"),
        (["--conf", "x.toml"], "unknown option --conf; did you mean --config?"),
        (["--recipe", "grpo", "x"], "unexpected argument 'x'"),
        (["--nothing"], "unknown option --nothing\n"),
        (["--learner.kl_coef", "-1e-3"], "expected one argument (a value that begins with - is written --option=VALUE)"),
    ],
)  # fmt: skip
def test_options_are_exact_and_an_unknown_one_is_answered_with_the_nearest(
    command: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        given(*arguments, command=command)
    assert stop.value.code == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.startswith(f"python -m pipeline.orchestrate {command}: error: ")
