"""Runs the orchestrator's event loop: uvloop where it is installed, and a garbage collector that runs less often.

Thousands of answers a second are parsed into objects that hold no cycles: collecting every 700 allocations, as Python
does by default, costs time and frees nothing (docs/lab-notebook.md)."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self, TypeVar

from pipeline.runtime import libc

T = TypeVar("T")
M_ARENA_MAX, NUM_HEAPS = -8, 2
COLLECT_EVERY = (50_000, 10, 50)
STOPS = (signal.SIGINT, signal.SIGTERM)
STOPPED = 130
THREADS_GRACE_S = 2.0


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


class Stops:
    """SIGINT and SIGTERM of this process: the first is given to `handle`, a second ends the process at once with status
    130. Its children notice, as they would after SIGKILL."""

    def __init__(self, handle: Callable[[], object]) -> None:
        self.handle = handle
        self.num = 0

    def __enter__(self) -> Self:
        in_main = threading.current_thread() is threading.main_thread()  # signals are handled in no other
        self._before = {number: signal.signal(number, self._received) for number in STOPS if in_main}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.num:  # else the process is ending, and a second signal must not meet Python's own handler
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _received(self, number: int, frame: FrameType | None) -> None:
        self.num += 1
        if self.num > 1:
            leave_at_once()
        self.handle()


def leave_at_once() -> NoReturn:
    """End this process with status 130, whatever its threads are doing."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(STOPPED)


_STOPS: ContextVar[Stops] = ContextVar("stops")


@contextmanager
def on_stop(handle: Callable[[], object]) -> Iterator[None]:
    """Within the block the first SIGINT or SIGTERM calls `handle` on the loop; a second one ends the process at once.
    Within `run`, and there in place of cancelling what runs."""
    loop, stops = asyncio.get_running_loop(), _STOPS.get()
    before, stops.handle = stops.handle, lambda: loop.call_soon_threadsafe(handle)
    try:
        yield
    finally:
        stops.handle = before


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end, as `asyncio.run` does. The first SIGINT or SIGTERM cancels it, or does what `on_stop`
    says; a second ends the process at once with status 130.

    Raises KeyboardInterrupt where a signal cancelled it. What still waits in a thread then gets `THREADS_GRACE_S`."""
    tuned()

    async def main() -> T:
        task = asyncio.current_task()
        assert task is not None
        with on_stop(task.cancel):
            return await work

    with Stops(lambda: None) as stops:
        _STOPS.set(stops)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            try:
                return runner.run(main())
            except asyncio.CancelledError:
                if not stops.num:
                    raise
                timer = threading.Timer(THREADS_GRACE_S, leave_at_once)
                timer.daemon = True
                timer.start()
                raise KeyboardInterrupt from None
