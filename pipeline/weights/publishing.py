"""Published weights on disk: versions, manifests with checksums, LATEST, pruning.

`weights/<label>/` is complete before it has that name: it is written beside, checksummed in `manifest.json`, flushed,
then renamed; `LATEST` names it last. It holds a whole model, or a LoRA adapter to the reference, which is a whole one.
Who reads a version holds a shared lock on its manifest (`in_use`); `prune` removes none that is locked."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import WeightSyncError
from pipeline.run.folder import RunFolder
from pipeline.runtime.files import disk_error, try_lock, write_atomic
from pipeline.types import WeightVersion
from pipeline.weights import canary

MANIFEST = "manifest.json"
ADAPTER_CONFIG = "adapter_config.json"
REFERENCE = WeightVersion(lineage=0, step=0)
"""What a run begins with."""


def path_of(run: RunFolder, version: WeightVersion) -> Path:
    return run.weights / version.label


def is_adapter(folder: Path) -> bool:
    """Whether published weights are a LoRA adapter, and no whole model."""
    return (folder / ADAPTER_CONFIG).exists()


def canary_of(run: RunFolder, version: WeightVersion) -> canary.Canary | None:
    """The canary of published weights. A reference that was not trained here came without; its learner puts one beside
    the versions."""
    return canary.read_canary(path_of(run, version)) or (
        canary.read_canary(run.weights) if version == REFERENCE else None
    )


def latest(run: RunFolder) -> WeightVersion | None:
    """The version that LATEST names, or None before the first publication."""
    file = run.weights / "LATEST"
    return WeightVersion.parse(file.read_text(encoding="utf-8").strip()) if file.exists() else None


def publish(run: RunFolder, version: WeightVersion, save: Callable[[Path], None]) -> Path:
    """Publish what `save` writes into the folder it is given; return the folder's final path.

    Raises DiskError; LATEST then still names the version before."""
    final = write_version(path_of(run, version), save)
    name_latest(run, version)
    return final


def write_version(final: Path, save: Callable[[Path], None]) -> Path:
    """Make `final`, the folder of a version, of what `save` writes: it appears whole, checksummed and flushed. Raises
    DiskError."""
    temporary = final.with_name(f".{final.name}.{os.getpid()}")
    try:
        # Another process had this id, and died.
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save(temporary)
        manifest = {"version": final.name, "files": _checksums(temporary)}
        write_atomic(temporary / MANIFEST, json.dumps(manifest, indent=1))
        if final.exists():
            shutil.rmtree(final)
        temporary.rename(final)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise disk_error(error, final) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return final


def name_latest(run: RunFolder, version: WeightVersion) -> None:
    """Make `version` the one that servers are to have."""
    write_atomic(run.weights / "LATEST", version.label)


def verify(folder: Path) -> None:
    """Raise WeightSyncError unless `folder` holds exactly what its manifest says."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightSyncError(f"{folder} has no readable manifest: {error}") from error
    if manifest["files"] != _checksums(folder):
        raise WeightSyncError(f"{folder} differs from its manifest; it is torn or was changed")


def _checksums(folder: Path) -> dict[str, str]:
    checksums = {}
    for file in sorted(folder.iterdir()):
        if file.name != MANIFEST:
            with file.open("rb") as stream:
                checksums[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return checksums


def prune(run: RunFolder, keep: int, asked_for_s: float = 0.0) -> None:
    """Remove all but the newest `keep` versions; never the reference (l0-s000000), what LATEST or `final_model` names,
    nor what a server loads.

    A version that a request of the last `asked_for_s` seconds may name stays too: a server may have to read an adapter
    again while it answers. Only the learner, who alone publishes, may call this: what a publication that died left
    unfinished goes as well."""
    for unfinished in run.weights.glob(".l*-s*.*"):
        shutil.rmtree(unfinished)
    versions = sorted(version for folder in run.weights.iterdir() if (version := WeightVersion.parse(folder.name)))
    # The reference is the base of every adapter; LATEST is what servers are to have; a finished run that is continued
    # with more steps goes on from its final model.
    spared = {REFERENCE, latest(run), WeightVersion.parse(run.final_model.resolve().name), *versions[-keep:]}
    begin_s = time.time() - asked_for_s
    # Requests name a version until every server has the next one; that was before the one after the next was published.
    # So the time of the next but one bounds from above when this version was named last.
    spared |= {
        version
        for version, next_but_one in zip(versions, versions[2:], strict=False)
        if path_of(run, next_but_one).stat().st_mtime > begin_s
    }
    for version in versions:
        if version not in spared:
            _remove_unless_in_use(path_of(run, version))


def _remove_unless_in_use(folder: Path) -> None:
    try:
        manifest = (folder / MANIFEST).open("rb")
    except FileNotFoundError:  # an earlier removal was interrupted
        shutil.rmtree(folder)
        return
    with manifest:
        if try_lock(manifest):
            shutil.rmtree(folder)


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Keeps `folder` from being pruned. Raises WeightSyncError where it is gone, or just going."""
    try:
        manifest = (folder / MANIFEST).open("rb")
    except OSError as error:
        raise WeightSyncError(f"{folder} has no readable manifest: {error}") from error
    with manifest:
        try:
            fcntl.flock(manifest, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WeightSyncError(f"{folder} is being removed: newer weights were published") from error
        yield
