"""Bad configuration gets a message that names the field, the value and the remedy; exit status 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.loading import load_config, load_recipe, recipe_names
from pipeline.config.rollout import RewardSection
from pipeline.config.root import Config
from pipeline.errors import ConfigError
from pipeline.orchestrate import main
from pipeline.problems.dataset import load_problems
from pipeline.rewards.code.preflight import check_code


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[rollout]\ngroup_siz = 3", r"rollout.group_siz = 3: unknown setting; did you mean rollout.group_size\?"),
        ("[learner]\nkl_coef = -1.0", r"learner.kl_coef = -1.0: input should be greater than or equal to 0"),
        ("[feedback]\nratio = [[3, 0.1], [1, 0.2]]", r"(?s)feedback.ratio.*steps ascending"),
        ("[feedback]\nratio = [[0, 0.5], [9, 0.1]]\nend_ratio = 0.0", r"set feedback.ratio to a number, or leave out"),
        ("[feedback]\nend_ratio = 1.5", r"feedback.end_ratio = 1.5: input should be less than or equal to 1"),
        ("[learner]\nkl_coef = [[100, 0.1], [0, 0.0]]", r"(?s)learner.kl_coef.*steps ascending"),
        ("[learner]\nkl_coef = []", r"(?s)learner.kl_coef.*at least one"),
        ('[learner]\nattention = "flash_attention_2"', r"(?s)learner.*16 bits only.*bf16_autocast"),
        ("[rollout.sampling]\ntemperature = 0.0", r"rollout.sampling.temperature = 0"),
        ("[learner]\npublish_every = 4", r"raise rollout.max_staleness to 3"),
        ("[eval]\nnum_problems = 9999", r"eval.num_problems = 9999 exceeds problems.num_heldout"),
        (
            "[problems]\nfamilies = [{nam = 'x'}]",
            r"problems.families.0.nam = 'x': unknown setting",
        ),
        ("[lerner]\nnum_steps = 3", r"lerner = {'num_steps': 3}: unknown setting; did you mean learner\?"),
        ("[learner]\nzzz = 3", r"learner.zzz = 3: unknown setting; `train --help-all` lists them all"),
        ("[sft.teacher]\nmodel = 'm'", r"sft.teacher.url: Field required; it has no default"),
        ("recipe = 'qickstart'", r"recipe = 'qickstart': no such recipe; did you mean quickstart\?"),
        ("[learner\n", r"not valid TOML"),
    ],
)
def test_a_bad_file_names_field_value_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "my.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(file)


def write(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8")
    return file


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file"):
        load_config(tmp_path / "nowhere.toml")


def test_the_command_line_overrides_the_file_which_overrides_the_defaults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "my.toml"
    file.write_text("[rollout]\ngroup_size = 4\nnum_problems_per_step = 2\n")
    assert main(["train", "--config", str(file), "--rollout.group_size", "16", "--dry-run"]) == 0
    resolved = Config.model_validate_json(capsys.readouterr().out)
    assert (resolved.rollout.group_size, resolved.rollout.num_problems_per_step) == (16, 2)
    assert resolved.recipe == "my"


@pytest.mark.parametrize(("value", "expected"), [("0.5", 0.5), ("[[0, 0.1], [10, 0.5]]", ((0, 0.1), (10, 0.5)))])
def test_a_ratio_on_the_command_line_is_a_number_or_a_schedule(
    value: str, expected: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--feedback.ratio", value, "--dry-run"]) == 0
    assert Config.model_validate_json(capsys.readouterr().out).feedback.ratio == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--rollout.grup_size", "3"], "did you mean --rollout.group_size?"),
        (["train", "--learner.num_steps", "many", "--dry-run"], "learner.num_steps = 'many'"),
        (["train", "--recipe", "nothing"], "no such recipe"),
        (["trian"], "invalid choice"),
        (["train", "--resume", "no-such-run"], "no-such-run is no run folder"),
        (["eval", "--run-folder", "no-such-run"], "no-such-run is no run folder"),
        (
            ["train", "--model.path", "./no-such-folder", "--run.root", "{tmp}"],
            "model.path = './no-such-folder': no such folder",
        ),
    ],
)
def test_bad_arguments_end_with_status_2_and_a_message(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main([argument.replace("{tmp}", str(tmp_path)) for argument in arguments])
    except SystemExit as stop:
        status = int(stop.code or 0)
    assert status == 2
    assert message in capsys.readouterr().err


def test_there_are_recipes() -> None:
    assert {"quickstart", "grpo", "code-quickstart"} <= set(recipe_names())


def test_the_code_quickstart_asks_for_programs_only() -> None:
    recipe = load_recipe("code-quickstart")
    problems = load_problems(recipe.problems, recipe.run.seed)
    assert (len(problems.train), len(problems.heldout)) == (recipe.problems.num_train, recipe.problems.num_heldout)
    assert {task.problem.form for task in problems.train + problems.heldout} == {"code"}
    check_code(recipe.model_copy(update={"reward": RewardSection(scorer="my:scorer")}), problems.train)


def test_the_recipe_with_a_judge_of_relevance_differs_from_the_quickstart_in_feedback_alone() -> None:
    quickstart, judge = (load_recipe(name) for name in ("quickstart", "relevance-judge"))
    assert judge.model_copy(update={"recipe": "quickstart", "feedback": quickstart.feedback}) == quickstart
    assert judge.feedback.similarity == "judge"
    assert judge.feedback.similarity_endpoint in judge.named_endpoints


def test_a_file_extends_recipes_and_other_files_and_what_is_nearer_wins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shared").mkdir()
    write(tmp_path / "shared" / "base.toml", "extends = 'grpo'\n[rollout]\ngroup_size = 4\nnum_problems_per_step = 2")
    write(tmp_path / "my.toml", "extends = 'shared/base.toml'\n[rollout]\ngroup_size = 6\n[learner]\nnum_steps = 3")
    assert main(["train", "--config", str(tmp_path / "my.toml"), "--learner.num_steps", "9", "--dry-run"]) == 0
    grpo, resolved = load_recipe("grpo"), Config.model_validate_json(capsys.readouterr().out)
    changes = {
        "rollout": grpo.rollout.model_copy(update={"group_size": 6, "num_problems_per_step": 2}),
        "learner": grpo.learner.model_copy(update={"num_steps": 9}),
    }
    assert resolved == grpo.model_copy(update=changes)
    assert resolved.recipe == "grpo"


def test_a_file_that_extends_a_recipe_is_one_that_names_it_as_its_recipe(tmp_path: Path) -> None:
    extends = write(tmp_path / "a.toml", "extends = 'grpo'\n[run]\nseed = 3")
    names = write(tmp_path / "b.toml", "recipe = 'grpo'\n[run]\nseed = 3")
    assert load_config(extends) == load_config(names)
    assert load_config(extends, {"recipe": "operators"}) == load_config(names, {"recipe": "operators"})


def test_a_file_that_extends_files_alone_is_over_the_defaults(tmp_path: Path) -> None:
    write(tmp_path / "base.toml", "[rollout]\ngroup_size = 4")
    config = load_config(write(tmp_path / "my.toml", "extends = './base.toml'"))
    assert config == Config.model_validate({"recipe": "my", "rollout": {"group_size": 4}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends = 'qickstart'", r"my\.toml: extends = 'qickstart': no such recipe; did you mean quickstart\?"),
        ("extends = 'nowhere.toml'", r"my\.toml → .*nowhere\.toml: No such file"),
        ("extends = 3", r"my\.toml: extends = 3: give one recipe by its name, or a file by its path"),
        ("extends = ['grpo', 'operators']", r"give one recipe by its name"),
        ("extends = 'my.toml'", r"my\.toml → .*my\.toml: files that extend one another in a circle; leave out one"),
        ("extends = 'other.toml'", r"my\.toml → .*other\.toml → .*my\.toml: files that extend one another in a circle"),
        ("extends = 'grpo'\nrecipe = 'operators'", r"recipe = 'operators' and extends = 'grpo' both say"),
        ("extends = 'wrong.toml'", r"my\.toml → .*wrong\.toml: not valid TOML"),
        ("[rollout]\nextends = 'grpo'", r"rollout\.extends = 'grpo': unknown setting"),
    ],
)
def test_what_cannot_be_extended_is_named(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path / "other.toml", "extends = './my.toml'")
    write(tmp_path / "wrong.toml", "[rollout")
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path / "my.toml", text))


@pytest.mark.parametrize(
    ("extended", "message"),
    [
        ("b", r"recipes extend one another in a circle: a → b → a; leave out one"),
        ("c", r"recipe a: extends = 'c': no such recipe; there are a, b"),
        ("b.toml", r"recipe a: extends = 'b\.toml': no such recipe"),
    ],
)
def test_recipes_that_cannot_be_extended_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extended: str, message: str
) -> None:
    monkeypatch.setattr("pipeline.config.loading.RECIPES", tmp_path)
    write(tmp_path / "a.toml", f"extends = '{extended}'")
    write(tmp_path / "b.toml", "extends = 'a'")
    with pytest.raises(ConfigError, match=message):
        load_recipe("a")


def test_endpoints_that_run_elsewhere_are_waited_for_as_long_as_requests_wait() -> None:
    assert Config().server_patience_s == Config().servers.startup_timeout_s
    elsewhere = Config.model_validate({"endpoints": [{"url": "http://127.0.0.1:1"}]})
    assert elsewhere.server_patience_s == elsewhere.requests.max_outage_s
