"""Checkpoints of the learner on disk: which are whole, and which are kept.

A checkpoint is whole when its manifest is there and every file has the size that the manifest names: the manifest is
written last and atomically, so a checkpoint torn by a crash or a full disk is never resumed from. Small files carry a
SHA-256 too. No torch here, because the orchestrator asks as well."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
from pathlib import Path
from typing import Any

from pipeline.run.folder import RunFolder
from pipeline.runtime.written import SMALL_FILE_BYTES, Fingerprint, Written

logger = logging.getLogger(__name__)

MANIFEST = "complete.json"


def checkpoint_path(run: RunFolder, step: int) -> Path:
    """The folder of the checkpoint taken after `step` optimizer steps, as transformers names it."""
    return run.checkpoints / f"checkpoint-{step}"


def write_manifest(folder: Path) -> None:
    """Declare `folder` whole: sizes of all files, checksums of the small ones; from now on it is this run's by its
    manifest. Raises DiskError."""
    Written(folder.parent).write(f"{folder.name}/{MANIFEST}", _manifest_of(folder))


def is_whole(folder: Path) -> bool:
    """Whether `folder` has a manifest and every file that it names, with the right size (and checksum where small)."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool(manifest["files"]) and all(
            _fingerprint(folder / name) == expected for name, expected in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # somebody else's is of any shape
        return False


def steps(run: RunFolder) -> list[int]:
    """Steps of all checkpoint folders, torn ones included, ascending."""
    found = (re.fullmatch(r"checkpoint-(\d+)", path.name) for path in run.checkpoints.glob("checkpoint-*"))
    return sorted(int(match[1]) for match in found if match)


def newest_whole(run: RunFolder) -> int | None:
    """The step of the newest whole checkpoint, or None without any."""
    return next((step for step in reversed(steps(run)) if is_whole(checkpoint_path(run, step))), None)


def oldest_whole(run: RunFolder) -> int | None:
    """The step of the oldest whole checkpoint: no resume begins before it. None without any."""
    return next((step for step in steps(run) if is_whole(checkpoint_path(run, step))), None)


def prune(run: RunFolder, keep: int) -> None:
    """Remove all but the `keep` newest whole checkpoints, and torn ones older than the newest whole one, as far as this
    run wrote them."""
    there = steps(run)
    kept = [step for step in there if is_whole(checkpoint_path(run, step))][-keep:]
    for step in there:
        if kept and step <= kept[-1] and step not in kept:
            _remove(checkpoint_path(run, step))


def begin(folder: Path) -> None:
    """Make the empty folder of a checkpoint. What this run left in its place goes, what is somebody else's gets another
    name beside it."""
    if os.path.lexists(folder) and not _remove(folder):
        kept = folder.with_name(f"{folder.name}.kept-{secrets.token_hex(4)}")
        logger.warning("%s holds files that this run did not write; they are in %s from now on", folder, kept)
        folder.rename(kept)
    Written(folder.parent).make_folder(folder.name)


def _remove(folder: Path) -> bool:
    """Remove the files that the manifest of a checkpoint names, or the folder of one that this run began and that never
    had any; whether it is gone."""
    written = Written(folder.parent)
    if os.path.lexists(folder / MANIFEST):
        return written.remove_manifested(folder.name, MANIFEST, _fingerprints)
    # Listed, a kill kept it from being written, or the user took it or the whole folder away, and what is there is his.
    if written.was_written(folder.name, MANIFEST, lambda: _manifest_of(folder)):
        return written.remove_folder(folder.name)
    return False


def _manifest_of(folder: Path) -> str:
    files = {str(path.relative_to(folder)): _fingerprint(path) for path in _files(folder)}
    return json.dumps({"files": files}, indent=1)


def _fingerprints(manifest: Any) -> dict[str, Fingerprint]:
    return {name: Fingerprint.model_validate(said) for name, said in manifest["files"].items()}


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)


def _fingerprint(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    if size > SMALL_FILE_BYTES:
        return {"size": size}
    return {"size": size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
