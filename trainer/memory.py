"""Sets how the C library hands out memory in a training process.

glibc maps every large block anew and returns it when it is freed, so each pass of a training step pays for touching its
pages again: hundreds of thousands of page faults. Training asks for the same sizes again and again; kept, they cost
nothing. Between two steps what is free is returned once, or what a heap's holes take would add up from step to step.
"""

from __future__ import annotations

from pipeline.runtime import libc

M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Keep freed blocks in the heap instead of returning them (glibc; elsewhere nothing happens)."""
    libc.call("mallopt", M_MMAP_MAX, 0)
    libc.call("mallopt", M_TRIM_THRESHOLD, NEVER)


def return_freed_memory() -> None:
    """Return all whole pages that are free now (glibc; elsewhere nothing happens)."""
    libc.call("malloc_trim", 0)
