"""Memory of a command and all processes that it starts: PSS, summed each second, by kind of process.

PSS counts a page that several processes share once, divided among them, so that the sum is what the machine must have.
The default command is the quickstart. Peaks between two looks are missed.

examples:
  python -m benchmarks.memory                                                # the quickstart; about 20 minutes
  python -m benchmarks.memory --timeline quickstart.json -- make run
  python -m benchmarks.memory python -m pipeline.orchestrate train --recipe grpo
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.script import Benchmark, Goal, Row
from pipeline.errors import UserError

GOAL_GIB = 7.0
ALL = "all"
QUICKSTART = [sys.executable, "-m", "pipeline.orchestrate"]
KINDS = {
    "pipeline.orchestrate": "orchestrator",
    "trainer.learner": "learner",
    "trainer.sft": "SFT",
    "pipeline.rewards.worker": "verifier workers",
    "servers.launch": "vLLM launcher",
    "servers.embed": "embedder",
    "vllm.entrypoints.openai.api_server": "vLLM API server",
    "VLLM::EngineCore": "vLLM engine core",
}
"""By module, or by the title that a process gives itself."""


class Look(NamedTuple):
    """PSS in bytes and number of processes, by kind, at one moment."""

    at_s: float
    pss: Counter[str]
    num: Counter[str]


def kind_of(command: Sequence[str]) -> str:
    """What a process is, by its command line: its module or its title, else its program."""
    words = [word for part in command for word in part.split()]
    if not words:
        return "ended"
    module = next((after for word, after in itertools.pairwise(words) if word == "-m"), "")
    return KINDS.get(module) or KINDS.get(words[0]) or module or Path(words[0]).name


def pss_of(pid: int) -> int:
    """Bytes; 0 for a process that has ended."""
    with suppress(OSError):
        if found := re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE):
            return int(found[1]) * 1024
    return 0


def look(root: psutil.Process, at_s: float) -> Look:
    """Of `root` and all processes below it."""
    pss, num, found = Counter[str](), Counter[str](), [root]
    with suppress(psutil.NoSuchProcess):
        found += root.children(recursive=True)
    for one in found:
        with suppress(psutil.Error):  # ended meanwhile
            kind = kind_of(one.cmdline())
            pss[kind] += pss_of(one.pid)
            num[kind] += 1
    return Look(at_s, pss, num)


def watched(command: Sequence[str], every_s: float) -> tuple[list[Look], int]:
    """What was seen until the command ended, and its exit status. Raises UserError where it cannot be started."""
    try:
        process = subprocess.Popen(command)
    except OSError as error:
        raise UserError(f"{command[0]}: cannot be started: {error}") from error
    root, begin_s, looks = psutil.Process(process.pid), time.monotonic(), list[Look]()
    try:
        while process.poll() is None:
            looks.append(look(root, time.monotonic() - begin_s))
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, begin_s + every_s * len(looks) - time.monotonic()))
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    return looks, process.returncode


def rows_of(looks: Sequence[Look]) -> Iterator[Row]:
    """All processes first, then by kind, the largest at that peak first."""
    peak = max(looks, key=lambda look: look.pss.total())
    yield _row(ALL, [look.pss.total() for look in looks], [look.num.total() for look in looks], peak.pss.total(), peak)
    for kind in sorted({kind for look in looks for kind in look.pss}, key=lambda kind: -peak.pss[kind]):
        yield _row(kind, [look.pss[kind] for look in looks], [look.num[kind] for look in looks], peak.pss[kind], peak)


def _row(kind: str, pss: list[int], num: list[int], at_peak: int, peak: Look) -> Row:
    return {
        "processes": kind,
        "most at once": max(num),
        "peak, MiB": max(pss) / 2**20,
        "at the peak of all, MiB": at_peak / 2**20,
        "median, MiB": statistics.median(pss) / 2**20,
        "peak of all after, s": peak.at_s,
    }


def measure(options: argparse.Namespace) -> Iterator[Row]:
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    command = command or (SMALL_COMMAND if options.small else QUICKSTART)
    looks, status = watched(command, options.every_s)
    if options.timeline:
        options.timeline.write_text(json.dumps([look._asdict() for look in looks]), encoding="utf-8")
    yield from rows_of(looks)
    if status:
        raise UserError(f"{shlex.join(command)}: exit status {status}; the figures are of what ran until then")


def goals(rows: list[Row]) -> list[Goal]:
    of_all = next(row["peak, MiB"] for row in rows if row["processes"] == ALL)
    return [Goal("PSS of all processes, GiB", of_all / 1024, most=GOAL_GIB)]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--every-s", type=float, default=1.0)
    parser.add_argument("--timeline", type=Path, metavar="FILE", help="write every look as JSON")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run; the quickstart if none is given")


SMALL_COMMAND = ["sh", "-c", "sleep 0.2; true"]
SMALL = {"every_s": 0.01}
main = Benchmark(__file__, __doc__, add_options, measure, SMALL, goals).main

if __name__ == "__main__":
    sys.exit(main())
