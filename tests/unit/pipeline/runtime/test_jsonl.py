"""What a kill leaves of an append-only file, and several writers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.errors import DiskError
from pipeline.runtime import jsonl


def test_lines_are_read_back_from_any_line_on(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    assert list(jsonl.whole_lines(file)) == []
    jsonl.append(file, '"é"')
    jsonl.append(file, "2")
    assert list(jsonl.whole_lines(file)) == ['"é"\n'.encode(), b"2\n"]
    assert list(jsonl.whole_lines(file, offset=5)) == [b"2\n"]


def test_a_torn_line_is_not_read_and_can_be_cut_off(tmp_path: Path) -> None:
    file, content = tmp_path / "log.jsonl", b"1\n22\n333\n"
    for length in range(len(content) + 1):
        file.write_bytes(content[:length])
        whole = content[: content[:length].rfind(b"\n") + 1]
        assert b"".join(jsonl.whole_lines(file)) == whole
        jsonl.truncate(file)
        assert file.read_bytes() == whole
        jsonl.append(file, "4")
        assert file.read_bytes() == whole + b"4\n"


def test_a_file_can_be_cut_shorter_and_is_made(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    jsonl.truncate(file)
    assert file.read_bytes() == b""
    file.write_bytes(b"1\nno JSON\n3\n")
    jsonl.truncate(file, 2)
    assert file.read_bytes() == b"1\n"


def test_what_follows_a_line_that_is_still_being_written_is_not_read_as_a_line(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_bytes(b'1\n{"half": ')
    lines = jsonl.whole_lines(file)
    assert next(lines) == b"1\n"
    with file.open("ab") as writer:
        writer.write(b"2}\n3\n")
    assert b"2}\n" not in list(lines)


def test_a_write_that_took_a_part_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr("os.write", lambda file, content: write(file, content[:3]))
    jsonl.append(tmp_path / "log.jsonl", '{"key": "value"}')
    assert (tmp_path / "log.jsonl").read_text() == '{"key": "value"}\n'


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DiskError, match="/dev/full is full: free some space"):
        jsonl.append(Path("/dev/full"), "1")
