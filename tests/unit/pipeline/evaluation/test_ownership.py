"""Every folder of somebody else's files: an evaluation goes on beside them, or refuses the folder, and touches none."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from pipeline.errors import RunFolderError
from pipeline.evaluation.folder import REPORTS, EvalFolder
from pipeline.runtime.written import LIST, Written
from tests.strangers import FOLDERS, files_in, state_of, texts
from tests.unit.pipeline.evaluation.test_folder import WHO, answered

LEGACY = Path(__file__).parents[3] / "data" / "run_790bb89.tar.xz"


@pytest.fixture(scope="module")
def legacy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation as a version without a list left it."""
    folder = tmp_path_factory.mktemp("legacy")
    with tarfile.open(LEGACY) as archive:
        archive.extractall(folder, filter="data")
    return folder / "evals" / "old"


def ours(folder: EvalFolder) -> None:
    with folder.opened(WHO):
        folder.make_logs()
        folder.append(answered(0))
        folder.logs.mkdir()
        (folder.logs / "eval.log").write_text("a line\n")
        for name in REPORTS:
            folder.write_report(name, name)


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("fresh", [False, True])
def test_nothing_of_theirs_is_touched(tmp_path: Path, legacy: Path, name: str, fresh: bool) -> None:
    strangers, folder = FOLDERS[name], EvalFolder(tmp_path / "e")
    if strangers.base == "ours":
        ours(folder)
    elif strangers.base == "legacy":
        shutil.copytree(legacy, folder.path)
    else:
        folder.path.mkdir()
    asked = json.loads(folder.identity_file.read_text())["asked"] if strangers.base != "never" else WHO
    before = set() if strangers.refused else set(files_in(folder.path))
    strangers.fill(folder.path)
    theirs = [file for file in files_in(folder.path) if file not in before]
    state = state_of(theirs)
    if strangers.refused:
        with pytest.raises(RunFolderError, match=strangers.refused), folder.opened(asked, fresh=fresh):
            pytest.fail("it was opened")
        assert set(files_in(folder.path)) - {folder.path / LIST} == set(theirs) - {folder.path / LIST}
    else:
        with folder.opened(asked, fresh=fresh):
            folder.make_logs()
            for report in REPORTS:
                folder.write_report(report, "new")
            assert bool(list(folder.answers())) == (not fresh), "what was ours went, and nothing else"
        assert folder.page_file.read_text() == "new"
    found = state_of(theirs)
    found.pop(str(folder.path / LIST), None)
    state.pop(str(folder.path / LIST), None)
    assert found == state


def test_what_a_fresh_one_removed_is_somebody_elses_from_then_on(tmp_path: Path) -> None:
    folder = EvalFolder(tmp_path / "e")
    ours(folder)
    with folder.opened(WHO, fresh=True):
        pass
    texts(report_dot_md="mine")(folder.path)
    with pytest.raises(RunFolderError, match=r"report\.md in .* by somebody else.*move it away"), folder.opened(WHO):
        pass


def test_a_command_that_was_killed_at_once_leaves_a_folder_that_is_opened(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    with EvalFolder(tmp_path).opened(WHO):
        pass


def test_a_folder_of_a_run_with_a_list_of_its_own_is_refused_before_a_lock_is_left_there(tmp_path: Path) -> None:
    folder = Written(tmp_path).make_folder("checkpoint-5")
    (folder / "model.safetensors").write_bytes(b"m")
    state = state_of(list(files_in(tmp_path)))
    with (
        pytest.raises(RunFolderError, match="is no folder of an evaluation, and holds checkpoint-5"),
        EvalFolder(tmp_path).opened(WHO, fresh=True),
    ):
        pass
    assert state_of(list(files_in(tmp_path))) == state


def test_a_folder_in_the_place_of_the_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "e" / LIST).mkdir(parents=True)
    with pytest.raises(RunFolderError, match="is no list of files"), EvalFolder(tmp_path / "e").opened(WHO):
        pass
