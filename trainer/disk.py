"""Recognises a full or failing disk behind the errors of libraries that do not raise OSError for it."""

from __future__ import annotations

import errno
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import DiskError, UserError
from pipeline.runtime.files import disk_error

# torch.save says only "file write failed"; with less than this free, that is why.
SCANT_BYTES = 64 << 20


def exit_status(work: Callable[[], None], folder: Path) -> int:
    """Do `work`, whose files are in `folder`: 0, or 2 with the message on stderr for what the user can mend."""
    try:
        work()
    except Exception as error:
        user_error = error if isinstance(error, UserError) else as_disk_error(error, folder)
        if user_error is None:
            raise
        print(user_error, file=sys.stderr)
        return 2
    return 0


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
