"""Renamed settings: a user is told the new name; what was stored under the old one is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config
from pipeline.config.fields import settings
from pipeline.config.loading import load_config, stored_config
from pipeline.config.renamed import CAME_LATER, RENAMED, with_new_names
from pipeline.errors import ConfigError
from pipeline.orchestrate import main
from pipeline.run.folder import RunFolder

OLD_NAMES = {new: old for old, new in RENAMED.items()}
# Another value than the default for each.
VALUES: dict[str, Any] = {"sft.hasty_share": 0.25, "requests.canary_timeout_s": 7.0}


def value_of(config: Config, name: str) -> Any:
    section, _, field = name.rpartition(".")
    return getattr(getattr(config, section), field)


def old_run(root: Path) -> RunFolder:
    """A run folder whose stored configuration has the names of before."""
    run = RunFolder.create(Config.model_validate({"run": {"root": root, "name": "r"}}))
    values = with_new_names(run.config().model_dump(mode="json"), OLD_NAMES)
    for name, value in VALUES.items():
        section, _, field = name.rpartition(".")
        assert field in values[section]
        values[section][field] = value
    run.config_file.write_text(json.dumps(values))
    return run


def test_old_names_are_of_no_setting_and_new_ones_are() -> None:
    names = {setting.name for setting in settings()}
    assert set(VALUES) == set(RENAMED)
    assert names.isdisjoint(RENAMED)
    assert set(RENAMED.values()) <= names
    assert all(old.rpartition(".")[0] == new.rpartition(".")[0] for old, new in RENAMED.items())


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_name_in_a_file_is_an_error_that_names_the_new_one(old: str, tmp_path: Path) -> None:
    section, _, field = old.rpartition(".")
    (tmp_path / "my.toml").write_text(f"[{section}]\n{field} = {VALUES[old]}\n")
    with pytest.raises(ConfigError, match=rf"^{old} = {VALUES[old]}: was renamed; write {RENAMED[old]}$"):
        load_config(tmp_path / "my.toml")


@pytest.mark.parametrize("command", ["train", "eval", "sft", "doctor"])
@pytest.mark.parametrize("old", RENAMED)
def test_an_old_name_on_the_command_line_is_an_error_that_names_the_new_one(
    command: str, old: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in ([f"--{old}", "1"], [f"--{old}=1"]):
        with pytest.raises(SystemExit) as stop:
            main([command, *arguments])
        assert stop.value.code == 2
        assert f"option --{old} was renamed; write --{RENAMED[old]}\n" in capsys.readouterr().err


def test_an_old_name_in_a_section_given_as_json_is_an_error_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--sft", '{"hasty_share": 0.5}', "--dry-run"]) == 2
    assert "sft.hasty_share = 0.5: was renamed; write sft.answer_only_share" in capsys.readouterr().err


def test_a_stored_configuration_is_read_under_its_old_names(tmp_path: Path) -> None:
    run = old_run(tmp_path)
    for config in (run.config(), stored_config(run.config_file), load_config(run.config_file)):
        for old, new in RENAMED.items():
            assert value_of(config, new) == VALUES[old]


@pytest.mark.parametrize("how", ["--config", "--resume", "--fork"])
def test_commands_read_a_stored_configuration_under_its_old_names(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = old_run(tmp_path)
    assert main(["train", how, str(run.config_file if how == "--config" else run.path), "--dry-run"]) == 0
    config = Config.model_validate_json(capsys.readouterr().out)
    for old, new in RENAMED.items():
        assert value_of(config, new) == VALUES[old]


def test_both_names_at_once_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"sft": {"hasty_share": 0.1, "answer_only_share": 0.2}}')
    with pytest.raises(ConfigError, match="was renamed"):
        load_config(tmp_path / "config.json")


def test_names_are_changed_there_and_back_and_nothing_else_is() -> None:
    values = Config().model_dump(mode="json")
    before = with_new_names(values, OLD_NAMES)
    assert before != values == with_new_names(before)
    assert with_new_names({"sft": 3, "recipe": "x"}) == {"sft": 3, "recipe": "x"}


@pytest.mark.parametrize(("name", "meant"), CAME_LATER.items())
def test_what_was_stored_without_a_later_setting_means_what_held_then(name: str, meant: Any, tmp_path: Path) -> None:
    run = old_run(tmp_path)
    assert value_of(run.config(), name) == value_of(Config(), name) != meant, "stored by today's code"
    values = json.loads(run.config_file.read_text())
    section, _, field = name.rpartition(".")
    del values[section][field]
    run.config_file.write_text(json.dumps(values))
    assert value_of(stored_config(run.config_file), name) == meant
