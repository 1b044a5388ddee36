"""Nothing of the user's is deleted or overwritten (docs/promises.md: 24): every option that removes or replaces, over
folders that hold somebody else's files with our names."""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.evaluation.folder import EvalFolder
from pipeline.experience.pool import Pool
from pipeline.runtime.written import LIST
from tests.builders import experience, run_with_lessons
from tests.integration.command_line import Command
from tests.integration.conftest import StartMock
from tests.integration.make_old_run import CODE, EVALUATION, PYTHON, ROOT, moved
from tests.integration.test_old_run import FIXTURE
from tests.strangers import FOLDERS, Strangers, files_in, state_of, texts
from tests.tiny_model import make_tiny_model

# The others take the same way; with real processes, all of them: -m slow.
FEW = ("everything", "beside ours", "within a legacy one")


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    file = tmp_path / "sums.jsonl"
    file.write_text("\n".join(json.dumps({"question": f"What is {n} + 3?", "answer": str(n + 3)}) for n in range(2)))
    return file


def legacy_evaluation(tmp_path: Path, repository: Path) -> Path:
    """What commit 790bb89 left."""
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(tmp_path / "old", filter="data")
    moved(tmp_path / "old", {ROOT: str(tmp_path / "old"), CODE: str(repository), PYTHON: sys.prefix})
    return tmp_path / "old" / EVALUATION


def cases() -> list[Any]:
    return [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in FOLDERS]


@pytest.mark.parametrize("name", cases())
async def test_a_fresh_evaluation_touches_nothing_that_it_did_not_write(
    tmp_path: Path, repository: Path, start_mock: StartMock, questions: Path, name: str
) -> None:
    strangers, folder = FOLDERS[name], tmp_path / "e"
    arguments = ("--endpoint", (await start_mock()).url, "--benchmark", str(questions), "--moved")
    if strangers.base == "ours":
        status, _, err = await Command(tmp_path, repository, "eval", *arguments, "--out", "e").run()
        assert status == 0, err
    if strangers.base == "legacy":
        folder = legacy_evaluation(tmp_path, repository)
    await _fresh(strangers, Command(tmp_path, repository, "eval", *arguments, "--out", str(folder)), folder)


