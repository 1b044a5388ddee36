"""Lessons are copied into the evaluation's folder: their source is read once and never written."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.loading import load_recipe
from pipeline.errors import ConfigError, DataError, RunFolderError
from pipeline.evaluation.lessons import CachedClient, LessonSearch, copied
from pipeline.experience.pool import Pool
from pipeline.experience.pool_export import export
from pipeline.experience.pool_integrity import check_pool
from pipeline.inference.protocol import Reply
from pipeline.inference.reply_cache import ReplyCache
from pipeline.run.folder import RunFolder
from pipeline.types import Context, Message, Problem
from tests.builders import experience, task_with

ENTRIES = [experience(number, f"p{number}", f"What is {number} + 4?") for number in range(5)]


def a_run(root: Path) -> RunFolder:
    config = load_recipe("quickstart")
    return RunFolder.create(
        config.model_copy(update={"run": config.run.model_copy(update={"root": root, "name": "r"})})
    )


def test_a_run_is_read_once_and_may_be_gone_afterwards(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    source = Pool(run.store)
    source.add(ENTRIES)
    before = source.version
    first = copied(run.path, tmp_path / "lessons")
    assert (source.version, source.pins) == (before, {})
    assert sorted(entry.id for entry in first.pool.entries()) == [entry.id for entry in ENTRIES]
    assert first.pool.search("What is 3 + 4?", 1)[0].id == "x3"
    assert first.text.startswith("5 of ")
    # The run goes on, and ends; the evaluation keeps to what it began with.
    source.add([experience(9, "p9", "What is 9 + 4?")])
    shutil.rmtree(run.path)
    again = copied(run.path, tmp_path / "lessons")
    assert (again.key, again.pool.num_entries()) == (first.key, 5)
    with pytest.raises(DataError, match="read-only"):
        again.pool.add(ENTRIES)


def test_a_folder_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    """As another user's run is, or a mounted one: behind a read-only mount, because root may write anywhere else."""
    run = a_run(tmp_path)
    Pool(run.store).add(ENTRIES)
    there, target = str(run.path), str(tmp_path / "lessons")
    inside = ["bwrap", "--dev-bind", "/", "/", "--ro-bind", there, there]
    if not shutil.which("bwrap") or subprocess.run([*inside, "true"], capture_output=True).returncode:
        pytest.skip("bubblewrap cannot make a read-only mount here")
    code = (
        "import sys; from pathlib import Path; from pipeline.evaluation.lessons import copied;"
        "copy = copied(*map(Path, sys.argv[1:])); print(copy.pool.search('What is 3 + 4?', 1)[0].id)"
    )
    done = subprocess.run([*inside, sys.executable, "-c", code, there, target], capture_output=True, text=True)
    assert done.stdout == "x3\n", done.stderr


def test_the_copy_knows_a_problem_by_todays_rule(tmp_path: Path) -> None:
    """A hash that another version of lanpo wrote, or a person, hides no evaluated problem."""
    run = a_run(tmp_path)
    Pool(run.store).add([ENTRIES[0].model_copy(update={"problem_hash": "0" * 16})])
    asked = task_with("4", identity="asked", text=ENTRIES[0].problem_text)
    with pytest.raises(DataError, match="asked"):
        check_pool(copied(run.path, tmp_path / "lessons").pool, [asked])


def test_a_near_duplicate_of_an_evaluated_problem_is_refused_as_it_is_elsewhere(tmp_path: Path) -> None:
    """ENTRIES hold "What is {n} + 4?"."""
    pool = Pool(a_run(tmp_path).store)
    pool.add(ENTRIES)
    for text, near, says in (
        ("What is 4 + 3?", True, r"asked \(entry x3, of a near-duplicate\);.*problems.drop_near_duplicates = false"),
        ("What is 3 + 4?", False, r"asked \(entry x3\)"),
        ("What is 4 + 3?", False, None),
        ("What is 4 + 9?", True, None),
    ):
        task = task_with("", identity="asked", text=text)
        with pytest.raises(DataError, match=says) if says else nullcontext():
            check_pool(pool, [task], near=near)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_file_of_lessons_serves_as_well(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"lessons{suffix}"
    export(ENTRIES, file)
    copy = copied(file, tmp_path / "copies")
    assert copy.pool.num_entries() == 5
    assert copy.key.startswith(f"{file}@")


def test_a_copy_that_was_cut_short_is_made_again(tmp_path: Path) -> None:
    file = tmp_path / "lessons.jsonl"
    export(ENTRIES, file)
    copied(file, tmp_path / "copies")
    (note,) = (tmp_path / "copies").glob("*/source.json")
    assert json.loads(note.read_text())["num_entries"] == 5
    note.unlink()
    assert copied(file, tmp_path / "copies").pool.num_entries() == 5


def test_what_holds_no_lessons_is_named(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    with pytest.raises(RunFolderError, match="this run has no pool"):
        copied(run.path, tmp_path / "lessons")
    assert not list(Path(run.store).iterdir()), "nothing is made there"
    with pytest.raises(RunFolderError, match="is no run folder"):
        copied(tmp_path, tmp_path / "lessons")
    with pytest.raises(ConfigError, match=r"neither a run folder nor a file of lessons"):
        copied(tmp_path / "lessons.txt", tmp_path / "lessons")
    with pytest.raises(DataError, match="is no file"):
        copied(tmp_path / "none.jsonl", tmp_path / "lessons")


class Endpoints:
    """An LLM that grades."""

    def __init__(self) -> None:
        self.num_asked = 0

    async def chat(self, messages: Any, **wanted: Any) -> Reply:
        self.num_asked += 1
        await asyncio.sleep(0)
        num = len(messages[0].content)
        return Reply(
            text="{}", finish_reason="stop", endpoint="http://j", num_prompt_tokens=num, num_completion_tokens=1
        )

    async def embed(self, texts: list[str]) -> list[list[float]]:
        raise NotImplementedError


class Retriever:
    """Asks the judge as often as the problem says."""

    def __init__(self, endpoints: CachedClient) -> None:
        self._endpoints = endpoints

    async def context(self, problem: Problem) -> Context:
        for number in range(int(problem.text)):
            await self._endpoints.chat((Message(role="user", content="x" * (number + 1)),), max_tokens=4, stage="judge")
        return Context()


async def test_searches_beside_each_other_are_metered_apart_and_paid_once(tmp_path: Path) -> None:
    endpoints = Endpoints()
    for _ in range(2):
        async with ReplyCache(tmp_path / "replies.sqlite") as replies:
            search = LessonSearch(Retriever(CachedClient(endpoints, "judge", replies)))  # type: ignore[arg-type]
            problems = [Problem(id=f"p{num}", text=str(num), split="heldout") for num in (1, 2, 3, 0)]
            found = await asyncio.gather(*(asyncio.create_task(search(problem)) for problem in problems))
            assert [one.search.num_prompt_tokens for one in found] == [1, 3, 6, 0]
            assert [one.search.num_completion_tokens for one in found] == [1, 2, 3, 0]
            assert [one.stage for one in replies.spent()] == ["similarity"]
        assert endpoints.num_asked == 3
