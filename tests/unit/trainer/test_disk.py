"""A full disk is recognised whichever library met it."""

from __future__ import annotations

import errno
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from pipeline.errors import DiskFullError
from trainer.disk import as_disk_full

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        DiskFullError("the disk is full"),
    ],
)
def test_full(error: Exception, tmp_path: Path) -> None:
    assert isinstance(as_disk_full(error, tmp_path), DiskFullError)


def test_behind_another_error(tmp_path: Path) -> None:
    error = RuntimeError("saving failed")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert isinstance(as_disk_full(error, tmp_path), DiskFullError)


@pytest.mark.parametrize(("free", "full"), [(0, True), (1 << 40, False)])
def test_torch_says_only_that_writing_failed(
    free: int, full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 41, 0, free))
    error = RuntimeError("[enforce fail at inline_container.cc] PytorchStreamWriter: file write failed")
    assert (as_disk_full(error, tmp_path) is not None) is full


def test_other_errors_are_not_a_full_disk(tmp_path: Path) -> None:
    assert as_disk_full(OSError(errno.EACCES, "Permission denied"), tmp_path) is None
    assert as_disk_full(ValueError("device"), tmp_path) is None
