"""The folder of an evaluation: its answers, the replies that were paid for, the report.

evaluation.json   the identity of the model; another model needs another folder
plan.json         every cell that was planned: benchmark, mode, setting, problems, samples (`pipeline.evaluation.plan`)
answers.jsonl     each answer in the order of arrival: every prompt and reply on the way, verdict, retrieval trace
failures.jsonl    answers that could not be had, and why
replies.sqlite    every reply, by its request (`pipeline.inference.reply_cache`)
lessons/          copies of the pools that retrieval searched (`pipeline.evaluation.lessons`)
report.json, report.md, accuracy.svg, compute.svg
logs/             of this command, and of servers started here
lanpo_files.jsonl what of all this was written here (`pipeline.runtime.written`)

Invariants: what was answered is never dropped but by `fresh`; of two answers to one question the later one counts.
Nothing is replaced or removed that an evaluation did not write, and a folder that is not an evaluation's is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import ValidationError

from pipeline.config.evaluation import Mode
from pipeline.errors import RunFolderError
from pipeline.evaluation import legacy
from pipeline.evaluation.modes import Inferred
from pipeline.evaluation.plan import Plan, PlannedCell
from pipeline.runtime import jsonl
from pipeline.runtime.files import disk_error, try_lock, unused, write_atomic
from pipeline.runtime.written import Written, listed, make_folder
from pipeline.text import visible
from pipeline.types import Record, Verdict

R = TypeVar("R", bound=Record)
REPORTS = ("report.json", "report.md", "accuracy.svg", "compute.svg")
STATE = ("evaluation.json", "plan.json", "answers.jsonl", "failures.jsonl")
REPLIES = ("replies.sqlite", "replies.sqlite-wal", "replies.sqlite-shm")
LOCK = "lock"


class Answered(Record):
    """One line of answers.jsonl. `key` is the identity of all that the answer depends on, `verifier` that of the code
    that gave the verdict; `judged` is the verdict of the LLM `judge` beside it."""

    key: str
    benchmark: str
    problem_id: str
    family: str
    mode: Mode
    sample: int
    inferred: Inferred
    verdict: Verdict
    verifier: str = ""
    judged: Verdict | None = None
    judge: str = ""

    @property
    def cell(self) -> str:
        """The id of the planned cell that it belongs to."""
        return self.key.partition("-")[0]

    def judged_text(self, cell: PlannedCell) -> str:
        """What verdicts are on: the last reply, without its thinking where `cell` leaves it out."""
        return visible(self.inferred.turns[-1].text, strip=bool(cell.settings["strip_think"]))


class Failed(Record):
    """One line of failures.jsonl: `kind` is that of the EndpointError."""

    key: str
    kind: str
    detail: str


class EvalFolder:
    """Subclasses are of other commands that ask a model: `by` is the command, `files` are its own beside `reports`."""

    by: ClassVar = "eval"
    root: ClassVar = Path("evals")
    reports: ClassVar[tuple[str, ...]] = REPORTS
    files: ClassVar[tuple[str, ...]] = (*STATE, *REPLIES)

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.written = Written(self.path, by=self.by)
        self.identity_file = self.path / "evaluation.json"
        self.plan_file = self.path / "plan.json"
        self.answers_file = self.path / "answers.jsonl"
        self.failures_file = self.path / "failures.jsonl"
        self.replies_file = self.path / "replies.sqlite"
        self.lessons = self.path / "lessons"
        self.report_file = self.path / "report.json"
        self.page_file = self.path / "report.md"
        self.accuracy_plot = self.path / "accuracy.svg"
        self.compute_plot = self.path / "compute.svg"
        self.logs = self.path / "logs"

    @property
    def log_name(self) -> str:
        """Of this command's log, within the folder."""
        return f"logs/{self.by}.log"

    @contextmanager
    def opened(
        self, identity: list[dict[str, str]], *, fresh: bool = False, moved: bool = False, **facts: Any
    ) -> Iterator[None]:
        """`held`, then `identified`."""
        with self.held():
            self.identified(identity, fresh=fresh, moved=moved, **facts)
            yield

    @contextmanager
    def held(self, *more: str) -> Iterator[None]:
        """Hold the folder for one evaluation, which is going to write `more` files beside its own.

        Raises RunFolderError when another process holds it, when it is not an evaluation's, or when one of these files
        is somebody else's. Nothing is replaced or removed then."""
        self._check_ours()
        make_folder(self.path, "--out")
        with (self.path / LOCK).open("a") as lock:
            if not try_lock(lock):
                raise RunFolderError(
                    f"--out {self.path}: another evaluation is writing there; wait for it, or choose another folder"
                )
            if not self.written.is_there:
                legacy.adopt(self.written)
            self.written.check(*self.reports, option=f"--out {self.path}")
            self.written.claim(LOCK, self.log_name, *self.files, *more, option=f"--out {self.path}")
            yield

    def _check_ours(self) -> None:
        """Raise RunFolderError for a folder with files, of which none says that it is an evaluation's."""
        # A run has lists in its folders too, and they name no lock.
        if not self.path.exists() or self.written.is_listed(LOCK) or legacy.is_evaluation(self.path):
            return
        if not self.path.is_dir():
            raise RunFolderError(f"--out {self.path} is a file; choose another --out")
        # A command that was killed before it wrote anything leaves its lock.
        found = [one.name for one in self.path.iterdir() if one.name != LOCK or one.stat().st_size]
        if found:
            raise RunFolderError(
                f"--out {self.path} is no folder of an evaluation, and holds {listed(sorted(found))}; choose another "
                "--out, a new folder or an empty one"
            )

    def identified(
        self, identity: list[dict[str, str]], *, fresh: bool = False, moved: bool = False, **facts: Any
    ) -> None:
        """Say which model is evaluated: `identity` has a dictionary for each of its endpoints.

        With `moved` their 'url' may be another one than before. `fresh` removes what evaluations wrote here, but the
        logs. `facts` are written beside, and not compared. Raises RunFolderError when what the folder holds is of
        another model."""
        if fresh:
            self.written.remove_all(keep={LOCK, self.log_name})
            self.written.claim(*self.files)
        stored = json.loads(self.identity_file.read_text(encoding="utf-8")) if self.identity_file.exists() else {}
        before = stored.get("asked", identity)
        if before != identity:
            same_model = all(isinstance(one, dict) for one in before) and _without_urls(before) == _without_urls(
                identity
            )
            if not (moved and same_model):
                remedy = "if it is the same model at another address, add --moved; else c" if same_model else "c"
                raise RunFolderError(
                    f"--out {self.path} holds answers of {_text(before)}, and this evaluation is of {_text(identity)}; "
                    f"{remedy}hoose another --out, or ask everything anew with --fresh"
                )
        write_atomic(self.identity_file, json.dumps({**stored, **facts, "asked": identity}, indent=1))

    def plan(self) -> Plan:
        """Every cell that was planned. Raises RunFolderError for the folder of another version."""
        if not self.plan_file.exists() and self.answers_file.exists():
            raise RunFolderError(
                f"{self.path} was written by another version of lanpo; move {self.answers_file.name} away (the replies "
                "that were paid for stay), or choose another --out"
            )
        return Plan.read(self.plan_file)

    def answers(self) -> Iterator[Answered]:
        """Every answer so far. A last line that a kill cut short is left out."""
        return self._lines(self.answers_file, Answered)

    def failures(self) -> dict[str, str]:
        """The kind of each failure by the key of the question; some of them may have been answered since."""
        return {failed.key: failed.kind for failed in self._lines(self.failures_file, Failed)}

    def _lines(self, file: Path, kind: type[R]) -> Iterator[R]:
        for line in jsonl.whole_lines(file):
            try:
                yield kind.model_validate_json(line)
            except ValidationError as error:
                raise RunFolderError(
                    f"{file}: not of this version of lanpo ({error.error_count()} faults); move it away (the replies "
                    "that were paid for stay), or choose another --out"
                ) from error

    def drop_superseded(self) -> None:
        """Keep the last answer to each question. One line at a time is in memory, whatever their number. Raises
        DiskError."""
        last = {answer.key: number for number, answer in enumerate(self.answers())}
        temporary = unused(self.answers_file)
        keys = (answer.key for answer in self.answers())
        try:
            with temporary.open("xb") as kept:
                lines = zip(keys, jsonl.whole_lines(self.answers_file), strict=True)
                kept.writelines(line for number, (key, line) in enumerate(lines) if last[key] == number)
                kept.flush()
                os.fsync(kept.fileno())
            temporary.replace(self.answers_file)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise disk_error(error, self.answers_file) from error

    def write_report(self, name: str, content: str | bytes) -> None:
        """Raises RunFolderError where somebody changed the file of that name meanwhile, DiskError."""
        self.written.write(name, content, option=f"--out {self.path}")

    def make_logs(self) -> None:
        """answers.jsonl and failures.jsonl are there, and end with a whole line. Before the first `append`."""
        for file in (self.answers_file, self.failures_file):
            jsonl.truncate(file)

    def append(self, answer: Answered) -> None:
        """Raises DiskError."""
        jsonl.append(self.answers_file, answer.model_dump_json())

    def append_failure(self, failed: Failed) -> None:
        """Raises DiskError."""
        jsonl.append(self.failures_file, failed.model_dump_json())


def _without_urls(identity: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{name: value for name, value in one.items() if name != "url"} for one in identity]


def _text(identity: Any) -> str:
    """For the user; what another version of lanpo wrote as it is."""
    if not all(isinstance(one, dict) for one in identity):
        return str(identity)
    return ", ".join(" ".join(f"{name} {value!r}" for name, value in one.items() if value) for one in identity)
