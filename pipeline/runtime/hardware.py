"""The hardware of this machine: cores, memory, GPUs."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
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


def gpu_memory() -> int:
    """Bytes of the smallest GPU here; 0 without any."""
    sizes = [int(found[1]) for gpu in gpus() if (found := re.search(r"(\d+) MiB", gpu))]
    return min(sizes, default=0) * 2**20


def free_memory() -> int:
    """Bytes that processes here may still take: what the system has available, or what the container is allowed."""
    bounds = [int(line.split()[1]) * 2**10 for line in _lines("/proc/meminfo") if line.startswith("MemAvailable:")]
    limit, used = _lines("/sys/fs/cgroup/memory.max"), _lines("/sys/fs/cgroup/memory.current")
    if limit and used and limit[0].isdecimal():
        bounds.append(int(limit[0]) - int(used[0]))
    return max(0, min(bounds, default=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")))


def _lines(file: str) -> list[str]:
    try:
        return Path(file).read_text(encoding="ascii").splitlines()
    except OSError:
        return []
