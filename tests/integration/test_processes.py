"""A learner whose process dies does not wait for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys, threading
from trainer import processes
processes.BROKEN_GRACE_S = 0.0
with processes.Others(2, [sys.executable, "-c", "raise SystemExit({status})"]):
    for thread in threading.enumerate():
        if thread.daemon:
            thread.join()
"""


@pytest.mark.parametrize(("status", "expected"), [(3, 1), (0, 0)])
def test_rank_0_ends_after_a_child_that_failed(repository: Path, status: int, expected: int) -> None:
    """As where NCCL notices nothing until its time-out."""
    command = [sys.executable, "-c", CODE.format(status=status)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=50)
    assert done.returncode == expected, done.stderr
    assert ("process 1 of the learner ended with status 3" in done.stderr) == (status == 3)
