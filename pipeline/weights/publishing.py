"""Published weights on disk: versions, manifests with checksums, LATEST, pruning, which removes what manifests name.

`weights/<label>/` is complete before it has that name: it is written beside, checksummed in `manifest.json`, flushed,
then renamed; `LATEST` names it last. It holds a whole model, or a LoRA adapter to the reference, which is a whole one.
Who reads a version holds a shared lock on its manifest (`in_use`); `prune` removes none that is locked."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.errors import RunFolderError, WeightSyncError
from pipeline.run import checkpoints
from pipeline.run.folder import RunFolder
from pipeline.runtime.files import disk_error, try_lock, unused, write_atomic
from pipeline.runtime.written import Fingerprint, Written
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


def is_published(run: RunFolder, version: WeightVersion) -> bool:
    """Whether this run wrote such a version, which is whole then."""
    return Written(run.weights).owns(f"{version.label}/{MANIFEST}")


def publish(run: RunFolder, version: WeightVersion, save: Callable[[Path], None]) -> Path:
    """Publish what `save` writes into the folder it is given; return the folder's final path.

    Raises DiskError; LATEST then still names the version before."""
    final = write_version(path_of(run, version), save)
    name_latest(run, version)
    return final


def write_version(final: Path, save: Callable[[Path], None]) -> Path:
    """Make `final`, the folder of a version, of what `save` writes: it appears whole, checksummed and flushed.

    Raises DiskError, RunFolderError where files that this run did not write are in its place."""
    written, file, part = Written(final.parent), f"{final.name}/{MANIFEST}", unused(final).name
    theirs = RunFolderError(
        f"{final} holds files that this run did not write; move it away, then continue with `train --resume "
        f"{final.parents[1]}`"
    )
    with suppress(OSError):  # a kill may leave it empty
        final.rmdir()
    if os.path.lexists(final) and not written.owns(file):
        raise theirs
    try:
        temporary = written.make_folder(part)
        save(temporary)
        sizes = {one.name: one.stat().st_size for one in temporary.iterdir()}
        manifest = json.dumps({"version": final.name, "files": _checksums(temporary), "sizes": sizes}, indent=1)
        write_atomic(temporary / MANIFEST, manifest)
        if final.exists() and not remove_version(final):
            raise theirs
        written.expect(file, manifest)
        temporary.rename(final)
    except BaseException as error:
        written.remove_folder(part)
        if isinstance(error, OSError):
            raise disk_error(error, final) from error
        raise
    return final


def remove_version(folder: Path) -> bool:
    """Remove what the manifest of a version names, the manifest last; whether the folder is gone then."""
    return Written(folder.parent).remove_manifested(folder.name, MANIFEST, _fingerprints)


def _fingerprints(manifest: Any) -> dict[str, Fingerprint]:
    sizes = manifest.get("sizes", {})  # a version of before did not write them
    return {name: Fingerprint(size=sizes.get(name), sha256=sha256) for name, sha256 in manifest["files"].items()}


def adopt(run: RunFolder) -> None:
    """Make weights and checkpoints that are there this run's: a version without lists wrote them, or a fork took them
    over."""
    for folder, manifest in (
        (run.weights, MANIFEST), (run.merged, MANIFEST), (run.checkpoints, checkpoints.MANIFEST)
    ):  # fmt: skip
        for file in sorted(folder.glob(f"*/{manifest}")):
            Written(folder).adopt(f"{file.parent.name}/{manifest}", _is_manifest, replaced=True)


def adopt_old(run: RunFolder) -> None:
    """`adopt` for a run that a version without lists began: any other lists its first weights."""
    if not Written(run.weights).is_there:
        adopt(run)


def _is_manifest(path: Path) -> bool:
    return isinstance(json.loads(path.read_text(encoding="utf-8"))["files"], dict)


def check_final_model(run: RunFolder) -> None:
    """Raise RunFolderError where what has the name of the final model is no link: a copy that follows links makes a
    folder of it."""
    if os.path.lexists(run.final_model) and not run.final_model.is_symlink():
        raise RunFolderError(
            f"{run.final_model} is no link of this run, but files of somebody else, or a copy of the model; move it "
            f"away, then give `train --resume {run.path}`"
        )


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
    unfinished goes as well. Of a version the files go that its manifest names, and the folder when it is empty then."""
    written = Written(run.weights)
    for unfinished in run.weights.glob(".l*-s*.*"):
        written.remove_folder(unfinished.name)
    # A link may lead to a disk that is away.
    there = (folder for folder in run.weights.iterdir() if folder.exists())
    versions = sorted(version for folder in there if (version := WeightVersion.parse(folder.name)))
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
    except OSError:  # nothing says that a run wrote it
        return
    with manifest:
        if try_lock(manifest):
            remove_version(folder)


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
