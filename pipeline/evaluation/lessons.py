"""The lessons that an evaluation shows: a copy of a pool in the evaluation's folder, and searches of it whose price is
known.

Invariants: the pool of a run is only read, so its folder may be read-only, may go on training, and may be gone when the
evaluation goes on; all answers of a folder that name one source were shown lessons of one copy. A language model's
replies to a search are cached like every other reply."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config.experience import PoolSection
from pipeline.errors import ConfigError, RunFolderError
from pipeline.evaluation.modes import Searched, ShownLessons
from pipeline.experience import pool_export
from pipeline.experience.pool import Pool
from pipeline.experience.pool_schema import TABLE
from pipeline.experience.retrieval import Retriever
from pipeline.inference.chat_client import EmbeddingClient
from pipeline.inference.protocol import Reply
from pipeline.inference.reply_cache import ReplyCache, key_of
from pipeline.run.folder import RunFolder
from pipeline.runtime.files import unused, write_atomic
from pipeline.runtime.written import Written
from pipeline.storage.tables import has_table
from pipeline.text import text_hash
from pipeline.types import Experience, Message, Problem

ENTRIES_PER_COMMIT = 4096
NOTE = "source.json"
# The source kept to its own cap; nothing is evicted from a copy.
WHOLE = PoolSection(max_entries_per_problem=1 << 30)


class Copy(NamedTuple):
    """A pool of this folder; `key` is the identity of what was copied, `text` describes it to the user."""

    pool: Pool
    key: str
    text: str


def copied(source: Path, folder: Path, log: Callable[[str], None] = lambda text: None) -> Copy:
    """The pool of the run `source`, or the entries of such a file, as they were copied into `folder` at first.
    Blocking.

    Raises ConfigError for what is neither, RunFolderError, DataError, DiskError."""
    source = source.resolve()
    name = hashlib.sha256(str(source).encode()).hexdigest()[:12]
    copies = sorted(one for one in folder.glob(f"{name}*") if (one / NOTE).is_file())
    if not copies:
        log(f"copying the lessons of {source}")
        copies = [_copied_anew(source, folder, name)]
    target = copies[0]
    note_file = target / NOTE
    note = json.loads(note_file.read_text(encoding="utf-8"))
    text = f"{note['num_entries']} of {source}, as copied on {note['copied']}"
    return Copy(Pool(target, WHOLE, version=note["own_version"]), f"{source}@{note['version']}", text)


def _copied_anew(source: Path, folder: Path, name: str) -> Path:
    """The folder of a new copy, which appears whole, under a name that nothing has; what a kill left goes first."""
    written = Written(folder.parent)
    for unfinished in folder.glob(f".{name}.*"):
        written.remove_folder(f"{folder.name}/{unfinished.name}")
    part = written.make_folder(f"{folder.name}/{unused(Path(name)).name}")
    write_atomic(part / NOTE, json.dumps(_copy(source, part), indent=1))
    numbers = (f"{name}-{number}" if number else name for number in count())
    target = next(found for found in numbers if not (folder / found).exists())
    files = (file.relative_to(part) for file in sorted(part.rglob("*")) if file.is_file())
    written.claim(*(f"{folder.name}/{target}/{file}" for file in files))
    part.rename(folder / target)
    return folder / target


def _copy(source: Path, target: Path) -> dict[str, Any]:
    """Copy the lessons of `source` into a pool at `target`; what is noted of it."""
    version, entries = _opened(source)
    pool = Pool(target, WHOLE)
    # A version of before, or a person, may have normalised a text otherwise: the copy knows its problems by the rule of
    # today.
    hashed = (entry.model_copy(update={"problem_hash": text_hash(entry.problem_text)}) for entry in entries)
    while batch := list(islice(hashed, ENTRIES_PER_COMMIT)):
        pool.add(batch)
    pool.compact()
    return {
        "source": str(source),
        "version": version,
        "num_entries": pool.num_entries(),
        "own_version": pool.version,
        "copied": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _opened(source: Path) -> tuple[str, Iterator[Experience]]:
    """The version and the entries of a run's pool, or of a file."""
    if source.is_dir():
        run = RunFolder.open(source)
        if not has_table(run.store, TABLE):
            raise RunFolderError(
                f"--pool {source}: this run has no pool; name one that has learned, or a file of lessons"
            )
        pool = Pool(run.store, run.config().pool)
        return str(pool.version), pool.entries()
    if source.suffix not in pool_export.SUFFIXES:
        raise ConfigError(
            f"--pool {source}: neither a run folder nor a file of lessons; give the folder that `train` printed, or a "
            f"{' or '.join(pool_export.SUFFIXES)} file that `pool export` wrote"
        )
    entries = pool_export.read(source)
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12], entries


_REPLIES: ContextVar[list[Reply]] = ContextVar("replies")
"""Those of the present search of a task; its subtasks add to them."""


class CachedClient:
    """An EmbeddingClient whose chat replies are cached, and counted to the search that they belong to."""

    def __init__(self, client: EmbeddingClient, model: str, cache: ReplyCache) -> None:
        self._client = client
        self._model = model
        self._cache = cache

    async def chat(self, messages: tuple[Message, ...], **request: Any) -> Reply:
        """Raises EndpointError."""
        settings = {name: request.get(name) for name in ("max_tokens", "temperature", "schema")}
        key = key_of(similarity=self._model, messages=[message.model_dump() for message in messages], **settings)
        reply = await self._cache.get(key, lambda: self._client.chat(messages, **request), stage="similarity")
        _REPLIES.get().append(reply)
        return reply

    async def embed(self, texts: list[str]) -> list[list[float]]:
        """Raises EndpointError."""
        return await self._client.embed(texts)


class LessonSearch:
    """Finds the lessons for a problem, and counts what that took."""

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever

    async def __call__(self, problem: Problem) -> ShownLessons:
        """Raises EndpointError. Of a task one search at a time, whose replies are its own."""
        replies: list[Reply] = []
        _REPLIES.set(replies)
        context = await self._retriever.context(problem)
        search = Searched(
            endpoint=replies[-1].endpoint if replies else "",
            num_prompt_tokens=sum(reply.num_prompt_tokens for reply in replies),
            num_completion_tokens=sum(reply.num_completion_tokens for reply in replies),
        )
        return ShownLessons(context, search)
