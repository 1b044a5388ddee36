"""A cache of replies, so that none is paid for twice: a table in SQLite, by the identity of the request and its
`stage`.

Invariants: `get` returns a reply only after it is on its way to the disk in a committed transaction, which outlives
this process however it ends; a request that is under way is not sent a second time. Replies that arrive together share
a transaction.

| waits | for | woken by |
|---|---|---|
| `get` | a slot, the reply, its commit; or the same request of another caller | another `get`; the endpoint; `_write` |
| `_write` | replies to commit | `get` |
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from pipeline.errors import RunFolderError
from pipeline.inference.protocol import Reply
from pipeline.inference.usage import Spent
from pipeline.runtime.event_loop import to_the_end
from pipeline.runtime.files import disk_error

BUSY_TIMEOUT_S = 30.0


def key_of(**request: Any) -> str:
    """Identity of a request: 32 hex digits of SHA-256 over its JSON with sorted keys."""
    try:
        text = orjson.dumps(request, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # whole numbers of more than 64 bits, halves of surrogate pairs
        text = json.dumps(request, sort_keys=True).encode()
    return hashlib.sha256(text).hexdigest()[:32]


class ReplyCache:
    """`async with ReplyCache(file) as cache: reply = await cache.get(key, lambda: client.chat(…))`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._under_way: dict[str, asyncio.Future[Reply]] = {}
        self._pending: list[tuple[str, str, Reply, asyncio.Future[None]]] = []
        self._wake = asyncio.Event()
        self.num_requests = 0
        self.num_cached = 0
        """Replies that the file held."""

    async def __aenter__(self) -> Self:
        """Raises RunFolderError for a file that is no such table, DiskError."""
        try:
            # One connection: reads on the loop's thread take microseconds, and commits wait in a thread of their own.
            self._database = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
            # A log that is appended to: what is committed outlives the process; the file itself is flushed now and
            # then.
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply BLOB NOT NULL)")
            columns = {name for _, name, *_ in self._database.execute("PRAGMA table_info(replies)")}
            if "stage" not in columns:
                self._database.execute("ALTER TABLE replies ADD COLUMN stage TEXT NOT NULL DEFAULT 'answers'")
            self._reader = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
        except sqlite3.Error as error:
            raise _cache_error(error, self._path) from error
        self._writer = asyncio.create_task(self._write())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.cancel()
        await asyncio.gather(self._writer, return_exceptions=True)
        if self._pending:  # arrived, but not yet committed
            self._commit([pending[:3] for pending in self._pending])
        self._reader.close()
        self._database.close()

    def find(self, key: str) -> Reply | None:
        """The reply that the file holds."""
        row = self._reader.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        return Reply.model_validate(orjson.loads(row[0])) if row else None

    def spent(self) -> list[Spent]:
        """What all replies in the file took, by stage and endpoint; attempts without a reply are not among it.
        Blocking."""
        rows = self._reader.execute(
            "SELECT stage, json_extract(json, '$.endpoint') AS at, COUNT(*), SUM(json_extract(json, "
            "'$.num_prompt_tokens')), SUM(json_extract(json, '$.num_completion_tokens')) FROM (SELECT stage, "
            "CAST(reply AS TEXT) AS json FROM replies) GROUP BY stage, at ORDER BY stage, at"
        )
        return [
            Spent(
                stage=stage,
                endpoint=at or "",
                num_replies=num,
                num_prompt_tokens=prompt,
                num_completion_tokens=completion,
            )
            for stage, at, num, prompt, completion in rows
        ]  # fmt: skip

    async def get(
        self,
        key: str,
        request: Callable[[], Awaitable[Reply]],
        stage: str = "answers",
        slots: AbstractAsyncContextManager[Any] | None = None,
    ) -> Reply:
        """The reply with this key: the one in the file, else that of `request`, which is then written there. `slots` is
        held from before the request until its reply is committed, and by nobody who waits for another's or finds one.

        Raises what `request` raises, to each caller that waits for it; nothing is written then. Raises DiskError."""
        if (under_way := self._under_way.get(key)) is not None:
            return await asyncio.shield(under_way)
        if (cached := self.find(key)) is not None:
            self.num_cached += 1
            return cached
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._under_way[key] = reply
        try:
            async with slots or nullcontext():
                self.num_requests += 1
                answer = await request()
                committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._pending.append((key, stage, answer, committed))
                self._wake.set()
                await committed
            reply.set_result(answer)
            return answer
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                reply.cancel()
            else:
                reply.set_exception(error)
                reply.exception()  # nobody else may be waiting
            raise
        finally:
            del self._under_way[key]

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._pending = self._pending, []
            failure = None
            try:
                await to_the_end(asyncio.to_thread(self._commit, [pending[:3] for pending in batch]))
            except (sqlite3.Error, OSError) as error:
                failure = _cache_error(error, self._path)
            for *_, committed in batch:
                if failure is not None and not committed.done():
                    committed.set_exception(failure)
                elif not committed.done():
                    committed.set_result(None)

    def _commit(self, rows: list[tuple[str, str, Reply]]) -> None:
        with self._database:
            self._database.executemany(
                "INSERT OR REPLACE INTO replies (key, stage, reply) VALUES (?, ?, ?)",
                [(key, stage, orjson.dumps(reply.model_dump())) for key, stage, reply in rows],
            )


def _cache_error(error: Exception, path: Path) -> Exception:
    """`error` as the user should see it. SQLite says by its text alone that a disk is full."""
    if "is full" in str(error):
        return disk_error(OSError(errno.ENOSPC, str(error)), path)
    if isinstance(error, sqlite3.DatabaseError):
        return RunFolderError(f"{path} cannot be used as a table of replies ({error}); move it away")
    return disk_error(error, path)
