"""The live view of a run: a rich table on a terminal, plain lines elsewhere. It only follows metrics.jsonl."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.run.metrics_log import read_metrics
from pipeline.types import DRAWN_KINDS, RESCUE_KINDS

REFRESH_S = 0.5
logger = logging.getLogger(__name__)


class Board:
    """The newest numbers, gathered from metric lines. Pure state, no terminal."""

    def __init__(self, num_steps: int) -> None:
        self.num_steps = num_steps
        self.sampled: dict[str, Any] = {}
        self.trained: dict[str, Any] = {}
        self.accuracy: dict[str, str] = {}
        self.alerts: list[str] = []
        self._finished_at: list[float] = []

    def update(self, line: dict[str, Any]) -> None:
        match line["event"]:
            case "step":
                self.sampled = line
            case "learner_step":
                self.trained = line
                self._finished_at.append(line["time_s"])
            case "eval":
                num = line.get("num_unanswered")
                self.accuracy[line["name"]] = f"{line['accuracy']:.1%}" + (f" ({num} unanswered)" if num else "")
            case "alert":
                self.alerts.append(str(line.get("message", "")))

    @property
    def eta_s(self) -> float | None:
        """Seconds left: the mean of the last steps times the steps left. None before two steps are done."""
        recent = self._finished_at[-6:]
        if len(recent) < 2:
            return None
        return (recent[-1] - recent[0]) / (len(recent) - 1) * (self.num_steps - int(self.trained["step"]))

    def rows(self) -> list[tuple[str, str]]:
        s, t = self.sampled, self.trained
        rewards = "  ".join(f"{kind} {_number(s.get(f'reward_{kind}'))}" for kind in self._kinds())
        return [
            ("step", f"{t.get('step', 0)} trained, {s.get('step', -1) + 1} sampled, of {self.num_steps}"),
            ("mean reward", f"{_number(s.get('reward'))}   ({rewards})"),
            *([("scores", self._scores())] if len(score_columns(s)) > 1 else ()),
            ("zero-variance groups", _share(s.get("share_zero_variance"))),
            ("held-out accuracy", "   ".join(f"{name} {value}" for name, value in self.accuracy.items()) or "-"),
            ("staleness", _number(t.get("staleness_max"), 0)),
            (
                "tokens/s",
                f"sampled {_number(s.get('sampled_tokens_per_s'), 0)}   trained {_number(_trained_rate(t), 0)}",
            ),
            ("pool", f"{s.get('pool_size', 0)} entries, {s.get('entries_rejected_total', 0)} rejected"),
            (
                "log-probability gap",
                f"mean {_number(t.get('logprob_gap_mean'), 5)}   max {_number(t.get('logprob_gap_max'), 4)}",
            ),
            ("KL / grad norm", f"{_number(t.get('kl'), 5)} / {_number(t.get('grad_norm'), 3)}"),
            ("seconds", "   ".join(f"{name} {_number(value, 1)}" for name, value in self._seconds())),
            ("ETA", "-" if self.eta_s is None else duration(self.eta_s)),
        ]

    def _kinds(self) -> Iterator[str]:
        """The kinds of contexts whose rewards are shown: those that are drawn, and rescues where there were any."""
        yield from (*DRAWN_KINDS, *(kind for kind in RESCUE_KINDS if self.sampled.get(f"num_{kind}")))

    def _scores(self) -> str:
        return " ".join(f"{n.removeprefix('score_')} {_number(self.sampled[n])}" for n in score_columns(self.sampled))

    def _seconds(self) -> Iterator[tuple[str, Any]]:
        yield "sample", self.sampled.get("sampled_s")
        for name in ("wait", "train", "publish", "reload"):
            yield name, self.trained.get(f"{name}_s")

    def line(self) -> str:
        """One plain line for the step that was just trained."""
        s, t = self.sampled, self.trained
        kinds = " ".join(f"{kind}={_number(s.get(f'reward_{kind}'), 2)}" for kind in self._kinds())
        parts = [
            f"step {t.get('step', 0)}/{self.num_steps}",
            f"reward {_number(s.get('reward'), 3)} ({kinds})",
            *([f"scores {self._scores()}"] if len(score_columns(s)) > 1 else ()),
            f"zero-var {_share(s.get('share_zero_variance'))}",
            f"stale {_number(t.get('staleness_max'), 0)}",
            f"kl {_number(t.get('kl'), 4)}",
            f"gap {_number(t.get('logprob_gap_mean'), 5)}",
            f"tok/s {_number(s.get('sampled_tokens_per_s'), 0)} sampled {_number(_trained_rate(t), 0)} trained",
            f"pool {s.get('pool_size', 0)} (-{s.get('entries_rejected_total', 0)})",
            "s " + " ".join(f"{name}={_number(value, 1)}" for name, value in self._seconds()),
            f"ETA {'-' if self.eta_s is None else duration(self.eta_s)}",
        ]
        return " | ".join(parts)


def score_columns(line: dict[str, Any]) -> list[str]:
    """The columns of a step's line that hold the mean of one scorer each."""
    return [name for name in line if name.startswith("score_")]


def _trained_rate(trained: dict[str, Any]) -> float | None:
    seconds, tokens = trained.get("train_s"), trained.get("num_trained_tokens")
    return tokens / seconds if seconds and tokens else None


def _number(value: Any, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _share(value: Any) -> str:
    return "-" if value is None else f"{value:.0%}"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"


class View:
    """What the user sees. `log` prints a line; `follow` keeps the board current from a metrics file."""

    def __init__(self, num_steps: int, *, live: bool | None = None) -> None:
        self._live_wanted = sys.stdout.isatty() if live is None else live
        self._begin = time.monotonic()
        self._live: Any = None
        self.board = Board(num_steps)

    def log(self, text: str) -> None:
        logger.info(text)
        stamp = f"[{duration(time.monotonic() - self._begin):>6}] "
        if self._live is not None:
            self._live.console.print(stamp + text, markup=False, highlight=False)
        else:
            print(stamp + text, flush=True)

    def warn(self, text: str) -> None:
        """As `log`, to standard error: what needs a look."""
        if self._live is not None:
            self.log(text)
            return
        logger.info(text)
        print(f"[{duration(time.monotonic() - self._begin):>6}] {text}", file=sys.stderr, flush=True)

    def progress(self, name: str) -> Any:
        """A callback (done, total) that logs every quarter."""
        last = 0

        def report(done: int, total: int) -> None:
            nonlocal last
            if done * 4 // total > last:
                last = done * 4 // total
                self.log(f"{name}: {done}/{total}")

        return report

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show the board while the block runs, when stdout is a terminal."""
        if not self._live_wanted:
            yield
            return
        from rich.live import Live

        with Live(self._table(), refresh_per_second=4, transient=False) as self._live:
            try:
                yield
            finally:
                self._live = None

    async def follow(self, metrics_file: Path) -> None:
        """Read new metric lines until cancelled."""
        offset = metrics_file.stat().st_size if metrics_file.exists() else 0
        while True:
            lines, offset = read_metrics(metrics_file, offset)
            for line in lines:
                self._show(line)
            if self._live is not None:
                self._live.update(self._table())
            await asyncio.sleep(REFRESH_S)

    def _show(self, line: dict[str, Any]) -> None:
        self.board.update(line)
        if line["event"] == "alert":
            self.log(f"ALERT: {line.get('message', '')}")
        elif line["event"] == "learner_step" and self._live is None:
            self.log(self.board.line())

    def _table(self) -> Any:
        from rich.table import Table

        table = Table(title="lanpo", show_header=False)
        for name, value in self.board.rows():
            table.add_row(name, value)
        return table
