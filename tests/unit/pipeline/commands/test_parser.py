"""Every command has a help that is short, and one that is whole; each is dispatched to its function."""

from __future__ import annotations

import argparse

import pytest

from pipeline.commands.parser import COMMANDS, build_parser, run
from pipeline.config.fields import settings
from pipeline.orchestrate import main

WITH_SETTINGS = [name for name, command in COMMANDS.items() if command.settings]
NAMES = {setting.name for setting in settings()}


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main([*arguments])
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_the_commands_that_take_settings() -> None:
    assert WITH_SETTINGS == ["train", "eval", "probe", "grade", "sft", "doctor"]


@pytest.mark.parametrize("command", WITH_SETTINGS)
def test_the_help_shows_the_settings_used_most_with_defaults_and_examples(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(capsys, command, "--help")
    common = set(COMMANDS[command].settings)
    assert common <= NAMES and len(common) <= 13
    listed = {name for name in NAMES if f"\n  --{name} " in text and name not in COMMANDS[command].own}
    assert listed == common
    assert text.count("(default:") == len(common)
    assert "--help-all" in text and "examples:" in text
    assert text.count("\n") < 120


@pytest.mark.parametrize("command", WITH_SETTINGS)
def test_the_whole_help_lists_every_setting_with_its_meaning_and_shows_examples(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(capsys, command, "--help-all")
    assert [name for name in sorted(NAMES) if f"\n  --{name} " not in text] == []
    assert "Seed of everything drawn" in text
    assert "(default: true)" in text and "(must be given)" in text
    assert "\nrollout:\n  --rollout table " in text
    assert "examples:" in text


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - set(WITH_SETTINGS)))
def test_a_command_without_settings_has_no_option_for_one(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, command, "--help")
    assert "examples:" in text
    assert "--help-all" not in text and "--rollout" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--resum", "x"], "train: error: unknown option --resum; did you mean --resume?"),
        (["train", "--dry"], "train: error: unknown option --dry; did you mean --dry-run?"),
        (["eval", "--bench", "gsm8k"], "eval: error: unknown option --bench; did you mean --benchmark?"),
        (["eval", "--pol", "x"], "eval: error: unknown option --pol; did you mean --pool?"),
        (["stress", "--request", "3"], "stress: error: unknown option --request; did you mean --requests?"),
        (["audit", "x", "--judge-modle", "m"], "audit: error: unknown option --judge-modle; did you mean --judge-model?"),
        (["pool", "search", "x", "y", "--nn", "3"], "pool search: error: unknown option --nn"),
        (["pool", "stats", "x", "--versoin", "3"], "pool stats: error: unknown option --versoin; did you mean --version?"),
        (["trian"], "invalid choice: 'trian'"),
        (["--recipe=grpo"], "error: unknown option --recipe"),
        (["train", "--at-step", "3"], "--at-step says where --fork begins"),
        (["train", "--resume", "a", "--fork", "b"], "not allowed with argument --resume"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_ends_with_status_2_and_a_message(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status: object = main(arguments)
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert message in capsys.readouterr().err


def test_options_of_eval_stand_where_sections_would() -> None:
    parsed = build_parser(["eval"]).parse_args(["eval", "--model", "m", "--pool", "p", "--model.path", "q"])
    assert (vars(parsed)["endpoint.model"], str(parsed.pool_run)) == (["m"], "p")
    assert vars(parsed)["model.path"] == ["q"]
    assert "model" not in vars(parsed) and "pool" not in vars(parsed)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_dispatched_to_its_function(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = COMMANDS[name].module
    monkeypatch.setattr(f"{module}.{module.rpartition('.')[2]}_command", lambda arguments: 5)
    assert run(argparse.Namespace(command=name)) == 5


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "--help")
    assert all(command.brief in " ".join(text.split()) for command in COMMANDS.values())
