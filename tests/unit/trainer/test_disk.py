"""A full or failing disk is recognised whichever library met it."""

from __future__ import annotations

import errno
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from pipeline.errors import DiskError
from trainer.disk import as_disk_error

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        DiskError("the disk is full"),
    ],
)
def test_full(error: Exception, tmp_path: Path) -> None:
    assert isinstance(as_disk_error(error, tmp_path), DiskError)


def test_behind_another_error(tmp_path: Path) -> None:
    error = RuntimeError("saving failed")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert isinstance(as_disk_error(error, tmp_path), DiskError)


@pytest.mark.parametrize(("free", "word"), [(0, "full"), (1 << 40, "fails")])
def test_torch_says_only_that_writing_failed(
    free: int, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1 << 41, 0, free))
    error = RuntimeError("[enforce fail at inline_container.cc] PytorchStreamWriter: file write failed")
    assert word in str(as_disk_error(error, tmp_path))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        OSError("LanceError(IO): Input/output error (os error 5) at path"),
        OSError("LanceError(IO): Generic LocalFileSystem error: failed to fill whole buffer"),
    ],
)
def test_a_failing_disk(error: Exception, tmp_path: Path) -> None:
    assert "fails" in str(as_disk_error(error, tmp_path))


def test_other_errors_are_not_a_full_disk(tmp_path: Path) -> None:
    assert as_disk_error(OSError(errno.EACCES, "Permission denied"), tmp_path) is None
    assert as_disk_error(ValueError("device"), tmp_path) is None
