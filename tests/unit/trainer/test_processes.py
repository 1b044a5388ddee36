"""A learner whose process dies does not wait for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys, time
from trainer import processes
processes.BROKEN_GRACE_S = 0.0
with processes.Others(2, [sys.executable, "-c", "raise SystemExit({status})"]) as others:
    others._children[0].wait()
    time.sleep({rest_s})
"""


@pytest.mark.parametrize(("status", "rest_s", "expected"), [(3, 60, 1), (0, 0.2, 0)])
def test_rank_0_ends_after_a_child_that_failed(status: int, rest_s: float, expected: int) -> None:
    """As where NCCL notices nothing until its time-out."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(status=status, rest_s=rest_s)], capture_output=True, text=True, timeout=50
    )
    assert done.returncode == expected, done.stderr
    assert ("process 1 of the learner ended with status 3" in done.stderr) == (status == 3)
