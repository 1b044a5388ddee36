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
SEED = 0
LOG, TEXTS = "training.log", "texts.jsonl"


async def small_model(log: Callable[[str], None], num_texts: int = NUM_TEXTS, seed: int = SEED) -> Path:
    """The folder of the model, trained first where it is not there. Raises ModelError."""
    pairs = texts(num_texts, seed)
    folder = cache_folder() / "models" / f"small-{digest([CODE_VERSION, pairs])[:16]}"
    if folder.is_dir():
        return folder
    work = folder.with_name(f"{folder.name}-work")
    work.mkdir(parents=True, exist_ok=True)
    write_pairs(work / TEXTS, pairs)
    log(f"training the small model from nothing on {num_texts} texts, once: some minutes (log: {work / LOG})")
    command = [sys.executable, "-m", "trainer.from_nothing", "--pairs", str(work / TEXTS), "--out", str(folder)]
    child = await Child.start("trainer of the small model", [*command, "--seed", str(seed)], work / LOG)
    try:
        status = await child.wait_with_progress(log)
    finally:
        await child.stop(10.0)
    if status != 0:
        raise ModelError(
            f"model.path = 'small': its trainer ended with status {status}; its log ends:\n{tail(work / LOG)}"
        )
    return folder
