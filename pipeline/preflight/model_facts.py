"""What the files of a model say of its size, before anything loads it: context, parameters, bytes a token.

Read from `config.json`, the safetensors' sizes and `tokenizer.json`; what a file does not say is None, and bounds
nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

BYTES_PER_TOKEN = 3
"""Of text whose tokenizer cannot be read: few languages take more tokens."""
NUM_MEASURED = 64
"""Texts that are tokenized, those with most bytes, of however many there are."""
_CONTEXT = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")


class ModelFacts(NamedTuple):
    """`num_tokens` counts those of a text; `kv_values` are the numbers a token leaves in the key-value cache, and
    `layer_values` those that a layer keeps of it for the backward pass."""

    num_tokens: Callable[[str], int]
    context: int | None = None
    num_parameters: int | None = None
    num_layers: int | None = None
    kv_values: int | None = None
    layer_values: int | None = None

    def longest(self, texts: Iterable[str]) -> int:
        """Tokens of the longest of `texts`; 0 without any."""
        most = sorted(set(texts), key=lambda text: len(text.encode()), reverse=True)[:NUM_MEASURED]
        return max(map(self.num_tokens, most), default=0)


def facts_of(model: Path) -> ModelFacts:
    """Facts of the model in the folder `model`; a file that is missing or unreadable says nothing."""
    config = _json(model / "config.json")
    config = config.get("text_config") or config
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    layers, inner = config.get("num_hidden_layers"), config.get("intermediate_size")
    kv_values = layer_values = None
    if hidden and heads and layers:
        head_dim = config.get("head_dim") or hidden // heads
        kv_values = 2 * layers * (config.get("num_key_value_heads") or heads) * head_dim
        # Norms, projections, attention and residuals of the width; gate, up and their products of the MLP. SmolLM2-135M
        # took 1.75 MB a token in float32, for which this says 1.82.
        layer_values = 13 * hidden + 5 * (inner or 4 * hidden)
    return ModelFacts(
        _counter(model),
        next((config[name] for name in _CONTEXT if isinstance(config.get(name), int)), None),
        _num_parameters(model, config),
        layers,
        kv_values,
        layer_values,
    )


def _json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _num_parameters(model: Path, config: dict[str, Any]) -> int | None:
    size = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    dtype = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return size // (2 if dtype.endswith("16") else 4) or None


def _counter(model: Path) -> Callable[[str], int]:
    try:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    except Exception:  # noqa: BLE001 - the library raises bare ones for a file that is missing or of another kind
        return lambda text: len(text.encode()) // BYTES_PER_TOKEN + 1
    return lambda text: len(tokenizer.encode(text).ids)
