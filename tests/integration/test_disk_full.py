"""A disk that is really full, at a hundred places: a clean stop, nothing damaged, and on it goes (docs/promises.md: 3)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.test_faults import full


def has_namespaces() -> bool:
    """Whether this machine lets us mount a disk of our own."""
    command = ["unshare", "-Urm", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt"]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not has_namespaces(), reason="no user namespaces here: a small disk cannot be mounted")
@pytest.mark.parametrize("num", [5, full(100)])
def test_a_full_disk_damages_nothing_and_the_run_goes_on(tmp_path: Path, repository: Path, num: int) -> None:
    command = ["unshare", "-Urm", sys.executable, "-m", "tests.integration.disk_child", str(tmp_path), str(num)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    print(f"the disk was full in {result['where']}")
    assert sum(result["where"].values()) == num
    assert result["wrong"] == []
