"""Waking up on what another process writes."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from pipeline.runtime.file_watcher import Changes
from pipeline.runtime.files import write_atomic
from pipeline.storage.journal import Journal
from tests.builders import group

LONG_S = 60.0


def test_a_replaced_file_wakes_whoever_waits_also_if_it_came_before_the_wait(tmp_path: Path) -> None:
    with Changes(tmp_path) as changes:
        write_atomic(tmp_path / "status.json", "{}")
        changes.wait(timeout_s=LONG_S)
        write_atomic(tmp_path / "status.json", "{}")
        changes.wait(timeout_s=LONG_S)


def test_a_commit_of_the_journal_wakes_its_reader(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with Changes(journal.commits) as changes:
        Journal(tmp_path).append([group()])
        changes.wait(timeout_s=LONG_S)
        assert journal.num_groups() == 1


def test_without_a_change_or_a_folder_time_ends_the_wait(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing", None):
        with Changes(folder) as changes:
            begin = time.monotonic()
            changes.wait(timeout_s=0.01)
            assert time.monotonic() - begin < LONG_S


def test_another_file_that_can_be_read_ends_the_wait() -> None:
    readable, written = os.pipe()
    os.write(written, b"x")
    with Changes(None) as changes:
        changes.wait(readable, timeout_s=LONG_S)
    os.close(readable)
    os.close(written)


async def test_a_coroutine_is_woken_and_the_loop_runs_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.runtime.file_watcher.LOOK_EVERY_S", LONG_S)
    with Changes(tmp_path) as changes:
        waiting = asyncio.create_task(changes.changed())
        await asyncio.sleep(0)
        assert not waiting.done()
        write_atomic(tmp_path / "status.json", "{}")
        await waiting
