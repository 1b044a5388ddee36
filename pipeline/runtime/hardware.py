"""The hardware of this machine: cores, memory, GPUs."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from functools import cache
from typing import Any


def hardware() -> dict[str, Any]:
    return {
        "machine": platform.machine(),
        "system": platform.platform(),
        "num_cores": len(usable_cores()),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": gpus(),
    }


def usable_cores() -> tuple[int, ...]:
    """Cores that this process may use, ascending."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


@cache
def gpus() -> tuple[str, ...]:
    """Names of the NVIDIA GPUs here; empty without any. Looked up once: several checks at start-up need it."""
    if not shutil.which("nvidia-smi"):
        return ()
    result = subprocess.run(
        ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"], capture_output=True, text=True
    )
    return tuple(result.stdout.strip().splitlines()) if result.returncode == 0 else ()
