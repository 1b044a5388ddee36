"""The folder of an evaluation: its answers, the replies that were paid for, the report. The same command goes on where it was.

evaluation.json   who was asked; another model needs another folder
answers.jsonl     each answer: every prompt and reply on the way, verdict, retrieval trace
replies.sqlite    every reply by what was asked (`pipeline.replies`)
report.json, report.md, accuracy.svg, compute.svg
logs/             of servers started here"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.errors import RunFolderError
from pipeline.eval_config import Mode
from pipeline.inference import Inferred
from pipeline.records import Record, Verdict
from pipeline.run import disk_error, taken, write_atomic


class Answered(Record):
    """One line of answers.jsonl. `key` is the identity of all that the answer depends on; `judged` is an LLM judge's verdict."""

    key: str
    benchmark: str
    problem_id: str
    family: str
    mode: Mode
    sample: int
    inferred: Inferred
    verdict: Verdict
    judged: Verdict | None = None

    @property
    def num_prompt_tokens(self) -> int:
        return sum(turn.num_prompt_tokens for turn in self.inferred.turns)

    @property
    def num_completion_tokens(self) -> int:
        return sum(turn.num_completion_tokens for turn in self.inferred.turns)

    @property
    def num_tokens(self) -> int:
        return self.num_prompt_tokens + self.num_completion_tokens

    @property
    def finish_reason(self) -> str:
        return self.inferred.turns[-1].finish_reason


class EvalFolder:
    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.identity_file = self.path / "evaluation.json"
        self.answers_file = self.path / "answers.jsonl"
        self.replies_file = self.path / "replies.sqlite"
        self.report_file = self.path / "report.json"
        self.page_file = self.path / "report.md"
        self.accuracy_plot = self.path / "accuracy.svg"
        self.compute_plot = self.path / "compute.svg"
        self.logs = self.path / "logs"

    @contextmanager
    def opened(self, identity: dict[str, Any], *, fresh: bool = False) -> Iterator[None]:
        """Hold the folder for evaluating `identity`; `fresh` throws away what it holds.

        Raises RunFolderError when another process holds it, or when what it holds is of another identity."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("w") as lock:
            if not taken(lock):
                raise RunFolderError(
                    f"--out {self.path}: another evaluation is writing there; wait for it, or choose another folder"
                )
            if fresh:
                self._clear()
            self._claim(identity)
            yield

    def _clear(self) -> None:
        for file in self.path.glob("*"):
            if file.name.startswith(
                ("evaluation.json", "answers.jsonl", "replies.sqlite", "report.", "accuracy.", "compute.")
            ):
                file.unlink()
        shutil.rmtree(self.logs, ignore_errors=True)

    def _claim(self, identity: dict[str, Any]) -> None:
        known = json.loads(self.identity_file.read_text(encoding="utf-8")) if self.identity_file.exists() else {}
        for name, value in identity.items():
            if name in known and known[name] != value:
                raise RunFolderError(
                    f"--out {self.path} holds answers of {name} = {known[name]!r}, and this evaluation is of {value!r}; choose another "
                    "--out, or ask everything anew with --fresh"
                )
        write_atomic(self.identity_file, json.dumps(known | identity, indent=1))

    def answers(self) -> Iterator[Answered]:
        """What was answered so far. A last line that a kill cut short is left out."""
        if not self.answers_file.exists():
            return
        with self.answers_file.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    return
                try:
                    yield Answered.model_validate_json(line)
                except ValidationError as error:
                    raise RunFolderError(
                        f"{self.answers_file}: no answers of this version of lanpo ({error.error_count()} faults); choose another --out, "
                        "or ask everything anew with --fresh"
                    ) from error

    def rewrite(self, answers: Iterable[Answered]) -> None:
        """Replace answers.jsonl by `answers`."""
        write_atomic(self.answers_file, "".join(answer.model_dump_json() + "\n" for answer in answers))

    @contextmanager
    def appending(self) -> Iterator[AnswerLog]:
        """A log at the end of answers.jsonl; a line that was cut short is removed first."""
        file = os.open(self.answers_file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            os.ftruncate(file, _whole(self.answers_file))
            os.lseek(file, 0, os.SEEK_END)
            yield AnswerLog(file, self.answers_file)
        finally:
            os.close(file)


class AnswerLog:
    """Each line with one write, so that a kill leaves whole lines and at most one cut short at the end."""

    def __init__(self, file: int, path: Path) -> None:
        self._file = file
        self._path = path

    def append(self, answer: Answered) -> None:
        """Raises DiskError."""
        line = (answer.model_dump_json() + "\n").encode()
        try:
            while line:
                line = line[os.write(self._file, line) :]
        except OSError as error:
            raise disk_error(error, self._path) from error


def _whole(path: Path) -> int:
    """Bytes up to the end of the last whole line."""
    with path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        while position:
            begin = max(0, position - (1 << 16))
            file.seek(begin)
            found = file.read(position - begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            position = begin
    return 0
