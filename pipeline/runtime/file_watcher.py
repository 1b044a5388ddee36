"""Wakes a process up when another one wrote into a folder.

On a local disk the kernel reports it (inotify). Nothing reports what another machine wrote to a network disk or an
object store: so a wait ends after `LOOK_EVERY_S` at the latest, and whoever waits checks again in any case. Changes
since a `Changes` was made are not missed: make it, check, then wait."""

from __future__ import annotations

import asyncio
import contextlib
import select
import sys
from pathlib import Path
from typing import Any, Self

LOOK_EVERY_S = 1.0


class Changes:
    """Files that appear in `folder`, or are replaced there; None and what cannot be watched: time alone. Use as a
    context manager."""

    def __init__(self, folder: Path | None) -> None:
        self._notify = _watching(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._notify is not None:
            self._notify.close()

    def wait(self, *others: Any, timeout_s: float = LOOK_EVERY_S) -> None:
        """Return when something changed, one of `others` (file descriptors) can be read, or the time is over.
        Blocks."""
        select.select([*self._files(), *others], [], [], timeout_s)
        self._forget()

    async def changed(self) -> None:
        """Return when something changed, or the time is over. One coroutine at a time."""
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        for file in self._files():
            loop.add_reader(file, woken.set)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await woken.wait()
        finally:
            for file in self._files():
                loop.remove_reader(file)
        self._forget()

    def _files(self) -> list[Any]:
        return [] if self._notify is None else [self._notify]

    def _forget(self) -> None:
        if self._notify is not None:
            self._notify.read(timeout=0)


def _watching(folder: Path | None) -> Any:
    """An inotify instance that watches `folder`, or None where that cannot be had."""
    if folder is None or not sys.platform.startswith("linux"):
        return None
    from inotify_simple import INotify, flags

    try:
        notify = INotify()
    except OSError:  # no more of them for this user
        return None
    try:
        notify.add_watch(folder, flags.CREATE | flags.MOVED_TO)
    except OSError:
        notify.close()
        return None
    return notify
