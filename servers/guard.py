"""`python -m servers.guard --grace-s S -- COMMAND…`: runs a command and lets nothing of it survive.

The launcher starts one guard per server and holds the guard's standard input. Invariant: when the guard ends, no
descendant of the command is left. It ends when

| waits for | woken by | then |
|---|---|---|
| the command's end | its pidfd | kills what the command left, exits with its status |
| the launcher's end, even by SIGKILL | end of standard input | ends the command and all its descendants |
| SIGTERM | the signal | the same |

Should the guard itself be killed, its orphans fall to the launcher, which is a subreaper as well and ends them.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import subprocess
import sys

from pipeline.runtime.child_process import Process, die_with_parent
from servers.process_tree import adopt_orphans, end_tree


async def guard(command: list[str], grace_s: float) -> int:
    """Run `command` until it or the launcher ends. Returns its exit status, 128 + n for signal n."""
    adopt_orphans()
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, asked.set)
    # Nothing is ever written there: once it can be read it is at its end.
    loop.add_reader(sys.stdin, asked.set)
    child = Process(
        subprocess.Popen(  # noqa: ASYNC220 - from this thread, whose end is to end it
            command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with_parent
        )
    )
    ends = [asyncio.create_task(child.wait()), asyncio.create_task(asked.wait())]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    loop.remove_reader(sys.stdin)
    # Where the command ended by itself, its children have nobody left to tell them, so they get no grace.
    await end_tree(child, grace_s)
    status = await child.wait()
    return status if status >= 0 else 128 - status


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m servers.guard", description="Run a command; let nothing of it survive."
    )
    parser.add_argument("--grace-s", type=float, default=10.0, help="seconds between SIGTERM and SIGKILL")
    parser.add_argument("command", nargs="+", help="the command and its arguments, after --")
    arguments = parser.parse_args(argv)
    return asyncio.run(guard(arguments.command, arguments.grace_s))


if __name__ == "__main__":
    sys.exit(main())
