"""Recognises a full or failing disk behind the errors of libraries that do not raise OSError for it."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from pipeline.errors import DiskError
from pipeline.runtime.files import disk_error

# torch.save says only "file write failed"; with less than this free, that is why.
SCANT_BYTES = 64 << 20


def as_disk_error(error: BaseException, folder: Path) -> DiskError | None:
    """`error`, or what caused it, as DiskError if the disk of `folder` was full or failed; else None."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, DiskError):
            return cause
        if "file write failed" in str(cause):
            scant = shutil.disk_usage(folder).free < SCANT_BYTES
            cause = OSError(errno.ENOSPC if scant else errno.EIO, str(cause))
        if isinstance(cause, Exception) and isinstance(found := disk_error(cause, folder), DiskError):
            return found
        cause = cause.__cause__ or cause.__context__
    return None
