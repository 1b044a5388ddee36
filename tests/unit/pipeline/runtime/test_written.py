"""The list of what this program wrote into a folder: what it makes ours, and what never is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.errors import DiskError, RunFolderError
from pipeline.runtime import jsonl
from pipeline.runtime.written import LIST, Fingerprint, Line, Written, make_folder


def test_a_copy_of_a_folder_and_one_that_came_later_are_not_ours(tmp_path: Path) -> None:
    written = Written(tmp_path)
    made = written.make_folder("a")
    (made / "file").write_text("ours")
    shutil.copytree(made, tmp_path / "b")
    assert (written.owns_folder("a"), written.owns_folder("b")) == (True, False)
    assert written.remove_folder("a")
    (tmp_path / "a").mkdir()  # it may have the same inode
    assert not written.remove_folder("a")
    assert (tmp_path / "a").is_dir()
    assert (tmp_path / "b" / "file").is_file()


def test_a_file_that_was_edited_is_not_ours_and_one_that_was_written_again_is(tmp_path: Path) -> None:
    written = Written(tmp_path)
    written.write("report.md", "one")
    written.write("report.md", "two")
    assert written.owns("report.md")
    (tmp_path / "report.md").write_text("one, and mine")
    assert not written.owns("report.md")
    with pytest.raises(RunFolderError, match="somebody else"):
        written.write("report.md", "three")
    (tmp_path / "report.md").write_text("one")
    assert written.owns("report.md"), "an older one of ours"


def test_what_is_claimed_may_grow_and_a_link_is_never_ours(tmp_path: Path) -> None:
    written = Written(tmp_path)
    written.claim("answers.jsonl")
    (tmp_path / "answers.jsonl").write_text("{}\n")
    written.claim("answers.jsonl")
    (tmp_path / "answers.jsonl").unlink()
    (tmp_path / "thesis").write_text("mine")
    (tmp_path / "answers.jsonl").symlink_to(tmp_path / "thesis")
    with pytest.raises(RunFolderError):
        written.claim("answers.jsonl")
    written.remove_all()
    assert (tmp_path / "thesis").read_text() == "mine"
    assert (tmp_path / "answers.jsonl").is_symlink()


def test_a_list_that_reaches_out_of_its_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("mine")
    folder = tmp_path / "e"
    folder.mkdir()
    (folder / LIST).write_text('{"path": "../thesis"}\n' + json.dumps({"path": str(tmp_path / "thesis")}) + "\n")
    Written(folder).remove_all()
    assert (tmp_path / "thesis").read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["sub/notes.txt", "sub", "link.txt", "../elsewhere/notes.txt", "a/../../elsewhere/notes.txt", "", "."]
)
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    """Neither by a link at any place of it, nor by its text."""
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "e"
    elsewhere.mkdir()
    (elsewhere / "notes.txt").write_text("mine")
    folder.mkdir()
    (folder / "a").mkdir()
    (folder / "sub").symlink_to(elsewhere)
    (folder / "link.txt").symlink_to(elsewhere / "notes.txt")
    found = elsewhere.stat()
    lines = [Line(path=name), Line(path=name, inode=found.st_ino, device=found.st_dev)]
    (folder / LIST).write_text("".join(line.model_dump_json(exclude_none=True) + "\n" for line in lines))
    written = Written(folder)
    assert not written.owns(name) and not written.owns_folder(name)
    assert not written.adopt(name, lambda path: True)
    with pytest.raises(RunFolderError, match="somebody else"):
        written.write(name, "new")
    with pytest.raises(RunFolderError, match="somebody else"):
        written.claim(f"{name}/new.txt" if name == "sub" else name)
    written.remove_folder(name)
    written.remove_all()
    assert [file.name for file in elsewhere.iterdir()] == ["notes.txt"]
    assert (elsewhere / "notes.txt").read_text() == "mine"


def test_what_a_manifest_names_goes_as_far_as_it_is_as_it_says_and_once(tmp_path: Path) -> None:
    written = Written(tmp_path)
    folder = written.make_folder("a")
    for name in ("one", "two", "deep/three", "edited"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    manifest = json.dumps({name: len(name) for name in ("one", "two", "edited", "never was")})
    written.write("a/manifest", manifest)
    (folder / "edited").write_text("mine now")

    def remove() -> bool:
        return written.remove_manifested(
            "a", "manifest", lambda found: {name: Fingerprint(size=size, sha256=None) for name, size in found.items()}
        )

    assert not remove()
    left = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    assert left == ["deep/three", "edited", "one", "two"], "no checksum is none that fits"


def test_a_folder_is_one_commands(tmp_path: Path) -> None:
    """And what is refused is left as it was."""
    eval_, stress, none = (Written(tmp_path, by) for by in ("eval", "stress", None))
    eval_.write("report.json", "{}")
    before = (tmp_path / LIST).read_bytes()
    for ask in (
        lambda: stress.is_there, lambda: stress.owns("report.json"), lambda: stress.write("report.json", "x"),
        lambda: stress.claim("mock.log"), stress.remove_all, lambda: stress.check("latency.svg"),
    ):  # fmt: skip
        with pytest.raises(RunFolderError, match=r"is the folder of a command `eval`.*choose another folder"):
            ask()
    assert (tmp_path / LIST).read_bytes() == before
    assert eval_.owns("report.json") and none.owns("report.json")


@pytest.mark.parametrize("there", [True, False])
def test_a_list_that_is_a_link_is_none(tmp_path: Path, there: bool) -> None:
    elsewhere = tmp_path / "thesis"
    if there:
        elsewhere.touch()
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / LIST).symlink_to(elsewhere)
    with pytest.raises(RunFolderError, match="is no list of files"):
        Written(tmp_path / "e").write("a", "a")
    assert elsewhere.exists() == there


def test_a_part_of_a_line_that_a_full_disk_left_is_no_harm(tmp_path: Path) -> None:
    written = Written(tmp_path)
    written.write("a", "a")
    with (tmp_path / LIST).open("ab") as file:
        file.write(b'{"path": "b", "sha')
    written.write("c", "c")
    assert written.owns("a") and written.owns("c") and not written.is_listed("b")


@pytest.mark.parametrize("name", ["a file", "a file/below", "dangling"])
def test_a_folder_that_cannot_be_made_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "a file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RunFolderError, match=f"--out {tmp_path / name}: the folder cannot be made .*choose another"):
        make_folder(tmp_path / name, "--out")
    make_folder(tmp_path / "new" / "one", "--out")


def test_a_folder_that_cannot_be_listed_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, line: str) -> None:
        raise DiskError("the disk is full")

    monkeypatch.setattr(jsonl, "append", full)
    with pytest.raises(DiskError):
        Written(tmp_path).make_folder("a")
    assert list(tmp_path.iterdir()) == []
