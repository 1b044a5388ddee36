"""Which attention a model is loaded with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.config.learner import LearnerSection
from pipeline.errors import ConfigError, ModelError
from tests.tiny_model import make_tiny_model
from trainer.models import load_model
from trainer.shared_prefix import supports_shared_prefix


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"), hidden_size=64)


def settings(**values: object) -> LearnerSection:
    return LearnerSection.model_validate(values)


def test_flex_attention_on_a_cpu_is_refused_with_the_remedy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"set learner\.attention = 'auto'"):
        load_model(folder, settings(attention="flex_attention"))


def test_the_model_is_loaded_with_it(folder: Path) -> None:
    assert load_model(folder, settings(attention="eager")).config._attn_implementation == "eager"
    assert load_model(folder).config._attn_implementation == "sdpa"


def test_flex_attention_is_taken_where_there_is_a_gpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    model = load_model(folder, settings(attention="flex_attention"))
    assert model.config._attn_implementation == "flex_attention"
    assert supports_shared_prefix(model)


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=str(tmp_path)):
        load_model(tmp_path)
