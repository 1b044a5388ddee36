"""Small files: replaced atomically, locked; and the error for a disk that is full or fails."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from pathlib import Path
from typing import IO, Any

from pipeline.errors import DiskError

DISK = "the disk that holds"
"""How the message of a DiskError begins, by which it is recognised in another process's log or status."""
GO_ON = "then give the same command again, a run with `train --resume`: what was written whole is kept"
FULL, FAILING = {errno.ENOSPC, errno.EDQUOT}, {errno.EIO, errno.EROFS, errno.ESTALE}
_LANCE_IO = "LanceError(IO)"
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


def cache_folder() -> Path:
    """Where prepared models are kept between runs: $LANPO_CACHE, else ~/.cache/lanpo."""
    return Path(os.environ.get("LANPO_CACHE") or Path.home() / ".cache" / "lanpo").expanduser()


def unused(path: Path) -> Path:
    """A name beside `path`, hidden, that nothing has."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replace `path` as a whole. Raises DiskError when the disk is full or fails; the old content then stays."""
    temporary = unused(path)
    try:
        with temporary.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise disk_error(error, path) from error


def disk_error(error: Exception, path: Path | str) -> Exception:
    """`error` as the user should see it: a full or failing disk named with its remedy, anything else unchanged.

    Libraries in Rust and C++ report what the system said as a text: "No space left on device (os error 28)".
    """
    text = str(error)
    match = _OS_ERROR.search(text)
    number = (isinstance(error, OSError) and error.errno) or (int(match[1]) if match else None)
    if number in FULL or "No space left on device" in text:
        return DiskError(f"{DISK} {path} is full: free some space, {GO_ON}")
    if number in FAILING or "Input/output error" in text or (_LANCE_IO in text and "://" not in str(path)):
        reason = os.strerror(number) if number else text[:300]
        return DiskError(
            f"{DISK} {path} fails ({reason}): look at what the system says of it (dmesg), mend or replace it, {GO_ON}"
        )
    return error


def is_uri(location: Path | str) -> bool:
    """Whether `location` is in an object store, not a folder."""
    return "://" in str(location)


def try_lock(file: IO[Any]) -> bool:
    """Take the exclusive lock of `file` where nobody holds it; whether it was taken. Closing the file gives it back."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def flat(value: Any, prefix: str = "", separator: str = ".") -> dict[str, Any]:
    """Nested settings as {'rollout.group_size': 8, ...}; lists stay whole."""
    if not isinstance(value, dict) or (not value and prefix):
        return {prefix: value}
    return {
        key: leaf
        for name, item in value.items()
        for key, leaf in flat(item, f"{prefix}{separator}{name}" if prefix else name, separator).items()
    }
