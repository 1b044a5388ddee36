"""Replies are kept before they are used, and asked for once."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.errors import DiskError, RetryableEndpointError, RunFolderError
from pipeline.inference.protocol import Reply
from pipeline.inference.reply_cache import ReplyCache, key_of


def reply(text: str) -> Reply:
    return Reply(text=text, finish_reason="stop", num_prompt_tokens=3, num_completion_tokens=1)


class Endpoint:
    """Counts what is asked; a question is answered when `go` is set."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.asked: list[str] = []

    def question(self, text: str) -> asyncio.Future[Reply] | object:
        async def ask() -> Reply:
            self.asked.append(text)
            await self.go.wait()
            return reply(text)

        return ask


async def test_what_was_answered_is_known_to_the_next_process(tmp_path: Path) -> None:
    file, endpoint = tmp_path / "replies.sqlite", Endpoint()
    endpoint.go.set()
    async with ReplyCache(file) as replies:
        for text in ("a", "b", "a"):
            assert (await replies.get(text, endpoint.question(text))).text == text  # type: ignore[arg-type]
        # What another process would read now, while this one still lives.
        async with ReplyCache(file) as other:
            assert other.find("a") == reply("a")
    async with ReplyCache(file) as replies:
        assert (await replies.get("b", endpoint.question("b"))).text == "b"  # type: ignore[arg-type]
        assert (replies.num_requests, replies.num_cached) == (0, 1)
    assert endpoint.asked == ["a", "b"]


async def test_a_question_under_way_is_not_asked_again(tmp_path: Path) -> None:
    endpoint = Endpoint()
    async with ReplyCache(tmp_path / "replies.sqlite") as replies:
        waiting = [asyncio.create_task(replies.get("a", endpoint.question("a"))) for _ in range(5)]  # type: ignore[arg-type]
        await asyncio.sleep(0)
        endpoint.go.set()
        assert {(await task).text for task in waiting} == {"a"}
    assert endpoint.asked == ["a"]


async def test_a_failure_reaches_all_who_wait_and_is_not_kept(tmp_path: Path) -> None:
    async def failing() -> Reply:
        await asyncio.sleep(0)
        raise RetryableEndpointError("timeout", "no answer")

    endpoint = Endpoint()
    endpoint.go.set()
    async with ReplyCache(tmp_path / "replies.sqlite") as replies:
        results = await asyncio.gather(*(replies.get("a", failing) for _ in range(3)), return_exceptions=True)
        assert [type(result) for result in results] == [RetryableEndpointError] * 3
        assert (await replies.get("a", endpoint.question("a"))).text == "a"  # type: ignore[arg-type]


async def test_a_reply_that_arrived_is_kept_although_its_asker_is_cancelled(tmp_path: Path) -> None:
    file, arrived = tmp_path / "replies.sqlite", asyncio.Event()

    async def ask() -> Reply:
        arrived.set()
        return reply("a")

    async with ReplyCache(file) as replies:
        asker = asyncio.create_task(replies.get("a", ask))
        await arrived.wait()
        asker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asker
    async with ReplyCache(file) as replies:
        assert replies.find("a") == reply("a")


async def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    file = tmp_path / "replies.sqlite"
    file.write_text("not a database, and long enough to be looked at " * 20)
    with pytest.raises(RunFolderError, match=r"replies\.sqlite cannot be used as a table of replies .*move it away"):
        async with ReplyCache(file):
            pass


async def test_a_full_disk_is_named_with_its_remedy(tmp_path: Path) -> None:
    file, endpoint = tmp_path / "replies.sqlite", Endpoint()
    endpoint.go.set()
    async with ReplyCache(file) as replies:

        async def fill() -> None:
            for number in range(64):
                await replies.get(f"{number}", endpoint.question("x" * 4096))  # type: ignore[arg-type]

        # SQLite then says what it says of a full disk.
        replies._database.execute("PRAGMA max_page_count = 1")
        with pytest.raises(DiskError, match=r"replies\.sqlite is full: .*, then give the same command again"):
            await fill()


async def test_what_was_spent_outlives_the_process_that_spent_it(tmp_path: Path) -> None:
    file, endpoint = tmp_path / "replies.sqlite", Endpoint()
    endpoint.go.set()
    async with ReplyCache(file) as replies:
        await replies.get("a", endpoint.question("a"))  # type: ignore[arg-type]
        await replies.get("j", endpoint.question("j"), stage="judge")  # type: ignore[arg-type]
    async with ReplyCache(file) as replies:
        for text in ("a", "b"):
            await replies.get(text, endpoint.question(text))  # type: ignore[arg-type]
        spent = [
            (one.stage, one.num_replies, one.num_prompt_tokens, one.num_completion_tokens) for one in replies.spent()
        ]
    assert spent == [("answers", 2, 6, 2), ("judge", 1, 3, 1)]


async def test_a_table_of_before_stages_is_read(tmp_path: Path) -> None:
    file, endpoint = tmp_path / "replies.sqlite", Endpoint()
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE replies (key TEXT PRIMARY KEY, reply BLOB NOT NULL)")
        old = {"text": "a", "finish_reason": "stop", "num_prompt_tokens": 3, "num_completion_tokens": 1}
        database.execute("INSERT INTO replies VALUES ('a', ?)", (json.dumps(old).encode(),))
    async with ReplyCache(file) as replies:
        assert await replies.get("a", endpoint.question("a")) == reply("a")  # type: ignore[arg-type]
        assert [one.num_replies for one in replies.spent()] == [1]
    assert endpoint.asked == []


def test_a_key_is_of_the_whole_question() -> None:
    one = key_of(messages=[{"role": "user", "content": "x"}], sample=0)
    assert one == key_of(sample=0, messages=[{"content": "x", "role": "user"}])
    assert one != key_of(messages=[{"role": "user", "content": "x"}], sample=1)
    # What JSON may hold and orjson does not.
    assert key_of(task={"entry": {"n": 2**70}}) != key_of(task={"entry": {"n": 2**70 + 1}})
    assert key_of(text="\ud800") != key_of(text="\ud801")
