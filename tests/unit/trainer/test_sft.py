"""Seeding: what it reads, what it trains on, what it leaves behind."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.config import Config
from pipeline.errors import DataError, ModelError
from tests.tiny_model import make_tiny_model
from trainer import sft
from trainer.models import load_model, load_tokenizer

PAIR = {
    "messages": [
        {"role": "system", "content": "solve"},
        {"role": "user", "content": "the problem"},
        {"role": "assistant", "content": "the answer is boxed"},
    ],
    "skill": "respond",
}


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "model", hidden_size=64)


def config_file(folder: Path, **settings: Any) -> Path:
    values = {"batch_size": 4, "learning_rate": 1e-2, "precision": "float32", "num_epochs": 3} | settings
    config = Config.model_validate({"sft": values, "learner": {"cpu_threads": 1}})
    file = folder / "config.json"
    file.write_text(config.model_dump_json())
    return file


def pairs_file(folder: Path, pairs: list[Any]) -> Path:
    file = folder / "pairs.jsonl"
    file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return file


def command(folder: Path, model: Path, pairs: list[Any], **settings: Any) -> list[str]:
    return [
        *("--config", str(config_file(folder, **settings))),
        *("--model", str(model)),
        *("--pairs", str(pairs_file(folder, pairs))),
        *("--out", str(folder / "out")),
    ]


def test_trains_and_leaves_a_whole_model(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sft.main(command(tmp_path, model_folder, [PAIR] * 16)) == 0
    lines = capsys.readouterr().out.splitlines()
    steps = [line for line in lines if line.startswith("sft step ")]
    assert len(steps) == 12
    first, last = (float(steps[index].split()[-1]) for index in (0, -1))
    assert last < 0.8 * first
    report = json.loads(lines[-1])
    assert report["num_pairs"] == 16
    assert report["num_tokens"] > 16 * 3 * 10
    assert report["final_loss"] < first
    assert load_tokenizer(tmp_path / "out").chat_template
    assert load_model(tmp_path / "out").dtype == torch.float32
    made = {"config.json", "model", "out", "pairs.jsonl", "lanpo_files.jsonl"}
    assert {path.name for path in tmp_path.iterdir()} == made


def test_the_loss_is_trls_own(tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At trained positions only, and equal to what SFTTrainer computes over all positions."""
    config = Config.model_validate_json(config_file(tmp_path, num_epochs=1).read_text())
    pairs = [
        {"prompt": PAIR["messages"][:-1], "completion": [{"role": "assistant", "content": "is " * n}]}
        for n in range(1, 9)
    ]
    losses: list[float] = []
    for plain in (False, True):
        if plain:
            monkeypatch.setattr(sft, "supports_shared_prefix", lambda model: False)
        tokenizer = load_tokenizer(model_folder)
        report = sft.train(config, load_model(model_folder), tokenizer, pairs, tmp_path / "scratch", lambda line: None)
        losses.append(report["final_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert 0 < losses[0] < 2 * math.log(600)


def test_a_failure_leaves_nothing_behind(tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_full(*_: object) -> None:
        raise RuntimeError("No space left on device (os error 28)")

    monkeypatch.setattr(sft, "save_model", disk_full)
    assert sft.main(command(tmp_path, model_folder, [PAIR] * 4, num_epochs=1)) == 2
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


@pytest.mark.parametrize("link", [True, False])
def test_what_is_in_the_way_is_found_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], link: bool
) -> None:
    if link:
        (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    else:
        (tmp_path / "out").mkdir()
    assert sft.main(command(tmp_path, tmp_path / "no model is looked for", [PAIR])) == 2
    assert "is in the way, and was not made by lanpo; move it away" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{broken", "line 2: not a pair"),
        ('{"messages": "text"}', "line 2: not a pair"),
        ('{"messages": [{"role": "user", "content": "q"}]}', "line 2: a pair needs a prompt"),
        (
            '{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]}',
            "line 2: a pair needs",
        ),
    ],
)
def test_a_broken_pair_is_named_by_file_and_line(tmp_path: Path, line: str, complaint: str) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps(PAIR) + "\n" + line + "\n")
    with pytest.raises(DataError, match=complaint) as raised:
        sft.read_pairs(file)
    assert str(file) in str(raised.value)


def test_no_pairs_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"sft.enabled = false"):
        sft.read_pairs(pairs_file(tmp_path, []))


def test_a_model_without_chat_template_is_named(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (model_folder / "chat_template.jinja").unlink()
    assert sft.main(command(tmp_path, model_folder, [PAIR])) == 2
    message = capsys.readouterr().err
    assert str(model_folder) in message
    assert "has no chat template" in message


def test_a_model_without_tokenizer_is_named(model_folder: Path) -> None:
    for file in model_folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match="no tokenizer could be loaded"):
        load_tokenizer(model_folder)


def test_a_model_without_weights_is_named(model_folder: Path) -> None:
    (model_folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="its weights could not be loaded"):
        load_model(model_folder)


def test_a_pair_that_is_too_long_is_left_out_and_not_cut(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = {"messages": [*PAIR["messages"][:2], {"role": "assistant", "content": "the answer is boxed " * 40}]}
    assert sft.main(command(tmp_path, model_folder, [PAIR] * 8 + [long] * 3, num_epochs=1, max_length=100)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "sft: 3 of 11 pairs are longer than sft.max_length and left out" in lines
    report = json.loads(lines[-1])
    assert (report["num_pairs"], report["num_left_out"]) == (8, 3)
    assert sft.main(command(tmp_path, model_folder, [long], max_length=100)) == 2
    assert "sft.max_length = 100: all 1 pairs are longer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("longest", "tokens", "batch_size", "micro_batch"),
    [(512, None, 16, 8), (600, None, 16, 4), (5000, None, 16, 1), (100, 300, 6, 3), (100, 200, 5, 1)],
)
def test_fewer_pairs_are_computed_together_when_they_are_long(
    tmp_path: Path, longest: int, tokens: int | None, batch_size: int, micro_batch: int
) -> None:
    sizes = {"num_tokens_per_micro_batch": tokens, "batch_size": batch_size}
    found = sft.sft_config(Config.model_validate({"sft": sizes}), tmp_path, longest)
    assert found.per_device_train_batch_size == micro_batch
    assert micro_batch * found.gradient_accumulation_steps == batch_size
