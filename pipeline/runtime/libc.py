"""Functions of the C library that Python has no names for."""

from __future__ import annotations

import ctypes

# Loaded once: looking a library up after fork, in a child that has not yet called exec, is not safe.
_LIBC = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: int) -> None:
    """Call the function `name`; where the system's C library has none of that name, nothing happens."""
    if hasattr(_LIBC, name):
        getattr(_LIBC, name)(*arguments)
