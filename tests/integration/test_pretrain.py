"""`pretrain`: a model from nothing, in a process of its own, that transformers loads and SFT goes on from."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.orchestrate import main
from servers.model_folder import check_model_folder


def test_a_model_from_nothing_is_whole_and_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LANPO_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "model"
    assert main(["pretrain", "--num-texts", "128", "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out)
    check_model_folder(out)
    tokenizer, model = AutoTokenizer.from_pretrained(out), AutoModelForCausalLM.from_pretrained(out)
    assert 1e6 < model.num_parameters() < 1e7
    text = "Rule: double the first number.\n2 * 17 = 34 \u00e9"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert all(tokenizer.decode([index]) in "0123456789" for index in tokenizer("1234567890")["input_ids"])
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "x"}], tokenize=False, add_generation_prompt=True
    )
    assert prompt == "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"

    assert main(["pretrain", "--num-texts", "128"]) == 0
    again = capsys.readouterr().out
    assert "training the small model" not in again
    assert Path(again.splitlines()[-1]).parent == tmp_path / "cache" / "models"


def test_what_is_in_the_way_is_named_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "--out", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["pretrain", "--num-texts", "0"]) == 2
    assert "--num-texts 0: give 1 or more" in capsys.readouterr().err
