"""Folders of evaluations that earlier versions made, without a list of what they wrote (`pipeline.runtime.written`).

What they wrote is known by name and by content; what has the name alone is somebody else's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pipeline.config.loading import stored_config
from pipeline.errors import UserError
from pipeline.runtime.written import Written

IDENTITY = "evaluation.json"
_LOG_LINE = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ [\w.]+: |\{\"time\": |\Z")
_COPY = re.compile(r"[0-9a-f]{12}")
# What Lance makes within the folder of a table.
_TABLE_FOLDERS = ("_versions", "_transactions", "_indices", "_deletions", "data")
_TABLE_SUFFIXES = (".lance", ".manifest", ".txn", ".arrow", ".bin", ".json")
_TABLE_OF_REPLIES = b"CREATE TABLE replies (key TEXT PRIMARY KEY"
_TABLE, _LOCK, _NOTE = "pool.lance", "pool.lock", "source.json"


def is_evaluation(folder: Path) -> bool:
    """Whether an evaluation says there whom it asked."""
    try:
        return _is_identity(folder / IDENTITY)
    except (OSError, ValueError):
        return False


def adopt(written: Written) -> None:
    """List the files of an evaluation that are there, and are what they should be."""
    for name, is_ours in _STATE.items():
        written.adopt(name, is_ours)
    if written.owns("replies.sqlite"):
        for name in ("replies.sqlite-wal", "replies.sqlite-shm"):
            written.adopt(name, lambda path: True)
    for name, is_ours in _REPORTS.items():
        written.adopt(name, is_ours, replaced=True)
    for file in sorted(written.folder.glob("logs/*.log")):
        if re.fullmatch(r"(eval|model|launch-\d+|server-\d+)\.log", file.name):
            written.adopt(f"logs/{file.name}", _is_log if file.name == "eval.log" else lambda path: _is_served(path))
    for copy in sorted(written.folder.glob("lessons/*")):
        if _COPY.fullmatch(copy.name) and not copy.is_symlink():
            _adopt_copy(written, copy)


def _adopt_copy(written: Written, copy: Path) -> None:
    name = copy.relative_to(written.folder).as_posix()
    if not written.adopt(f"{name}/{_NOTE}", lambda path: {"source", "version", "own_version"} <= _json(path).keys()):
        return
    written.adopt(f"{name}/{_LOCK}", lambda path: path.stat().st_size < 1024)
    for file in sorted((copy / _TABLE).rglob("*")):
        inside = file.relative_to(copy / _TABLE)
        if inside.parts[0] in _TABLE_FOLDERS and file.suffix in _TABLE_SUFFIXES:
            written.adopt(file.relative_to(written.folder).as_posix(), lambda path: True)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _is_identity(path: Path) -> bool:
    found = _json(path)
    return isinstance(found, dict) and isinstance(found.get("asked"), list)


def _is_plan(path: Path) -> bool:
    return all({"benchmark", "mode", "settings"} <= cell.keys() for cell in _json(path))


def _has_lines_with(*names: str) -> Any:
    """Whether the first line of a file, if it has one, is an object with these names."""

    def look(path: Path) -> bool:
        with path.open("rb") as file:
            line = file.readline()
        return not line or set(names) <= json.loads(line).keys()

    return look


def _is_table(path: Path) -> bool:
    """Looked for as bytes: SQLite would make files beside a database that it only reads. After a kill the table may be
    in the log alone."""
    return any(file.is_file() and _TABLE_OF_REPLIES in _beginning(file) for file in (path, Path(f"{path}-wal")))


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1 << 20)


def _is_report(path: Path) -> bool:
    return {"name", "rows", "spent"} <= _json(path).keys()


def _is_page(path: Path) -> bool:
    """It begins with the name that the report beside it has."""
    return path.read_text(encoding="utf-8").startswith(
        f"# {_json(path.with_suffix('.json'))['name']}\n\n| benchmark | "
    )


def _is_log(path: Path) -> bool:
    with path.open("rb") as file:
        return _LOG_LINE.match(file.readline()) is not None


def _is_served(log: Path) -> bool:
    """Whether servers were started for this evaluation."""
    try:
        stored_config(log.parents[1] / "config.json")
    except (UserError, OSError, ValueError):
        return False
    return True


_STATE = {
    IDENTITY: _is_identity,
    "plan.json": _is_plan,
    "answers.jsonl": _has_lines_with("key", "inferred", "verdict"),
    "failures.jsonl": _has_lines_with("key", "kind", "detail"),
    "replies.sqlite": _is_table,
    "lock": lambda path: path.stat().st_size == 0,
    "config.json": lambda path: _is_served(path.parent / "logs" / "model.log"),
}
_REPORTS = {
    "report.json": _is_report,
    "report.md": _is_page,
    "accuracy.svg": lambda path: b": accuracy with 95 % intervals" in path.read_bytes(),
    "compute.svg": lambda path: b": accuracy against compute" in path.read_bytes(),
}
