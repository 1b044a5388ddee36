"""The SFT stage of a run: pairs, a teacher's among them, training in a process of its own, a cache of what was
trained."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.errors import ProcessEndedError, RunFolderError
from pipeline.inference.capabilities import check_endpoint
from pipeline.inference.client import client_of
from pipeline.inference.local_servers import spare_gpu
from pipeline.problems.dataset import ProblemSet, load_problems
from pipeline.rewards.judge.verifier import verifier_of
from pipeline.run.folder import RunFolder
from pipeline.run.provenance import model_fingerprint
from pipeline.runtime.child_process import Child, tail
from pipeline.runtime.files import cache_folder, write_atomic
from pipeline.runtime.written import Written
from pipeline.sft.data_card import Teaching, card
from pipeline.sft.own_pairs import own_pairs
from pipeline.sft.pairs import make_pairs, pairs_key, write_pairs
from pipeline.sft.seeding import demanded, seeding
from pipeline.sft.teacher import Lines, teach, teacher_key

DONE, CARD = "sft.json", "sft_card.md"
PROGRESS_STEPS = 20


async def seeded_model(
    config: Config, run: RunFolder, model: Path, log: Callable[[str], None], problems: ProblemSet | None = None
) -> tuple[Path, dict[str, Any]]:
    """The model after SFT seeding, from the cache where its inputs are unchanged, and what the training said of
    itself. `problems` are those that `sft.seed` draws, where the caller has them. Raises ConfigError where there is
    nothing to learn from."""
    fingerprint = await asyncio.to_thread(model_fingerprint, model)
    teaching = None
    if config.sft.teacher:
        problems = problems or await _problems(config)
        teaching = await taught(config, problems, log)
    folder = cache_folder() / "sft" / pairs_key(config, fingerprint, teaching.digest if teaching else "")
    if (folder / DONE).exists():
        log(f"SFT seeding: unchanged since it was made, taken from {folder}")
        return folder, {**json.loads((folder / DONE).read_text(encoding="utf-8")), "cached": True}
    problems = problems or await _problems(config)
    builtin = await asyncio.to_thread(make_pairs, config, problems.train, problems.heldout_hashes)
    own = own_pairs(config.sft.pairs_file, problems.heldout_keys) if config.sft.pairs_file else []
    pairs = builtin
    if teaching or own:
        pairs = [*builtin, *(teaching.pairs if teaching else []), *own]
        random.Random(f"mixed:{config.sft.seed}").shuffle(pairs)
    if not pairs:
        await asyncio.to_thread(seeding, demanded(config), problems.train)
    pairs_file = run.path / "sft_pairs.jsonl"
    write_pairs(pairs_file, pairs)
    write_atomic(run.path / CARD, card(config, builtin, teaching, len(own)))
    # Whole, but for its report: the command that made it was killed.
    if folder.exists() and not Written(folder.parent).remove_folder(folder.name):
        raise RunFolderError(f"{folder} is in the way, and was not made by lanpo; move it away, or set LANPO_CACHE")
    file = run.logs / "sft.log"
    log(f"SFT seeding on {len(pairs)} pairs, described in {run.path / CARD} (log: {file})")
    command = [sys.executable, "-m", "trainer.sft", "--config", str(run.config_file), "--model", str(model)]
    command += ["--pairs", str(pairs_file), "--out", str(folder)]
    status = await Child.run("SFT trainer", command, file, log, env=spare_gpu(config))
    if status != 0:
        raise ProcessEndedError(f"the SFT trainer ended with status {status}; its log {file} ends:\n{tail(file)}")
    report = json.loads(file.read_text(encoding="utf-8").strip().splitlines()[-1])
    shutil.copy2(run.path / CARD, folder)
    write_atomic(folder / DONE, json.dumps(report))
    return folder, {**report, "cached": False}


async def _problems(config: Config) -> ProblemSet:
    return await asyncio.to_thread(load_problems, config.problems, config.sft.seed, config.reward.code.packages)


async def taught(config: Config, problems: ProblemSet, log: Callable[[str], None]) -> Teaching:
    """The teacher's pairs, those of earlier sessions among them. Raises as `pipeline.sft.teacher.teach` does."""
    settings = config.sft.teacher
    assert settings is not None
    path = (
        cache_folder() / "teacher" / f"{teacher_key(config, settings.model or config.model.name, problems.train)}.jsonl"
    )
    cost_file = path.with_suffix(".cost.json")
    cost: dict[str, float] = json.loads(cost_file.read_text(encoding="utf-8")) if cost_file.exists() else {}
    lines = Lines(path)
    wanted = config.sft.num_teacher_pairs
    log(f"teacher: {lines.num_kept} of {wanted} pairs are there already ({path})")
    pairs = lines.pairs
    if len(pairs) < wanted:
        async with client_of(config, (settings,), on_trouble=log) as pool, verifier_of(config) as verifier:
            await check_endpoint(pool, pool.endpoints[0], training=False)
            before = dict(cost)

            def keep_cost() -> None:
                counts = {name: pool.usage.total(name) for name in ("requests", "prompt_tokens", "completion_tokens")}
                found = {**counts, "cost": pool.usage.cost()}
                cost.update({name: before.get(name, 0) + value for name, value in found.items()})
                write_atomic(cost_file, json.dumps(cost))

            def progress(done: int, total: int) -> None:
                if done * PROGRESS_STEPS // total > (done - 1) * PROGRESS_STEPS // total:
                    keep_cost()
                    log(f"teacher: {done}/{total} pairs, {_spent(cost)}")

            try:
                pairs = await teach(config, problems.train, problems.heldout_hashes, pool, verifier, lines, progress)
            finally:
                keep_cost()
                log(f"teacher: {lines.num_kept} of {wanted} pairs are kept in {path}; the same command goes on there")
    log(f"teacher: {len(pairs)} pairs, {_spent(cost)}")
    digest = hashlib.sha256(json.dumps(pairs, sort_keys=True).encode()).hexdigest()
    return Teaching(pairs, lines.counts(), cost, digest)


def _spent(cost: dict[str, float]) -> str:
    tokens = cost.get("prompt_tokens", 0) + cost.get("completion_tokens", 0)
    price = f", cost {cost['cost']:.4f}" if cost.get("cost") else ""
    return f"{cost.get('requests', 0):.0f} requests, {tokens:.0f} tokens{price}"
