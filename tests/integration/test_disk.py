"""A disk that is really full, or that answers with I/O errors, at a hundred places each: a clean stop, nothing damaged,
and on it goes (docs/promises.md: 3)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.test_faults import full

CHILD = "tests.integration.disk_child"


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
    check(["unshare", "-Urm", sys.executable, "-m", CHILD, "full", str(tmp_path), str(num)], num, repository)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc here: a failing disk cannot be made")
@pytest.mark.parametrize("num", [5, full(100)])
def test_a_failing_disk_damages_nothing_and_the_run_goes_on(tmp_path: Path, repository: Path, num: int) -> None:
    library, folder = tmp_path / "io_faults.so", tmp_path / "disk"
    folder.mkdir()
    source = repository / "tests" / "integration" / "io_faults.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    environment = {"LD_PRELOAD": str(library), "IO_FAULTS_FOLDER": str(folder)}
    check([sys.executable, "-m", CHILD, "broken", str(folder), str(num)], num, repository, environment)


def check(command: list[str], num: int, repository: Path, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, cwd=repository, capture_output=True, text=True, env={**os.environ, **(environment or {})}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    print(f"the disk failed in {result['where']}")
    assert sum(result["where"].values()) == num
    assert result["wrong"] == []
