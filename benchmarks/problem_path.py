"""Counts the way of one problem through the code: files entered, moves between files and between packages.

The real scheduler samples one problem a step from the mock endpoint, with a real store. After a warm-up one problem is
followed from the moment in which its slot asks for it until its lesson is in the pool. Counted are calls of Python
functions in `pipeline/` and `prompts/`:

- a move is a call into another file than the caller's, that is the nearest frame below in one of these folders; a
  task's caller is who made it. Returns are no moves, nor is a coroutine or generator that goes on; the column
  `with returns` has both, and counts each time that the file in which something happens is another one;
- what would run in another thread runs in this one, at once, and what a timer calls is not counted: so counts repeat;
- a package is the first folder below `pipeline/`, or `prompts`; files beside these folders are `leaves`. A stage enters
  a package with a call from another one; calls from outside into the same package in a row are one entry, and packages
  `--aside` are left out. `entries with returns` also counts a package that goes on after another one returned.

The verifier scores in another process. What it does there is done in this one as well, and counted.

examples:
  python -m benchmarks.problem_path
  python -m benchmarks.problem_path --aside leaves --json path.json
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from functools import cache
from itertools import groupby
from pathlib import Path
from types import CodeType, FrameType
from typing import Any
from unittest import mock

from benchmarks.loop import accept_weights, scheduler_in
from benchmarks.machine import server
from benchmarks.script import Benchmark, Goal, Row
from pipeline.config import Config
from pipeline.experience.pool import Pool
from pipeline.inference.client import client_of
from pipeline.loop.rollouts import GroupSampler
from pipeline.problems.dataset import ProblemStream
from pipeline.rewards.scoring import Scoring
from pipeline.rewards.verifier import Verifier
from pipeline.runtime.stage_clock import StageClock
from pipeline.storage.journal import Journal

ROOT = Path(__file__).resolve().parent.parent
LEAVES = "leaves"
ASIDE = f"{LEAVES},runtime,config,run"
"""Clocks and watchdogs, settings and versions are at hand everywhere."""
STAGES = ("context", "rollouts", "reward", "journal", "lesson", "pool")
MOST_ENTRIES = 2  # the goal, for each package and stage
NUM_WARM_UP = 4  # problems before the one that is followed: imports, first uses, and lessons to be found
Hook = Callable[..., object]
Call = tuple[str, str, str]  # the stage, the file of the caller, that of the function
SUSPENDABLE = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


@cache
def file_of(code: CodeType) -> str:
    """Its path within the repository, empty where it is not ours."""
    path = Path(code.co_filename)
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
    return name if name.startswith(("pipeline/", "prompts/")) else ""


class Trace:
    """The calls of one problem."""

    def __init__(self) -> None:
        self._makers: dict[int, str] = {}
        self._stage = self._front = ""
        self.calls: list[Call] = []
        self.with_returns: Counter[str] = Counter()

    def begin(self, stage: str) -> None:
        """The first stage begins the count; others only follow one that is before them. Empty: none begins."""
        if stage == STAGES[0]:
            sys.setprofile(self._on_event)
        if stage == STAGES[0] or (self._stage and stage and STAGES.index(stage) > STAGES.index(self._stage)):
            self._stage = stage

    def end(self) -> None:
        if self._stage:
            sys.setprofile(None)

    def make_task(self, loop: Any, work: Any, **more: Any) -> asyncio.Task[Any]:
        """A task factory that remembers who made a task."""
        if self._stage and inspect.iscoroutine(work) and (makers := self._stack(sys._getframe(1))):
            self._makers[id(work.cr_frame)] = file_of(makers[0])
        return asyncio.Task(work, loop=loop, **more)

    def _stack(self, frame: FrameType | None) -> list[CodeType]:
        """Our functions below and with `frame`, the innermost first."""
        found = []
        while frame is not None:
            if file_of(frame.f_code):
                found.append(frame.f_code)
            frame = frame.f_back
        return found

    def _on_event(self, frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event not in ("call", "return") or not (file := file_of(code)):
            return
        _, *below = stack = self._stack(frame)
        if not stack[-1].co_flags & inspect.CO_COROUTINE:
            return
        self.with_returns[self._stage] += file != self._front
        self._front = file
        # A frame that goes on stands at an instruction RESUME, whose argument is 0 at the start of a function only.
        goes_on = code.co_flags & SUSPENDABLE and code.co_code[frame.f_lasti + 1] & 3
        if event == "call" and not goes_on:
            caller = file_of(below[0]) if below else self._makers.pop(id(frame), file)
            self.calls.append((self._stage, caller, file))


class InlineLoop(asyncio.SelectorEventLoop):
    """Runs at once what would run in a thread."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]
        done = self.create_future()
        done.set_result(func(*args))
        return done


def hook(
    hooks: ExitStack, owner: type, method: str, *, before: Hook = lambda *_: None, after: Hook = lambda *_: None
) -> None:
    """Have a method of a class call `before` and `after` with its arguments, until `hooks` are closed."""
    original = getattr(owner, method)

    async def awaited(work: Coroutine[Any, Any, Any], arguments: tuple[Any, ...]) -> Any:
        found = await work
        after(*arguments)
        return found

    def around(itself: Any, *arguments: Any, **named: Any) -> Any:
        before(*arguments)
        found = original(itself, *arguments, **named)
        if inspect.iscoroutine(found):
            return awaited(found, arguments)
        after(*arguments)
        return found

    hooks.enter_context(mock.patch.object(owner, method, around))


