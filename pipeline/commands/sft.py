"""`sft`: make the built-in pairs, train on them in the trainer's process, cache the result by the hash of its inputs."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.errors import ProcessEndedError
from pipeline.problems import load_problems
from pipeline.process import PASSIVE_WAITING, Child, tail
from pipeline.run import RunFolder, cache_folder, write_atomic
from pipeline.seeding import make_pairs, pairs_key, write_pairs
from pipeline.serving import resolve_model
from pipeline.view import View

DONE = "sft.json"


def model_fingerprint(folder: Path) -> str:
    """Identity of a model folder: names and contents of its files; weights by size and their first and last MiB."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.is_file():
            size = file.stat().st_size
            digest.update(f"{file.name}:{size}".encode())
            with file.open("rb") as stream:
                digest.update(stream.read(2**20))
                stream.seek(max(0, size - 2**20))
                digest.update(stream.read())
    return digest.hexdigest()[:16]


async def seeded_model(
    config: Config, run: RunFolder, model: Path, say: Callable[[str], None]
) -> tuple[Path, dict[str, Any]]:
    """The model after SFT seeding, from the cache where its inputs are unchanged, and what the training said of itself."""
    fingerprint = await asyncio.to_thread(model_fingerprint, model)
    folder = cache_folder() / "sft" / pairs_key(config, fingerprint)
    if (folder / DONE).exists():
        say(f"SFT seeding: unchanged since it was made, taken from {folder}")
        return folder, {**json.loads((folder / DONE).read_text(encoding="utf-8")), "cached": True}
    problems = await asyncio.to_thread(load_problems, config.problems, config.sft.seed)
    pairs = await asyncio.to_thread(make_pairs, config, problems.train, problems.heldout_hashes)
    pairs_file = run.path / "sft_pairs.jsonl"
    write_pairs(pairs_file, pairs)
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    say(f"SFT seeding on {len(pairs)} built-in pairs (log: {run.logs / 'sft.log'})")
    command = [sys.executable, "-m", "trainer.sft", "--config", str(run.config_file), "--model", str(model)]
    command += ["--pairs", str(pairs_file), "--out", str(folder)]
    child = await Child.start("SFT trainer", command, run.logs / "sft.log", env=PASSIVE_WAITING)
    try:
        status = await _wait_with_progress(child, say)
    finally:
        await child.stop(10.0)
    if status != 0:
        raise ProcessEndedError(
            f"the SFT trainer ended with status {status}; its log {child.log} ends:\n{tail(child.log)}"
        )
    report = json.loads(child.log.read_text(encoding="utf-8").strip().splitlines()[-1])
    write_atomic(folder / DONE, json.dumps(report))
    return folder, {**report, "cached": False}


async def _wait_with_progress(child: Child, say: Callable[[str], None]) -> int:
    """Wait for the trainer; repeat its latest progress line every 20 s."""
    ended = asyncio.ensure_future(child.wait())
    last = ""
    try:
        while not ended.done():
            await asyncio.wait({ended}, timeout=20.0)
            lines = [line for line in tail(child.log, 5).splitlines() if line.startswith("sft step")]
            if lines and lines[-1] != last and not ended.done():
                last = lines[-1]
                say(last)
        return ended.result()
    finally:
        ended.cancel()


def sft_command(config: Config, out: Path | None) -> int:
    """Seed the skills and show where the model is."""
    view = View(0, live=False)
    name = config.run.name or f"sft-{config.recipe}-{config.sft.seed}"
    run = RunFolder.create(
        config.model_copy(update={"run": config.run.model_copy(update={"name": _unused(config, name)})})
    )

    async def work() -> Path:
        model = await resolve_model(config, run, view.say)
        folder, report = await seeded_model(config, run, model, view.say)
        view.say(f"SFT seeding done: {report}")
        return folder

    folder = asyncio.run(work())
    if out is not None:
        shutil.copytree(folder, out)
        folder = out
    view.say(f'load it with: transformers.AutoModelForCausalLM.from_pretrained("{folder}")')
    return 0


def _unused(config: Config, name: str) -> str:
    number = 1
    while (config.run.root / (candidate := f"{name}-{number}")).exists():
        number += 1
    return candidate
