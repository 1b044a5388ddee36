"""Kills a process of the program at a named point, and writes down what it acknowledged and trained. No hook in the
program: Python imports `crash_site/sitecustomize.py` in every process that a test starts, which calls `install` here;
functions are wrapped when their module has been imported, before anybody else holds them.

`plan` makes the environment variable that says what to do. A point kills once, in however many processes it is passed.

The ledger is a file of its own, one line of JSON for each of these, written with one O_APPEND write: `acknowledged`
(ids of groups, when the journal's writer has answered who waited), `begins` (the step that a learner's first batch is
for, as its trainer counts them), `batch` (step, and the rollouts of each group in it), `trained` (steps completed, when
one was reported)."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.integration.crash_points import POINTS, Point

VARIABLE = "LANPO_TEST_CRASH"
SITE = Path(__file__).parent / "crash_site"
PROCESSES = {"pipeline.orchestrate": "orchestrator", "trainer.learner": "learner"}
# Maintenance is due so often, and forgets so soon, that a short run meets it, and finds versions gone after a resume.
SOON = timedelta(seconds=10)
CONSTANTS: dict[str, dict[str, Any]] = {
    "pipeline.loop.writers": {"MAINTAIN_JOURNAL_EVERY": 5, "MAINTAIN_POOL_EVERY": 1},
    "pipeline.storage.journal": {"KEEP_VERSIONS": SOON},
    "pipeline.experience.pool": {"KEEP_VERSIONS": SOON},
}

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


def plan(marks: Path, *, die_at: dict[str, int] | None = None, ledger: Path | None = None, often: bool = False) -> str:
    """What the variable holds: die at these points, by name, at the given passing; `marks` is a folder for what
    happened already. `often` makes maintenance of journal and pool frequent."""
    return json.dumps(
        {"marks": str(marks), "die_at": die_at or {}, "ledger": str(ledger) if ledger else None, "often": often}
    )


def resolved(target: str) -> tuple[Any, str]:
    """The module or class that holds what a dotted name names, and the last part of the name. Raises AttributeError,
    ImportError."""
    names = target.split(".")
    for length in range(len(names) - 1, 0, -1):
        module = ".".join(names[:length])
        if _is_module(module):
            owner: Any = importlib.import_module(module)
            for name in names[length:-1]:
                owner = getattr(owner, name)
            getattr(owner, names[-1])
            return owner, names[-1]
    raise ImportError(f"no part of {target} is a module")


def install() -> None:
    """Arm this process, if it is one of the program's that a test may kill."""
    role = next((name for module, name in PROCESSES.items() if module in sys.orig_argv), None)
    if role is None:
        return
    wanted = json.loads(os.environ[VARIABLE])
    wraps_of: dict[str, list[tuple[str, Wrap]]] = {}
    for name, passing in wanted["die_at"].items():
        if POINTS[name].who == role:
            _on(wraps_of, POINTS[name].target, _dying(POINTS[name], passing, Path(wanted["marks"]) / name))
    if wanted["ledger"]:
        for target, wrap in Ledger(Path(wanted["ledger"])).wraps.items():
            _on(wraps_of, target, wrap)
    constants = CONSTANTS if wanted["often"] else {}
    sys.meta_path.insert(0, _Hook(wraps_of, constants))
    for module in [name for name in wraps_of if name in sys.modules]:
        _patch(sys.modules[module], wraps_of[module])


class Ledger:
    """Appends what happened to one file, from several processes."""

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._has_begun = False
        self.wraps: dict[str, Wrap] = {
            "pipeline.runtime.batch_writer.BatchWriter.write": self._acknowledged,
            "trainer.batches.JournalReader.wait_for": self._begins,
            "trainer.batches.JournalReader._batch": self._batch,
            "trainer.step_log.StepLog.write": self._trained,
        }

    def _write(self, **line: Any) -> None:
        os.write(self._descriptor, (json.dumps(line) + "\n").encode())

    def _acknowledged(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        async def write(writer: Any, items: Sequence[Any]) -> None:
            await function(writer, items)
            if items and hasattr(items[0], "rollouts"):
                self._write(acknowledged=[group.id for group in items])

        return write

    def _begins(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def wait_for(reader: Any, step: int, *arguments: Any, **named: Any) -> Any:
            if not self._has_begun:
                self._has_begun = True
                self._write(begins=step)
            return function(reader, step, *arguments, **named)

        return wait_for

    def _batch(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def batch(reader: Any, step: int, groups: list[Any], *arguments: Any) -> Any:
            made = function(reader, step, groups, *arguments)
            rollouts = {group.id: [rollout.id for rollout in group.rollouts] for group in groups}
            self._write(batch=step, groups=rollouts, slots=[group.slot for group in groups], rows=len(made.rewards))
            return made

        return batch

    def _trained(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def write(log: Any, step: int, *arguments: Any, **named: Any) -> Any:
            result = function(log, step, *arguments, **named)
            self._write(trained=step)
            return result

        return write


class _Hook(MetaPathFinder):
    """Patches modules when they have been executed, which is before their importer goes on."""

    def __init__(self, wraps_of: dict[str, list[tuple[str, Wrap]]], constants: dict[str, dict[str, Any]]) -> None:
        self._wraps_of = wraps_of
        self._constants = constants

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._wraps_of and fullname not in self._constants:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        assert spec is not None and spec.loader is not None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            for name, value in self._constants.get(fullname, {}).items():
                getattr(module, name)
                setattr(module, name, value)
            _patch(module, self._wraps_of.get(fullname, []))

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _is_module(name: str) -> bool:
    try:
        return name in sys.modules or importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _on(wraps_of: dict[str, list[tuple[str, Wrap]]], target: str, wrap: Wrap) -> None:
    """Sort `wrap` under the module of `target`: names of ours begin with a capital, or one underscore, where modules
    end."""
    names = target.split(".")
    length = next((i for i, name in enumerate(names) if name.lstrip("_")[:1].isupper()), len(names) - 1)
    wraps_of.setdefault(".".join(names[:length]), []).append((".".join(names[length:]), wrap))


def _patch(module: ModuleType, wraps: list[tuple[str, Wrap]]) -> None:
    for path, wrap in wraps:
        *owners, name = path.split(".")
        owner: Any = module
        for part in owners:
            owner = getattr(owner, part)
        static = isinstance(inspect.getattr_static(owner, name), staticmethod)
        wrapped = wrap(getattr(owner, name))
        setattr(owner, name, staticmethod(wrapped) if static else wrapped)


def _dying(point: Point, passing: int, mark: Path) -> Wrap:
    num_passed = 0

    def concerns(arguments: Sequence[Any], named: dict[str, Any]) -> bool:
        values = [*arguments, *named.values()]
        return not point.only or any(point.only in f"{value} {getattr(value, 'uri', '')}" for value in values)

    def passed(when: str, arguments: Sequence[Any], named: dict[str, Any]) -> None:
        nonlocal num_passed
        if when != point.when or not concerns(arguments, named):
            return
        num_passed += 1
        if num_passed == passing:
            _die_once(mark)

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def later(*arguments: Any, **named: Any) -> Any:
                passed("before", arguments, named)
                result = await function(*arguments, **named)
                passed("after", arguments, named)
                return result

            return later

        @wraps(function)
        def immediate(*arguments: Any, **named: Any) -> Any:
            passed("before", arguments, named)
            result = function(*arguments, **named)
            passed("after", arguments, named)
            return result

        return immediate

    return wrap


def _die_once(mark: Path) -> None:
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
