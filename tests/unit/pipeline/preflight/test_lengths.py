"""Lengths that a configuration leaves open: derived from model, problems and memory, so that they fit."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config
from pipeline.config.fields import settings
from pipeline.config.loading import load_recipe, recipe_names
from pipeline.errors import ConfigError
from pipeline.preflight import lengths as estimates
from pipeline.preflight.lengths import LEAST_COMPLETION, OPEN_LENGTHS, Memory, lengths, with_lengths
from pipeline.preflight.model_facts import ModelFacts, facts_of
from pipeline.preflight.settled import OPEN, settled, without_open
from pipeline.problems.rows import Row
from pipeline.problems.tasks import parse_row
from pipeline.run.resume import check_resume_config
from pipeline.runtime import hardware
from pipeline.runtime.files import flat
from pipeline.types import Task

GIB = 2**30
SMOLLM2 = {
    "hidden_size": 576, "num_attention_heads": 9, "num_key_value_heads": 3, "num_hidden_layers": 30,
    "intermediate_size": 1536, "max_position_embeddings": 8192, "dtype": "bfloat16",
}  # fmt: skip


def words(text: str) -> int:
    return len(text.split())


def facts(**values: Any) -> ModelFacts:
    """Of a model like the embedded one, whose tokens are words."""
    usual = {
        "context": 8192, "num_parameters": 135_000_000, "num_layers": 30, "kv_values": 11_520, "layer_values": 15_168,
    }  # fmt: skip
    return ModelFacts(words, **(usual | values))


def tasks(num_words: int = 30, num_solution: int = 0) -> list[Task]:
    solution = {"solution": "and " * (num_solution - 1) + "\\boxed{7}"} if num_solution else {}
    row = Row("rows, line 1", {"question": "why " * num_words, "answer": "7", **solution})
    return [parse_row(row).task("p", "train")]


def derived(config: Config, of: ModelFacts, memory: Memory, problems: list[Task], served: int | None = None) -> Any:
    return {length.setting: length.value for length in lengths(config, of, memory, problems, served)}


PLENTY = Memory(learner=500 * GIB, cache=50 * GIB)


def test_what_is_left_open_by_default_is_what_is_derived_and_a_number_afterwards() -> None:
    assert {s.name for s in settings() if s.default is None and s.name in OPEN_LENGTHS} == OPEN_LENGTHS
    found = lengths(Config(), facts(), PLENTY, tasks())
    assert {length.setting for length in found} == OPEN_LENGTHS
    assert lengths(with_lengths(Config(), found), facts(), PLENTY, tasks()) == []


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_state_their_own_lengths(name: str) -> None:
    recipe = load_recipe(name)
    left = {length.setting for length in lengths(recipe, facts(), PLENTY, tasks())}
    assert left <= {"sft.num_tokens_per_micro_batch"}, "no result depends on it"


@pytest.mark.parametrize(
    ("of", "memory", "problems", "completion"),
    [
        (facts(), PLENTY, tasks(), 1024),
        (facts(), PLENTY, tasks(num_solution=300), 592),
        (facts(), PLENTY, tasks(num_solution=5), LEAST_COMPLETION),
        (facts(), PLENTY, tasks(num_solution=2000), 3984),
        (facts(context=2048), PLENTY, tasks(num_words=400), 720),
        (facts(context=1024), PLENTY, tasks(), 400),
        (facts(context=2048), PLENTY, tasks(num_words=20_000), 512),
        (facts(context=None), PLENTY, tasks(), 1024),
        # 8 rollouts of 1,024 tokens would take 14 GiB beside 2.5 GiB of states.
        (facts(), Memory(8 * GIB, GIB), tasks(), 368),
        (facts(), Memory(3 * GIB, GIB), tasks(), LEAST_COMPLETION),
        (facts(num_parameters=None), Memory(GIB, GIB), tasks(), 1024),
    ],
)
def test_completions_suit_solutions_context_and_memory(
    of: ModelFacts, memory: Memory, problems: list[Task], completion: int
) -> None:
    assert derived(Config(), of, memory, problems)["rollout.sampling.max_tokens"] == completion


def test_what_is_computed_anew_leaves_memory_for_longer_completions() -> None:
    memory = Memory(8 * GIB, GIB)
    found = [
        derived(Config.model_validate({"learner": {"gradient_checkpointing": how}}), facts(), memory, tasks())
        for how in (False, "cheap", True)
    ]
    assert [lengths["rollout.sampling.max_tokens"] for lengths in found] == [368, 640, 1024]


def test_what_is_trained_in_two_views_halves_the_completions_that_fit() -> None:
    learners: tuple[dict[str, Any], ...] = ({}, {"train_under": "scratch", "sampled_weight": 0.5})
    one, two = (
        derived(Config.model_validate({"learner": learner}), facts(), Memory(12 * GIB, GIB), tasks())
        for learner in learners
    )
    assert two["rollout.sampling.max_tokens"] < one["rollout.sampling.max_tokens"]


def test_what_is_given_stays_and_the_rest_follows_it() -> None:
    config = Config.model_validate({"rollout": {"sampling": {"max_tokens": 200}}, "sft": {"enabled": False}})
    found = derived(config, facts(), PLENTY, tasks())
    assert found == {
        "eval.max_tokens": 200, "abstraction.max_tokens": 416, "servers.max_model_len": 1104,
        "reflection.max_attempt_chars": 2000, "abstraction.max_trajectory_chars": 4000,
    }  # fmt: skip
    elsewhere = Config.model_validate({"endpoints": [{"url": "http://127.0.0.1:1"}]})
    found = derived(elsewhere, facts(), PLENTY, tasks(), 1000)
    assert "servers.max_model_len" not in found, "their own is asked of them"
    assert found["rollout.sampling.max_tokens"] == 384


def test_attempts_are_shown_whole_as_far_as_the_context_allows() -> None:
    long = Config.model_validate({"rollout": {"sampling": {"max_tokens": 4096}, "templates": "full"}})
    for context, attempt, trajectory in ((32_768, 6 * 4096, 6 * 4096), (8192, 3 * 3756, 3 * 5948), (1024, 2000, 4000)):
        found = derived(long, facts(context=context), PLENTY, tasks())
        assert found["reflection.max_attempt_chars"] == attempt
        assert found["abstraction.max_trajectory_chars"] == trajectory


@pytest.mark.parametrize(
    ("num_parameters", "context", "served", "templates"),
    [
        (135_000_000, 8192, None, "compact"),
        (7_000_000_000, 32_768, None, "full"),
        (7_000_000_000, 32_768, 4096, "compact"),
        (7_000_000_000, 4096, 32_768, "compact"),
        (None, 32_768, None, "full"),
    ],
)
def test_templates_and_sizes_suit_the_model(
    monkeypatch: pytest.MonkeyPatch, num_parameters: int | None, context: int, served: int | None, templates: str
) -> None:
    of = facts(num_parameters=num_parameters, context=context)
    monkeypatch.setattr("pipeline.preflight.settled.facts_of", lambda model: of)
    monkeypatch.setattr(Memory, "here", lambda config, facts: PLENTY)
    config, lines = settled(Config(), Path("model"), tasks(), served)
    assert config.rollout.templates == templates
    assert any(line.startswith(f"rollout.templates = {templates!r}: ") for line in lines)
    assert config.abstraction.flow_chars == (800 if templates == "full" else 200)
    assert config.abstraction.critique_chars == (2000 if templates == "full" else 240)
    named = Config.model_validate({"rollout": {"templates": "compact"}, "abstraction": {"flow_chars": 300}})
    found = settled(named, Path("model"), tasks(), served).config
    assert (found.rollout.templates, found.abstraction.flow_chars) == ("compact", 300)


def test_a_small_cache_bounds_the_context() -> None:
    # At 11,520 float32 numbers a token.
    found = derived(Config(), facts(), Memory(500 * GIB, 0.1 * GIB), tasks())
    assert found["servers.max_model_len"] == 2272
    found = derived(Config(), facts(), Memory(500 * GIB, 0.05 * GIB), tasks())
    assert found["servers.max_model_len"] == 1152


def test_pairs_fit_memory_one_by_one_and_together() -> None:
    found = derived(Config(), facts(), Memory(4 * GIB, GIB), tasks(num_solution=1000))
    assert found["sft.max_length"] == found["sft.num_tokens_per_micro_batch"] == 1168
    found = derived(Config(), facts(), PLENTY, tasks(num_solution=100))
    assert found["sft.num_tokens_per_micro_batch"] == 4096


def test_whatever_is_derived_is_valid_and_fits_the_context() -> None:
    rng = random.Random(30)
    for _ in range(300):
        config = Config.model_validate({"rollout": {"group_size": rng.choice([2, 8, 16])}})
        of = facts(context=rng.choice([None, 512, 2048, 8192, 131_072]))
        memory = Memory(rng.uniform(0, 80) * GIB, rng.uniform(0.05, 40) * GIB)
        problems = tasks(rng.randint(1, 3000), rng.choice([0, 3, 50, 700]))
        made = with_lengths(config, lengths(config, of, memory, problems))
        completion = made.rollout.sampling.max_tokens
        assert completion is not None and completion >= LEAST_COMPLETION and made.eval.max_tokens == completion
        for bound in (made.servers.max_model_len, made.sft.max_length):
            assert bound is not None and (of.context is None or bound <= of.context)
        assert lengths(made, of, memory, problems) == []


def test_memory_is_what_the_servers_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "gpu_memory", lambda: 0)
    monkeypatch.setattr(estimates, "free_memory", lambda: 20 * GIB)
    config = Config.model_validate({"servers": {"kv_cache_gib": 2.0, "num_servers": 2}})
    of = facts(num_parameters=GIB // 4)
    # 80 % of 20, less two servers with 1 of weights, 2 of cache and 2 of their own each, and 2 of the learner's own.
    assert Memory.here(config, of) == (4 * GIB, 2 * GIB)
    elsewhere = Config.model_validate({"endpoints": [{"url": "http://127.0.0.1:1"}]})
    assert Memory.here(elsewhere, of).learner == 14 * GIB

    monkeypatch.setattr(estimates, "gpu_memory", lambda: 100 * GIB)
    for gpus, named, share in ((1, config, 0.1), (2, config, 0.8), (1, elsewhere, 0.8)):
        monkeypatch.setattr(estimates, "gpus", lambda num=gpus: ("a GPU",) * num)
        assert Memory.here(named, of).learner == pytest.approx(share * 100 * GIB)
    assert Memory.here(config, of).cache == pytest.approx(89 * GIB)


def test_memory_of_this_machine_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "gpus", lambda: ("NVIDIA H200, 143771 MiB", "NVIDIA A10, 23028 MiB"))
    assert hardware.gpu_memory() == 23028 * 2**20
    files = {"/proc/meminfo": ["MemTotal: 9 kB", "MemAvailable: 2048 kB"]}
    monkeypatch.setattr(hardware, "_lines", lambda file: files.get(file, []))
    assert hardware.free_memory() == 2**21
    files |= {"/sys/fs/cgroup/memory.max": ["1048576"], "/sys/fs/cgroup/memory.current": ["48576"]}
    assert hardware.free_memory() == 1_000_000
    files["/sys/fs/cgroup/memory.max"] = ["max"]
    assert hardware.free_memory() == 2**21


def test_facts_are_read_of_the_files_of_a_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SMOLLM2), encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(b"x" * 1000)
    found = facts_of(tmp_path)
    assert found[1:] == (8192, 500, 30, 11_520, 15_168)
    assert found.num_tokens("x" * 300) == 101, "without a tokenizer, by the bytes"
    (tmp_path / "config.json").write_text(json.dumps({"text_config": SMOLLM2}), encoding="utf-8")
    assert facts_of(tmp_path)[1:] == found[1:]
    for broken in ("{", "[]", "{}"):
        (tmp_path / "config.json").write_text(broken, encoding="utf-8")
        assert facts_of(tmp_path).context is None


def test_a_settled_configuration_is_concrete_and_a_resume_that_leaves_it_open_changes_nothing(tmp_path: Path) -> None:
    config, lines = settled(Config(), tmp_path, tasks())
    assert config.sft.enabled is False
    assert any(line.startswith("SFT seeding: none, ") for line in lines)
    assert any(line.startswith("rollout.sampling.max_tokens = 1024: ") for line in lines)
    assert settled(config, tmp_path, tasks()).config == config
    stored = config.model_dump(mode="json")
    asked = {"sft": {"enabled": "auto", "max_length": None, "seed": 0}, "servers": {"max_model_len": None}}
    assert without_open(asked, stored) == {"sft": {"max_length": None, "seed": 0}, "servers": {}}
    assert without_open({"eval": {"limit": None}, "sft": {"enabled": True}}, stored) == {
        "eval": {"limit": None},
        "sft": {"enabled": True},
    }
    check_resume_config(config, config)


def test_what_is_settled_is_known_by_name_and_no_other_setting_is_taken_for_it(tmp_path: Path) -> None:
    config = Config.model_validate({"sft": {"enabled": True}})
    found = settled(config, tmp_path, tasks(), is_begun=True).config
    before, after = (flat(one.model_dump(mode="json")) for one in (config, found))
    assert {name for name in before if before[name] != after[name]} | {"sft.enabled"} == set(OPEN)
    # "none" is a value of these: it is a change, and not left out.
    stored = Config.model_validate({"learner": {"max_trained_staleness": 1}, "eval": {"limit": 4}}).model_dump()
    asked = {"learner": {"max_trained_staleness": None, "attention": "auto"}, "eval": {"limit": None}}
    assert without_open(asked, stored) == asked


def test_what_a_folder_of_templates_lacks_is_reported_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "lesson.txt").write_text("Lesson {{number}}: {{points}}\n", encoding="utf-8")
    config = Config.model_validate({"rollout": {"templates": str(tmp_path)}, "sft": {"enabled": False}})
    (note,) = (line for line in settled(config, tmp_path, tasks()).lines if line.startswith("rollout.templates"))
    assert note.startswith(f"rollout.templates = '{tmp_path}' has no scratch.txt, ")
    assert note.endswith("; 'full' fills in")


def test_a_run_that_was_seeded_before_keeps_what_it_says_of_it(tmp_path: Path) -> None:
    old = Config.model_validate({"sft": {"enabled": True}})
    assert settled(old, tmp_path, tasks(), is_begun=True).config.sft.enabled is True
    with pytest.raises(ConfigError, match=r"sft\.enabled = true, but there is nothing to learn from"):
        settled(old, tmp_path, tasks())
