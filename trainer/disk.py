"""Recognises a full disk behind the errors of libraries that do not raise OSError for it."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from pipeline.errors import DiskFullError
from pipeline.run import disk_full

# torch.save says only "file write failed"; with less than this free, that is why.
SCANT_BYTES = 64 << 20


def as_disk_full(error: BaseException, folder: Path) -> DiskFullError | None:
    """`error`, or what caused it, as DiskFullError if the disk of `folder` was full; else None."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, DiskFullError):
            return cause
        if _says_full(cause, folder):
            full = disk_full(OSError(errno.ENOSPC, str(cause)), folder)
            assert isinstance(full, DiskFullError)
            return full
        cause = cause.__cause__ or cause.__context__
    return None


def _says_full(error: BaseException, folder: Path) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    text = str(error)
    if "No space left on device" in text or "os error 28" in text:
        return True
    return "file write failed" in text and shutil.disk_usage(folder).free < SCANT_BYTES
