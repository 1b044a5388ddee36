"""`python -m servers.guard --grace-s S -- COMMAND…`: runs a command and lets nothing of it survive.

The launcher starts one guard per server and holds the guard's standard input. Invariant: when the guard ends, no
descendant of the command is left. It ends when

| waits for | woken by | then |
|---|---|---|
| the command's end | SIGCHLD | kills what the command left, exits with its status |
| the launcher's end, even by SIGKILL | end of standard input | ends the command and all its descendants |
| SIGTERM | the signal | the same |

Should the guard itself be killed, its orphans fall to the launcher, which is a subreaper as well and ends them.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys

from servers.process_tree import Wakeups, adopt_orphans, die_with_parent, end_tree


def guard(command: list[str], grace_s: float) -> int:
    """Run `command` until it or the launcher ends. Returns its exit status, 128 + n for signal n."""
    adopt_orphans()
    launcher = sys.stdin.fileno()
    with Wakeups((signal.SIGTERM,)) as wakeups:
        # Forks for `preexec_fn`, in a process of one thread and nothing but the standard library.
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with_parent)
        while child.poll() is None and not wakeups.stop_requested:
            if wakeups.wait(also=(launcher,)) and not os.read(launcher, 4096):
                break
        # The command ended by itself: its children have nobody left to tell them, so they get no grace.
        end_tree(child, wakeups, grace_s)
    status = child.returncode
    return status if status >= 0 else 128 - status


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m servers.guard", description="Run a command; let nothing of it survive."
    )
    parser.add_argument("--grace-s", type=float, default=10.0, help="seconds between SIGTERM and SIGKILL")
    parser.add_argument("command", nargs="+", help="the command and its arguments, after --")
    arguments = parser.parse_args(argv)
    return guard(arguments.command, arguments.grace_s)


if __name__ == "__main__":
    sys.exit(main())