async def _fresh(strangers: Strangers, command: Command, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    before = {str(file) for file in files_in(folder)} if not strangers.refused else set()
    strangers.fill(folder)
    theirs = [file for file in files_in(folder) if str(file) not in before]
    state = state_of(theirs)
    for more in ((), ("--fresh",)):
        status, _, err = await command.run(*more)
        assert state_of(theirs) == state
        if strangers.refused:
            assert (status, "Traceback" in err) == (2, False), err
            assert strangers.refused in err
            assert "choose another" in err
            list_of_ours = set() if strangers.base == "never" else {folder / LIST}
            assert {*files_in(folder)} - list_of_ours == {*theirs} - list_of_ours, "nothing else is left there either"
        else:
            assert status == 0, err
    if not strangers.refused:
        assert len(list(EvalFolder(folder).answers())) == 2, "what was ours was thrown away, and asked anew"


async def test_what_a_load_test_replaces_is_its_own(tmp_path: Path, repository: Path, start_mock: StartMock) -> None:
    url = (await start_mock()).url
    command = Command(tmp_path, repository)

    async def stress(out: str) -> tuple[int, str]:
        words = ("--endpoint", url, "--model", "policy", "--requests", "4", "--out", out)
        process = await command.start("stress", *words)
        _, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, err.decode()

    for out in ("s", "s"):
        assert await stress(out) == (0, "")
    for content in (texts(report_dot_json='{"mine": 1}'), texts(mock_dot_log="mine"), texts(latency_dot_svg="mine")):
        folder = tmp_path / "theirs"
        folder.mkdir(exist_ok=True)
        for file in folder.iterdir():
            file.unlink()
        content(folder)
        state = state_of(list(files_in(folder)))
        status, err = await stress("theirs")
        assert (status, "move it away, or choose another folder" in err) == (2, True), err
        assert state_of(list(files_in(folder))) == state


async def test_a_folder_of_one_command_is_refused_by_another(
    tmp_path: Path, repository: Path, start_mock: StartMock, questions: Path
) -> None:
    url, run = (await start_mock()).url, run_with_lessons(tmp_path, "What is 4 + 4?")
    commands = {
        "eval": ("eval", "--endpoint", url, "--benchmark", str(questions)),
        "stress": ("stress", "--endpoint", url, "--model", "policy", "--requests", "4"),
        "audit": ("audit", str(run.path)),
    }
    command = Command(tmp_path, repository)
    for first, words in commands.items():
        process = await command.start(*words, "--out", first)
        _, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        state = state_of(list(files_in(tmp_path / first)))
        for other in commands.keys() - {first}:
            for more in ((), ("--fresh",)) if other == "eval" else ((),):
                process = await command.start(*commands[other], "--out", first, *more)
                _, err = await process.communicate()
                assert (process.returncode, "Traceback" in err.decode()) == (2, False), err.decode()
                assert f"is the folder of a command `{first}`" in err.decode()
        assert state_of(list(files_in(tmp_path / first))) == state


async def test_a_place_that_cannot_be_is_refused_before_anything_is_done(
    tmp_path: Path, repository: Path, start_mock: StartMock, questions: Path
) -> None:
    url, run = (await start_mock()).url, run_with_lessons(tmp_path, "What is 4 + 4?")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    for out, *words in (
        ("dangling", "sft"), ("/dev/null/x", "sft"), ("file/x", "sft"), ("dangling", "audit", str(run.path)),
        ("file/x", "eval", "--endpoint", url, "--benchmark", str(questions)),
        ("dangling", "stress", "--endpoint", url, "--model", "policy", "--requests", "4"),
    ):  # fmt: skip
        process = await Command(tmp_path, repository).start(*words, "--out", out)
        _, err = await process.communicate()
        assert (process.returncode, "Traceback" in err.decode()) == (2, False), (words, err.decode())
        assert out in err.decode()
    assert sorted(tmp_path.rglob("*")) == before


async def test_a_refused_sft_leaves_no_run(tmp_path: Path, repository: Path, questions: Path) -> None:
    make_tiny_model(tmp_path / "model", hidden_size=16)
    words = ("--model.path", str(tmp_path / "model"), "--problems.source", str(questions), "--run.root", "runs")
    process = await Command(tmp_path, repository).start("sft", *words, "--sft.enabled", "true")
    _, err = await process.communicate()
    assert (process.returncode, "Traceback" in err.decode()) == (2, False), err.decode()
    assert "sft" in err.decode()
    assert not list((tmp_path / "runs").glob("*"))


async def test_audit_export_and_sft_write_over_nothing(tmp_path: Path, repository: Path) -> None:
    run = run_with_lessons(tmp_path, "What is 4 + 4?")
    command = Command(tmp_path, repository)
    theirs = tmp_path / "theirs"
    texts(audit_dot_html="mine", lessons_dot_jsonl="mine", model__notes_dot_txt="mine")(theirs)
    state = state_of(list(files_in(theirs)))
    for words, message in (
        (("audit", str(run.path), "--out", "theirs"), "audit.html in theirs was written, or changed, by somebody else"),
        (("pool", "export", str(run.path), "theirs/lessons.jsonl"), "exists already, and nothing is written over it"),
        (("sft", "--out", "theirs/model"), "exists already; name a folder that does not"),
    ):
        process = await command.start(*words)
        _, err = await process.communicate()
        assert (process.returncode, message in err.decode()) == (2, True), err.decode()
    assert state_of(list(files_in(theirs))) == state
    for _ in range(2):
        process = await command.start("audit", str(run.path))
        _, err = await process.communicate()
        assert process.returncode == 0, err.decode()


async def test_a_legacy_evaluation_goes_on_and_is_thrown_away_only_when_told(
    tmp_path: Path, repository: Path, start_mock: StartMock, questions: Path
) -> None:
    """The lessons that it was shown among it."""
    folder = legacy_evaluation(tmp_path, repository)
    run = run_with_lessons(tmp_path, "What is 40 + 4?")
    Pool(run.store).add([experience(2, "p2", "What is 41 + 4?")])
    before = len(list(EvalFolder(folder).answers()))
    url = (await start_mock()).url
    words = ("--endpoint", url, "--benchmark", str(questions), "--moved", "--out", str(folder))
    command = Command(tmp_path, repository, "eval", *words, "--mode", "retrieval", "--pool", str(run.path))
    status, _, err = await command.run()
    assert status == 0, err
    assert len(list(EvalFolder(folder).answers())) == before + 2
    assert len(list(folder.glob("lessons/*"))) == 2
    status, _, err = await command.run("--fresh")
    assert status == 0, err
    assert len(list(EvalFolder(folder).answers())) == 2
    assert len(list(folder.glob("lessons/*"))) == 1, "both copies went, and one is made anew"
