"""What keeps a process tree together: none of it outlives its owner. Linux only.

Invariants: a subreaper adopts the orphans among its descendants, so they stay findable below it; `end_tree` returns
when no descendant is left. Waiting is on events, never on a poll.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

import psutil

from pipeline.runtime import libc
from pipeline.runtime.child_process import Process

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Make this process the parent of its descendants' orphans."""
    libc.call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


async def end_tree(child: Process, grace_s: float) -> None:
    """SIGTERM to `child`, and after `grace_s` or its end SIGKILL to every descendant of this process. Returns when none
    is left."""
    child.terminate()
    with suppress(TimeoutError):
        await asyncio.wait_for(child.wait(), grace_s)
    child.kill()
    await child.wait()
    while below := psutil.Process().children(recursive=True):
        for process in below:
            with suppress(psutil.NoSuchProcess):  # ended meanwhile
                process.kill()
        # What a killed process started between look and kill is ours now: look again after each end.
        with suppress(ChildProcessError):  # what was seen is gone
            os.waitpid(-1, 0)  # noqa: ASYNC222 - they have been killed
