"""How the orchestrator's event loop is run: uvloop where it is installed, and a garbage collector that looks less often.

Thousands of answers a second are parsed into objects that hold no cycles; collecting every 700 allocations, as Python does by
default, costs a fifth of the parsing and frees nothing (docs/lab-notebook.md)."""

from __future__ import annotations

import asyncio
import gc
import resource
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
COLLECT_EVERY = (50_000, 10, 50)


def many_files() -> None:
    """Raise the soft limit of open files, often 1024, to the hard one: each request in flight is a connection, and a file."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def tuned() -> None:
    """Set this process up: what is loaded by now is not looked through for garbage again, and open files are not scarce."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_EVERY)
    many_files()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, or None (asyncio's own) where it is not installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end, as `asyncio.run` does."""
    tuned()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(work)
