"""The shape that measuring scripts share: options, peers, a small form, tables of rows, goals, an exit status.

A script describes itself by one `Benchmark`, whose `main` takes the command line; `measure` yields rows, which are
printed as they come. `--small` runs it in seconds: sizes are tiny, endpoints mock, models random, and a peer that is
not installed is skipped by name. Its figures mean nothing, so goals are shown and not judged. `--out FILE` writes all
rows as JSON."""

from __future__ import annotations

import argparse
import json
import math
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.machine import described, heading, line, shown
from benchmarks.peers import PYTHON
from pipeline.errors import UserError
from servers.embedded import resolve

NOT_COUNTED = 3
"""Exit status of a comparison that does not count: a server was not three times as fast as its fastest client."""
HEADROOM = 3.0
TINY = "tiny"

Row = dict[str, Any]
"""Labels and numbers by column. None: it was not measured."""


class Peer(NamedTuple):
    """A program that is compared with, and how it gets installed. Only the optional ones may be missing."""

    name: str
    is_installed: Callable[[], bool]
    remedy: str
    is_optional: bool = False


WRK = Peer("wrk", lambda: shutil.which("wrk") is not None, "apt install wrk")
VERIFIERS = Peer("verifiers", PYTHON.exists, "python -m benchmarks.peers")
TANTIVY = Peer("tantivy", PYTHON.exists, "python -m benchmarks.peers", is_optional=True)


@dataclass(frozen=True)
class Goal:
    """Bounds of a measured value. A comparison that misses one of its conditions does not count."""

    name: str
    value: float | None
    least: float = -math.inf
    most: float = math.inf
    is_condition: bool = False

    @classmethod
    def of(
        cls, rows: Sequence[Row], column: str, *, least: float = -math.inf, most: float = math.inf, **more: bool
    ) -> Goal:
        """For the worst of those rows that have the column."""
        values = [row[column] for row in rows if row.get(column) is not None]
        worst = min if math.isfinite(least) else max
        return cls(column, worst(values, default=None), least, most, **more)

    @property
    def is_missed(self) -> bool:
        return self.value is not None and not self.least <= self.value <= self.most

    def __str__(self) -> str:
        kind = "condition" if self.is_condition else "goal"
        bound = f"≥ {self.least:g}" if math.isfinite(self.least) else f"≤ {self.most:g}"
        result = "not measured" if self.value is None else "MISSED" if self.is_missed else "reached"
        return f"{kind}: {self.name} {bound}: {shown(self.value)} {result}"


def headroom(rows: Sequence[Row], column: str) -> Goal:
    """The condition that a server is so much faster than its fastest client that the client is what is measured."""
    return Goal.of(rows, column, least=HEADROOM, is_condition=True)


def status(goals: Iterable[Goal]) -> int:
    missed = [goal for goal in goals if goal.is_missed]
    return NOT_COUNTED if any(goal.is_condition for goal in missed) else int(bool(missed))


def model_folder(name: str, folder: Path) -> str:
    """The model of that name, as model.path reads it; the small form's is tiny and random, and made in `folder`."""
    if name != TINY:
        return str(resolve(name))
    from tests.tiny_model import make_tiny_model

    return str(make_tiny_model(folder / TINY))


def _no_goals(rows: list[Row]) -> list[Goal]:
    return []


@dataclass(frozen=True)
class Benchmark:
    """A measuring script, by the path of its file."""

    file: str
    description: str | None
    add_options: Callable[[argparse.ArgumentParser], None]
    measure: Callable[[argparse.Namespace], Iterable[Row]]
    small: Mapping[str, Any]
    """What `--small` sets where the command line does not."""
    goals: Callable[[list[Row]], list[Goal]] = _no_goals
    peers: Sequence[Peer] = ()
    passes_on: bool = False
    """Whether options that it does not know are another command's: `options.more`."""

    @property
    def command(self) -> str:
        return f"python -m benchmarks.{Path(self.file).stem}"

    def options(self, arguments: Sequence[str]) -> argparse.Namespace:
        parser = argparse.ArgumentParser(
            prog=self.command, description=self.description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        self.add_options(parser)
        parser.add_argument(
            "--small", action="store_true", help="run in seconds: shows that it works, measures nothing"
        )
        parser.add_argument("--out", type=Path, metavar="FILE", help="write all rows as JSON")
        if parser.parse_known_args(arguments)[0].small:
            parser.set_defaults(**self.small)
        options, more = parser.parse_known_args(arguments)
        if more and not self.passes_on:
            parser.error(f"unrecognized arguments: {' '.join(more)}")
        options.more, options.missing = more, {peer.name for peer in self.peers if not peer.is_installed()}
        return options

    def _check_peers(self, options: argparse.Namespace) -> None:
        for peer in self.peers:
            if peer.name in options.missing:
                if not (options.small or peer.is_optional):
                    raise UserError(f"{peer.name} is not installed; {peer.remedy}")
                print(f"skipped: {peer.name} is not installed ({peer.remedy})", flush=True)

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Measure, print, judge. The exit status: 0, 1 for a missed goal, 2 for an error, 3 when it does not count."""
        given = sys.argv[1:] if arguments is None else arguments
        options, rows = self.options(given), list[Row]()
        print(described(shlex.join([*self.command.split(), *given])), flush=True)
        try:
            self._check_peers(options)
            for row in self.measure(options):
                if not rows or list(row) != list(rows[-1]):
                    print(f"\n{heading(row)}")
                print(line(row), flush=True)
                rows.append(row)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        if options.out:
            options.out.write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
        goals = self.goals(rows)
        print("", *goals, sep="\n")
        if options.small:
            print("small form: goals are not judged")
            return 0
        return status(goals)
