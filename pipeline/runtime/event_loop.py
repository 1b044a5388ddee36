"""Runs the orchestrator's event loop: uvloop where it is installed, and a garbage collector that runs less often.

Thousands of answers a second are parsed into objects that hold no cycles: collecting every 700 allocations, as Python
does by default, costs time and frees nothing (docs/lab-notebook.md)."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from pipeline.runtime import libc

T = TypeVar("T")
M_ARENA_MAX, NUM_HEAPS = -8, 2
COLLECT_EVERY = (50_000, 10, 50)


def many_files() -> None:
    """Raise the soft limit of open files, often 1024, to the hard one: each request in flight is a connection, and a
    file."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def tuned() -> None:
    """Set this process up: what is loaded by now is not looked through for garbage again, heaps are few, open files
    many."""
    # Threads, LanceDB's and ours, come and go by the dozen, and each would get a heap of its own, of which it gives
    # little back (docs/lab-notebook.md). Two or three of them allocate at a time.
    libc.call("mallopt", M_ARENA_MAX, NUM_HEAPS)
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


async def to_the_end(work: Awaitable[T]) -> T:
    """Await `work`; a cancellation is delivered when it is done: what has begun in a thread cannot be cancelled."""
    done = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        await asyncio.wait({done})
        raise


@contextmanager
def on_signal(handle: Callable[[], object]) -> Iterator[None]:
    """Within the block SIGINT and SIGTERM call `handle`, on the loop, and do nothing else."""
    loop, numbers = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, handle)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end, as `asyncio.run` does."""
    tuned()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(work)
