"""Checks what a local model folder holds before a server or a learner is started on it. Reads names and JSON only, no
torch.

Invariant: a folder that passes has a configuration, weights that are all there, a tokenizer and a chat template, so
that a missing piece is named here and not by a traceback of vLLM a minute later.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
TOKENIZERS = (("tokenizer.json",), ("tokenizer.model",), ("vocab.json", "merges.txt"))


def check_model_folder(folder: Path) -> Path:
    """Return `folder` resolved. Raises ModelError that names the folder and everything that it lacks."""
    if not folder.is_dir():
        raise ModelError(f"model.path: {folder} is no folder")
    lacking = [*_config_problems(folder), *_weight_problems(folder), *_tokenizer_problems(folder)]
    if lacking:
        raise ModelError(
            f"model.path: the folder {folder} lacks "
            + "; ".join(lacking)
            + ". Save the model and its tokenizer there with "
            "save_pretrained, or set model.path to 'embedded' or a Hugging Face id"
        )
    return folder.resolve()


def has_weights(folder: Path) -> bool:
    """Whether all weight files of `folder` are there."""
    return not _weight_problems(folder)


def _config_problems(folder: Path) -> list[str]:
    config = _read_json(folder / "config.json")
    if config is None:
        return ["a readable config.json"]
    return [] if "model_type" in config else ["'model_type' in config.json"]


def _weight_problems(folder: Path) -> list[str]:
    for name in WEIGHTS:
        if _filled(folder / name):
            return []
        index = _read_json(folder / f"{name}.index.json")
        shards = index.get("weight_map") if index else None
        if isinstance(shards, dict) and shards:
            return [f"the weight file {shard}" for shard in sorted(set(shards.values())) if not _filled(folder / shard)]
    return ["weights (model.safetensors, or model.safetensors.index.json with its files)"]


def _tokenizer_problems(folder: Path) -> list[str]:
    problems = []
    if not any(all(_filled(folder / name) for name in names) for names in TOKENIZERS):
        problems.append("a tokenizer (tokenizer.json, tokenizer.model, or vocab.json with merges.txt)")
    settings = _read_json(folder / "tokenizer_config.json")
    if settings is None:
        problems.append("a readable tokenizer_config.json")
    stored = any(_filled(folder / name) for name in ("chat_template.jinja", "chat_template.json"))
    if not stored and not (settings or {}).get("chat_template"):
        problems.append("a chat template (chat_template.jinja, or 'chat_template' in tokenizer_config.json)")
    return problems


def _filled(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
