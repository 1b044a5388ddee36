"""The small model (`model.path = "small"`): 2 million parameters, trained from nothing on the language of the source
`operators`, kept in the cache by the hash of its texts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import ModelError
from pipeline.hashing import digest
from pipeline.runtime.child_process import Child, tail
from pipeline.runtime.files import cache_folder
from pipeline.sft.pairs import write_pairs
from pipeline.sft.small_language import CODE_VERSION, texts

NUM_TEXTS = 96_000
NUM_COMPARED = 256
SEED = 0


async def small_model(log: Callable[[str], None], num_texts: int = NUM_TEXTS, seed: int = SEED) -> Path:
    """The folder of the model, trained first where it is not there. Raises ModelError."""
    # Every kind of text is among a few: whatever changes the texts changes these.
    identity = digest([CODE_VERSION, num_texts, texts(NUM_COMPARED, seed)])[:16]
    folder = cache_folder() / "models" / f"small-{identity}"
    if folder.is_dir():
        return folder
    work = folder.with_name(f"{folder.name}-work")
    work.mkdir(parents=True, exist_ok=True)
    pairs_file, file = work / "texts.jsonl", work / "training.log"
    write_pairs(pairs_file, texts(num_texts, seed))
    log(f"training the small model from nothing on {num_texts} texts, once: twenty minutes on 2 cores (log: {file})")
    command = [sys.executable, "-m", "trainer.from_nothing", "--pairs", str(pairs_file), "--out", str(folder)]
    status = await Child.run("trainer of the small model", [*command, "--seed", str(seed)], file, log)
    if status != 0:
        raise ModelError(f"model.path = 'small': its trainer ended with status {status}; its log ends:\n{tail(file)}")
    pairs_file.unlink()
    return folder
