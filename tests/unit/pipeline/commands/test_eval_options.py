"""What the options of `eval` make of recipes, files and runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands.eval_options import Chosen, chosen, judge_of
from pipeline.commands.parser import build_parser
from pipeline.config import Config
from pipeline.config.loading import load_recipe
from pipeline.errors import ConfigError, RunFolderError
from pipeline.evaluation.defaults import MAX_CODE_WORKERS, with_deadlines, with_whole_answers, with_workers
from pipeline.run.folder import RunFolder
from pipeline.weights.publishing import REFERENCE, path_of

ENDPOINT = ("--endpoint", "http://127.0.0.1:8000", "--benchmark", "gsm8k")


def chose(*arguments: str) -> Chosen:
    return chosen(parsed(*arguments))


def parsed(*arguments: str) -> argparse.Namespace:
    return build_parser(["eval"]).parse_args(["eval", *arguments])


def a_run(root: Path, **settings: Any) -> RunFolder:
    config = load_recipe("quickstart")
    config = config.model_copy(update={"run": config.run.model_copy(update={"root": root, "name": "r"}), **settings})
    run = RunFolder.create(config)
    run.final_model.mkdir()
    return run


def test_an_endpoints_model_gets_no_system_message_of_ours() -> None:
    assert chose(*ENDPOINT).config.rollout.system_prompt == ""
    assert chose(*ENDPOINT, "--rollout.system_prompt", "Be brief.").config.rollout.system_prompt == "Be brief."
    assert chose("--benchmark", "gsm8k").config.rollout.system_prompt == "You solve problems."


def test_an_endpoint_is_asked_what_somebody_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"name what it is asked with --benchmark, for example gsm8k"):
        chose(*ENDPOINT[:2])
    assert chose(*ENDPOINT[:2], "--benchmark", "heldout").config.eval.benchmarks == ("heldout",)
    file = tmp_path / "my.toml"
    file.write_text('[problems]\nsource = "jsonl"\ntrain_file = "t.jsonl"\n[rollout]\nsystem_prompt = "Mine."\n')
    config = chose(*ENDPOINT[:2], "--config", str(file)).config
    assert (config.eval.benchmarks, config.rollout.system_prompt) == (("heldout",), "Mine.")


def test_prices_are_of_the_endpoint_that_is_named() -> None:
    (endpoint,) = chose(*ENDPOINT, "--prompt-price", "0.5", "--completion-price", "2").config.endpoints
    assert (endpoint.prompt_price, endpoint.completion_price) == (0.5, 2.0)
    with pytest.raises(ConfigError, match=r"--prompt-price 0\.5 says how --endpoint is asked; name it too"):
        chose("--prompt-price", "0.5")
    judge = judge_of(parsed("--judge", "http://j", "--judge-prompt-price", "3"))
    assert judge is not None
    assert judge.prompt_price == 3.0


@pytest.mark.parametrize(
    ("max_tokens", "attempt_s"), [(64, 600.0), (1024, 600.0), (16384, 1638.4)], ids=["short", "gsm8k", "aime"]
)
def test_a_deadline_leaves_time_for_the_longest_answer(max_tokens: int, attempt_s: float) -> None:
    requests = with_deadlines(*chose(*ENDPOINT), max_tokens).requests
    assert (requests.attempt_timeout_s, requests.timeout_s) == (attempt_s, 2 * attempt_s)


def test_a_deadline_of_the_users_holds(tmp_path: Path) -> None:
    requests = with_deadlines(*chose(*ENDPOINT, "--requests.attempt_timeout_s", "20"), 16384).requests
    assert (requests.attempt_timeout_s, requests.timeout_s) == (20.0, 300.0)
    file = tmp_path / "my.toml"
    file.write_text("[requests]\nattempt_timeout_s = 30.0\ntimeout_s = 40.0\n")
    requests = with_deadlines(*chose(*ENDPOINT, "--config", str(file)), 16384).requests
    assert (requests.attempt_timeout_s, requests.timeout_s) == (30.0, 40.0)
    with pytest.raises(ConfigError, match=r"timeout_s = 700 is less than the 1639 s that one answer of 16384 tokens"):
        with_deadlines(*chose(*ENDPOINT, "--requests.timeout_s", "700"), 16384)


def test_a_runs_deadline_is_for_the_short_answers_of_its_training(tmp_path: Path) -> None:
    chosen_here = chose("--run-folder", str(a_run(tmp_path).path))
    assert chosen_here.config.model.path.endswith("final_model")
    assert with_deadlines(*chosen_here, 16384).requests.attempt_timeout_s == pytest.approx(1638.4)


def test_of_a_run_without_a_final_model_the_models_that_are_there_are_named(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    run.final_model.rmdir()
    with pytest.raises(RunFolderError, match=r"--model\.path embedded names its base model$"):
        chose("--run-folder", str(run.path))
    path_of(run, REFERENCE).mkdir(parents=True)
    with pytest.raises(RunFolderError, match=rf"base model, and --model\.path {path_of(run, REFERENCE)} the one that"):
        chose("--run-folder", str(run.path))


def test_programs_have_several_verifiers() -> None:
    here = chose(*ENDPOINT)
    assert with_workers(*here, programs=False).reward.num_workers == 1
    assert 1 <= with_workers(*here, programs=True).reward.num_workers <= MAX_CODE_WORKERS
    mine = chose(*ENDPOINT, "--reward.num_workers", "3")
    assert with_workers(*mine, programs=True).reward.num_workers == 3


def test_lessons_are_found_as_their_run_finds_them_and_those_of_a_file_by_default(tmp_path: Path) -> None:
    feedback = Config().feedback.model_copy(update={"similarity_threshold": 0.3})
    run = a_run(tmp_path, feedback=feedback)
    assert chose(*ENDPOINT, "--pool", str(run.path)).config.feedback.similarity_threshold == 0.3
    (tmp_path / "lessons.jsonl").write_text("")
    found = chose(*ENDPOINT, "--pool", str(tmp_path / "lessons.jsonl")).config.feedback
    assert found == load_recipe("quickstart").feedback
    with pytest.raises(RunFolderError, match="is no run folder"):
        chose(*ENDPOINT, "--pool", str(tmp_path))


def test_a_critic_sees_the_whole_answer_unless_the_user_says_how_much() -> None:
    """Half of a long answer would be criticised for its hole."""
    of_default, explicit = chose(*ENDPOINT), chose(*ENDPOINT, "--reflection.max_attempt_chars", "500")
    assert with_whole_answers(*of_default).reflection.longest > 10**6
    assert with_whole_answers(*explicit).reflection.max_attempt_chars == 500


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (("--benchmark", "gsm8k, aime25", "--mode", "zero-shot,reflect"), "benchmarks", ("gsm8k", "aime25")),
        (("--mode", "zero-shot,reflect"), "modes", ("zero-shot", "reflect")),
        (("--n", "4"), "num_samples", 4),
        (("--eval.num_samples", "2", "--n", "4"), "num_samples", 4),
        (("--limit", "7"), "limit", 7),
        (("--max-tokens", "9"), "max_answer_tokens", 9),
        (("--temperature", "0.5"), "temperature", 0.5),
    ],
)
def test_an_option_that_sets_one_setting_is_its_other_name(arguments: tuple[str, ...], name: str, value: Any) -> None:
    assert getattr(chose(*arguments).config.eval, name) == value


def test_a_value_that_an_option_cannot_have_names_the_setting() -> None:
    with pytest.raises(ConfigError, match=r"eval.num_samples = 'many': input should be a valid integer"):
        chose("--n", "many")


@pytest.mark.parametrize("option", ["--judge-prompt-price", "--judge-completion-price"])
@pytest.mark.parametrize("price", ["-1", "nan"])
def test_a_price_that_a_judge_cannot_have_is_named(option: str, price: str) -> None:
    arguments = build_parser(["eval"]).parse_args(
        ["eval", *ENDPOINT, "--judge", "http://127.0.0.1:9", f"{option}={price}"]
    )
    with pytest.raises(ConfigError, match=rf"--judge: {option[8:].replace('-', '_')} = {price}"):
        judge_of(arguments)
