"""Where a command puts the model that it made: `--out`, checked before the work and filled by one rename."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pipeline.errors import ConfigError, RunFolderError
from pipeline.runtime.files import disk_error, unused
from pipeline.runtime.written import make_folder


def check_out(out: Path) -> None:
    """Raise UserError where the model cannot go: before it is trained."""
    if os.path.lexists(out):
        raise ConfigError(f"--out {out} exists already; name a folder that does not, for the model to go there")
    make_folder(out.parent, f"--out {out}:")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"--out {out}: nothing can be written in {out.parent}; name another folder")


def copied(model: Path, out: Path) -> Path:
    """`model` as `out`, whole or not at all. Raises UserError that says where it is."""
    temporary = unused(out)
    try:
        shutil.copytree(model, temporary)
        temporary.rename(out)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = disk_error(error, out)
        raise RunFolderError(
            f"--out {out}: the model cannot be copied there ({reason}); it is whole in {model}"
        ) from error
    return out
