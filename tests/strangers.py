"""Folders that hold somebody else's files, with the names that an evaluation gives its own."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

Fill = Callable[[Path], None]


class Strangers(NamedTuple):
    """`fill` puts somebody's files into a folder, which was an evaluation's before (`ours`), made by a version without
    a list (`legacy`), or never was one. `refused` is a word of the error, empty where the evaluation goes on beside
    them."""

    fill: Fill
    base: str = "never"
    refused: str = ""


class Kept(NamedTuple):
    content: bytes
    mode: int
    mtime_ns: int
    inode: int


def state_of(files: list[Path]) -> dict[str, Kept]:
    """All that must not change of these files; links as links."""
    return {str(file): _kept(file) for file in files}


def _kept(file: Path) -> Kept:
    status = file.lstat()
    content = str(file.readlink()).encode() if file.is_symlink() else file.read_bytes()
    return Kept(content, status.st_mode, status.st_mtime_ns, status.st_ino)


def files_in(folder: Path) -> Iterator[Path]:
    """Every file and link, at any depth."""
    return (path for path in sorted(folder.rglob("*")) if path.is_symlink() or path.is_file())


def texts(**files: str) -> Fill:
    """Files by their names, in which __ stands for a slash and _dot_ for a dot."""

    def fill(folder: Path) -> None:
        for name, content in files.items():
            path = folder / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_text(content, encoding="utf-8")

    return fill


def _database(folder: Path) -> None:
    (folder / "replies.sqlite").unlink(missing_ok=True)
    with closing(sqlite3.connect(folder / "replies.sqlite")) as database, database:
        database.execute("CREATE TABLE letters (sender TEXT, body TEXT)")
        database.execute("INSERT INTO letters VALUES ('Ada', 'Dear Charles')")


def _link(folder: Path) -> None:
    elsewhere = folder.parent / "elsewhere"
    texts(thesis_dot_log="my measurements")(elsewhere)
    (folder / "logs").symlink_to(elsewhere)


def _everything(folder: Path) -> None:
    for name in ("evaluation.json", "plan.json", "answers.jsonl", "failures.jsonl", "report.json", "config.json"):
        (folder / name).write_text(json.dumps({"mine": name}), encoding="utf-8")
    for name in (
        "report.md",
        "accuracy.svg",
        "compute.svg",
        "lock",
        "logs/eval.log",
        "lessons/0123456789ab/source.json",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine", encoding="utf-8")
    _database(folder)


ELSE = "is no folder of an evaluation, and holds "
CHANGED = "was written, or changed, by somebody else"
BESIDE = texts(
    report_dot_tex="\\documentclass{article}", report_dot_pdf="%PDF", accuracy_dot_xlsx="PK", compute_dot_py="print(1)",
    plan_dot_json_dot_orig="{}", answers_dot_jsonl_dot_bak="{}", evaluation_dot_json_dot_old="{}", lanpo_dot_md="notes",
)  # fmt: skip
FOLDERS = {
    "logs": Strangers(texts(logs__thesis_dot_log="a"), refused=ELSE),
    "lessons": Strangers(texts(lessons__week_1_dot_md="a", lessons__week_2__notes_dot_md="b"), refused=ELSE),
    "reports": Strangers(texts(report_dot_md="a", report_dot_tex="b", report_dot_pdf="c"), refused=ELSE),
    "plots": Strangers(texts(accuracy_dot_svg="<svg/>", compute_dot_svg="<svg/>"), refused=ELSE),
    "answers": Strangers(texts(answers_dot_jsonl='{"question": 1}\n'), refused=ELSE),
    "failures": Strangers(texts(failures_dot_jsonl='{"part": "valve"}\nand more'), refused=ELSE),
    "a database": Strangers(_database, refused=ELSE),
    "a plan": Strangers(texts(plan_dot_json='[{"task": "write chapter 3"}]'), refused=ELSE),
    "an identity of another program": Strangers(texts(evaluation_dot_json='{"grade": 1.3}'), refused=ELSE),
    "a lock": Strangers(texts(lock="held by the other program"), refused=ELSE),
    "configuration": Strangers(texts(config_dot_json="{}", locks__run="x"), refused=ELSE),
    "a link": Strangers(_link, refused=ELSE),
    "everything": Strangers(_everything, refused=ELSE),
    "a list of another program": Strangers(texts(lanpo_files_dot_jsonl="a,b\n"), refused="is no list of files"),
    "a list that reaches out": Strangers(
        texts(lanpo_files_dot_jsonl='{"path": "../elsewhere.txt"}\n', thesis_dot_md="mine"), refused=ELSE
    ),
    "beside ours": Strangers(BESIDE, "ours"),
    "within our folders": Strangers(
        texts(logs__notes_dot_txt="a", logs__training__run_dot_log="b", lessons__course_dot_md="c"), "ours"
    ),
    "names of ours that this evaluation does not use": Strangers(
        texts(config_dot_json="{}", servers_dot_json="{}", logs__server_0_dot_log="x", locks__run="x"), "ours"
    ),
    "a report that was edited": Strangers(texts(report_dot_md="# Mine now"), "ours", CHANGED),
    "a plot in place of ours": Strangers(texts(accuracy_dot_svg="<svg>mine</svg>"), "ours", CHANGED),
    "beside a legacy one": Strangers(BESIDE, "legacy"),
    "within a legacy one": Strangers(
        texts(
            logs__notes_dot_txt="a", logs__server_0_dot_log="x", lessons__course_dot_md="c",
            lessons__1ffb3ce9882e__mine_dot_md="m", lessons__1ffb3ce9882e__pool_dot_lance__mine_dot_txt="m",
            lessons__0123456789ab__source_dot_json='{"isbn": 3}', config_dot_json='{"mine": 1}',
        ),
        "legacy",
    ),
    "a report of theirs in a legacy one": Strangers(texts(report_dot_md="# Mine"), "legacy", CHANGED),
    "a database of theirs in a legacy one": Strangers(
        _database, "legacy", CHANGED
    ),
}  # fmt: skip
