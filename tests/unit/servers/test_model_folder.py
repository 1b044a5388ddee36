"""A model folder that lacks something is named with what it lacks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.errors import ModelError
from servers.model_folder import check_model_folder


def model(folder: Path) -> Path:
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    return folder


def test_a_complete_folder_passes(tmp_path: Path) -> None:
    assert check_model_folder(model(tmp_path)) == tmp_path.resolve()


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("config.json", "config.json"),
        ("model.safetensors", "weights"),
        ("tokenizer.json", "a tokenizer"),
        ("tokenizer_config.json", "chat template"),
    ],
)
def test_what_is_missing_is_named_with_the_folder_and_the_remedy(tmp_path: Path, missing: str, named: str) -> None:
    (model(tmp_path) / missing).unlink()
    with pytest.raises(ModelError) as caught:
        check_model_folder(tmp_path)
    message = str(caught.value)
    assert str(tmp_path) in message
    assert named in message
    assert "save_pretrained" in message


def test_a_template_in_its_own_file_counts(tmp_path: Path) -> None:
    (model(tmp_path) / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ModelError, match="a chat template"):
        check_model_folder(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    check_model_folder(tmp_path)


def test_every_file_of_sharded_weights_must_be_there(tmp_path: Path) -> None:
    (model(tmp_path) / "model.safetensors").unlink()
    shards = {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (tmp_path / shards["a"]).write_bytes(b"weights")
    with pytest.raises(ModelError, match=r"the weight file model-2-of-2\.safetensors"):
        check_model_folder(tmp_path)
    (tmp_path / shards["b"]).write_bytes(b"weights")
    check_model_folder(tmp_path)


def test_empty_and_broken_files_do_not_count(tmp_path: Path) -> None:
    (model(tmp_path) / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json; weights"):
        check_model_folder(tmp_path)


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="absent is no folder"):
        check_model_folder(tmp_path / "absent")