async def followed(config: Config, folder: Path, hooks: ExitStack) -> Trace:
    """The way of one problem. Raises RuntimeError when it did not go all the way."""
    trace, by_clock = Trace(), {"render": "rollouts", "rollout": "rollouts", "reward": "reward", "pool": "pool"}
    asyncio.get_running_loop().set_task_factory(trace.make_task)
    hook(
        hooks, ProblemStream, "problem_at", before=lambda index: trace.begin("context" if index == NUM_WARM_UP else "")
    )
    hook(hooks, StageClock, "stage", before=lambda name: trace.begin(by_clock.get(name, "")))
    hook(hooks, GroupSampler, "sample", after=lambda *_: trace.begin("journal"))
    hook(hooks, Journal, "append", after=lambda *_: trace.begin("lesson"))
    hook(hooks, Pool, "add", after=lambda *_: trace.end())
    scoring = Scoring(config.reward)
    hook(
        hooks,
        Verifier,
        "verify_group",
        after=lambda texts, task: list(scoring.verdicts([(text, task) for text in texts])),
    )
    async with client_of(config, config.endpoints) as endpoints, Verifier(config.reward) as verifier:
        await accept_weights(endpoints, 32_768)
        scheduler, journal = scheduler_in(folder, config, endpoints, verifier)
        await scheduler.run(0)
    (group,) = journal.read_step(NUM_WARM_UP, [])
    kind, num_lessons = group.context.kind, scheduler.totals.num_accepted
    if kind != "inter" or num_lessons != NUM_WARM_UP + 1:
        raise RuntimeError(f"a stage had nothing to do: context {kind}, {num_lessons} lessons of all problems")
    return trace


def package(file: str) -> str:
    top, folder, *inside = file.split("/")
    return top if top != "pipeline" else folder if inside else LEAVES


def counted(calls: list[Call], with_returns: int, aside: list[str]) -> dict[str, Any]:
    crossed = [(package(caller), package(file)) for _, caller, file in calls]
    visits = [name for name, _ in groupby(name for caller, name in crossed if name not in aside and caller != name)]
    fronts = [name for name, _ in groupby(name for _, name in crossed if name not in aside)]
    return {
        "calls": len(calls),
        "files": len({file for call in calls for file in call[1:]}),
        "moves between files": sum(caller != file for _, caller, file in calls),
        "moves between packages": sum(caller != name for caller, name in crossed),
        "with returns": with_returns,
        "sequence": visits,
        "entries": dict(Counter(visits).most_common()),
        "entries with returns": dict(Counter(fronts).most_common()),
    }


def listed(entries: dict[str, int]) -> str:
    return ", ".join(f"{name} {num}" for name, num in entries.items())


def measure(options: argparse.Namespace) -> Iterator[Row]:
    # One problem and one lesson a step; each prompt shows lessons of other problems, where there are any.
    values: dict[str, Any] = {
        "rollout": {"group_size": options.group_size, "num_problems_per_step": 1, "sampling": {"max_tokens": 400}},
        "feedback": {"ratio": 1.0, "intra_share": 0.0, "similarity_threshold": 0.3},
        "abstraction": {"num_per_step": 1, "max_tokens": 1000, "near_copy_threshold": 1.0},
        "learner": {"num_steps": NUM_WARM_UP + 1},
    }
    runner = asyncio.Runner(loop_factory=InlineLoop)
    with server(module="servers.mock") as url, tempfile.TemporaryDirectory() as folder, runner, ExitStack() as hooks:
        config = Config.model_validate({**values, "endpoints": [{"url": url}]})
        trace = runner.run(followed(config, Path(folder), hooks))
    aside, calls, fronts = options.aside.split(","), trace.calls, trace.with_returns
    by_stage = {name: counted([c for c in calls if c[0] == name], fronts[name], aside) for name in STAGES}
    result = {**by_stage, "all": counted(calls, fronts.total(), aside)}
    if options.json:
        files = sorted({file for call in calls for file in call[1:]})
        moves = Counter(f"{caller} → {file}" for _, caller, file in calls if caller != file)
        report = {
            "stages": result,
            "files": {file: package(file) for file in files},
            "moves": dict(moves.most_common()),
        }
        options.json.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
    for name, one in result.items():
        yield {"stage": name, **{key: value for key, value in one.items() if isinstance(value, int)}}
    for name, one in by_stage.items():
        most = max(one["entries"].values(), default=0)
        entries = {key: listed(one[key]) for key in ("entries", "entries with returns")}
        yield {"stage": name, "way": " → ".join(one["sequence"]), **entries, "most entries": most}


def goals(rows: list[Row]) -> list[Goal]:
    return [Goal.of(rows, "most entries", most=MOST_ENTRIES)]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--group-size", type=int, default=4, metavar="G", help="rollouts of the problem (default 4)")
    parser.add_argument("--aside", default=ASIDE, metavar="NAMES", help=f"packages that are no steps (default {ASIDE})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all counts, files and moves")


main = Benchmark(__file__, __doc__, add_options, measure, small={"group_size": 2}, goals=goals).main

if __name__ == "__main__":
    sys.exit(main())
