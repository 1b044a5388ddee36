"""Progress of long work: a bar on a terminal; elsewhere a line every tenth, and every half minute.

On an event loop the line comes also while nothing gets done: a long answer may take minutes, and silence looks like a
hang."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from pipeline.observability.live_view import duration

T = TypeVar("T")
STATUS_EVERY_S = 0.5
LINE_EVERY_S = 30.0


def warn(what: object) -> None:
    """Print a line on standard error, at once."""
    print(what, file=sys.stderr, flush=True)


@contextmanager
def progress(name: str, total: int, status: Callable[[], str] = lambda: "") -> Iterator[Callable[[int], None]]:
    """A function that reports how many of `total` are done; `status` adds text, for example what it cost so far."""
    if sys.stdout.isatty():
        with _bar(name, total, status) as report:
            yield report
        return
    lines = _Lines(name, total, status)
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        yield lines.report
        return
    timer: asyncio.TimerHandle | None = None

    def look() -> None:
        nonlocal timer
        lines.look()
        timer = loop.call_later(LINE_EVERY_S / 10, look)

    look()
    try:
        yield lines.report
    finally:
        assert timer is not None
        timer.cancel()


def counted(items: Iterable[T], name: str, total: int, *, least: int, every: int = 1) -> Iterator[T]:
    """`items`, with the progress of whoever takes them where `total` is `least` or more; shown anew for `every` so
    many."""
    if total < least:
        yield from items
        return
    with progress(name, total) as report:
        for number, item in enumerate(items):
            if number % every == 0:
                report(number)
            yield item
        report(total)


class _Lines:
    """What was printed so far, and when."""

    def __init__(self, name: str, total: int, status: Callable[[], str]) -> None:
        self._name = name
        self._total = total
        self._status = status
        self._begin_s = self._printed_s = time.monotonic()
        self._num_tenths = self._done = 0
        self._first = -1
        """What was done before, and is not counted to the rate; unknown until the first call."""

    def report(self, done: int) -> None:
        if self._first < 0:
            self._first = done
        self._done = done
        if self._total and done * 10 // self._total > self._num_tenths and done > self._first:
            self._num_tenths = done * 10 // self._total
            self._line()
        else:
            self.look()

    def look(self) -> None:
        """Print a line where none was for a while."""
        if self._first >= 0 and time.monotonic() - self._printed_s >= LINE_EVERY_S:
            self._line()

    def _line(self) -> None:
        self._printed_s = time.monotonic()
        elapsed_s, num = self._printed_s - self._begin_s, self._done - self._first
        rate = num / elapsed_s if elapsed_s > 0 else 0.0
        left = f", {duration((self._total - self._done) / rate)} left" if rate and self._done < self._total else ""
        print(
            f"{self._done}/{self._total} {self._name} after {elapsed_s:.1f} s, {rate:,.1f} "
            f"{self._name}/s{left}{self._status()}",
            flush=True,
        )


@contextmanager
def _bar(name: str, total: int, status: Callable[[], str]) -> Iterator[Callable[[int], None]]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn(name),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
    )
    next_s = 0.0
    with Progress(*columns) as bar:
        task = bar.add_task(name, total=total, status="")

        def report(done: int) -> None:
            nonlocal next_s
            if time.monotonic() >= next_s:
                next_s = time.monotonic() + STATUS_EVERY_S
                bar.update(task, status=status().removeprefix(", "))
            bar.update(task, completed=done)

        yield report
