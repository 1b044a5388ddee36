"""The three inference modes (method.md): zero-shot, retrieval, reflect. Each answer keeps its prompts and replies.

No label is here: a mode sees a `Problem`. Requests are made by the caller (`RequestFn`), so that a reply may come from
a cache."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from cachetools import FIFOCache

from pipeline.config import Config
from pipeline.config.evaluation import Mode
from pipeline.errors import EndpointError
from pipeline.experience.contexts import intra_context, messages_in, trimmed
from pipeline.inference.protocol import Reply
from pipeline.text import visible
from pipeline.types import Attempt, Considered, Context, Message, Problem, Record

RequestFn = Callable[[tuple[Message, ...], int], Awaitable[Reply]]
"""Messages and the number of the sample → a reply. Raises EndpointError."""
MAX_SEARCHES = 4096
"""Searches for lessons that are remembered: more than problems are answered at a time."""


class Searched(NamedTuple):
    """Tokens of a language model that graded how relevant lessons are; an endpoint of embeddings counts none."""

    endpoint: str = ""
    num_prompt_tokens: int = 0
    num_completion_tokens: int = 0


class ShownLessons(NamedTuple):
    """Lessons for a problem, and what finding them took."""

    context: Context
    search: Searched = Searched()


Search = Callable[[Problem], Awaitable[ShownLessons]]
"""Raises EndpointError."""


class Turn(Record):
    """One prompt and its reply.

    `reasoning` is what the endpoint keeps apart from the text; it is neither scored nor shown again."""

    messages: tuple[Message, ...]
    text: str
    finish_reason: str
    reasoning: str = ""
    endpoint: str = ""
    num_prompt_tokens: int
    num_completion_tokens: int

    @classmethod
    def of(cls, messages: tuple[Message, ...], reply: Reply) -> Turn:
        return cls(messages=messages, **reply.model_dump(include=set(cls.model_fields) - {"messages"}))


class Inferred(Record):
    """An answer: that of the last turn.

    Retrieval's trace is of its only turn; `search` is the whole of a problem's search, which its samples share."""

    turns: tuple[Turn, ...]
    lesson_ids: tuple[str, ...] = ()
    considered: tuple[Considered, ...] = ()
    num_trimmed: int = 0
    search: Searched = Searched()


class Inference:
    """Answers problems in any mode; `search` is needed by retrieval alone."""

    def __init__(self, config: Config, request: RequestFn, search: Search | None = None) -> None:
        self._config = config
        self._request = request
        self._search = search
        self._searches: FIFOCache[str, asyncio.Future[ShownLessons]] = FIFOCache(MAX_SEARCHES)

    async def infer(self, problem: Problem, mode: Mode, sample: int = 0) -> Inferred:
        """Answer `problem` in one mode. Raises EndpointError; what of it was answered before is lost to the caller."""
        match mode:
            case "zero-shot":
                return await self.shown(problem, Context(), sample)
            case "retrieval":
                found = await self._lessons(problem)
                inferred = await self.shown(problem, found.context, sample)
                return inferred.model_copy(update={"search": found.search})
            case "reflect":
                return await self._reflected(problem, sample)

    async def _lessons(self, problem: Problem) -> ShownLessons:
        """What is found for a problem, once for all of its samples, which are answered beside each other."""
        assert self._search is not None, "retrieval needs a pool"
        found = self._searches.get(problem.id)
        if found is None:
            found = self._searches[problem.id] = asyncio.ensure_future(self._search(problem))
            found.add_done_callback(lambda done: self._forget(problem.id, done))
        return await asyncio.shield(found)

    def _forget(self, problem_id: str, done: asyncio.Future[ShownLessons]) -> None:
        """A failure is not remembered."""
        if done.cancelled() or done.exception() is not None:
            self._searches.pop(problem_id, None)

    async def _reflected(self, problem: Problem, sample: int) -> Inferred:
        """Answer, then critique and refine `eval.num_rounds` times. An answer of nothing is not critiqued."""
        inferred = await self.shown(problem, Context(), sample)
        turns, num_trimmed = list(inferred.turns), 0
        for _ in range(self._config.eval.num_rounds):
            attempt = Attempt(problem_id=problem.id, text=self.visible(turns[-1].text))
            context = intra_context(attempt, self._config.reflection.longest)
            if context.kind == "scratch":
                break
            refined = await self.shown(problem, context, sample)
            turns += refined.turns
            num_trimmed += refined.num_trimmed
        return Inferred(turns=tuple(turns), num_trimmed=num_trimmed)

    async def shown(self, problem: Problem, context: Context, sample: int) -> Inferred:
        """One turn under `context`, which is cut where the endpoint says that the prompt is too long."""
        while True:
            messages = messages_in(problem, context, self._config)
            try:
                reply = await self._request(messages, sample)
                break
            except EndpointError as error:
                shorter = trimmed(context) if _too_long(error) else None
                if shorter is None:
                    raise
                context = shorter
        return Inferred(
            turns=(Turn.of(messages, reply),),
            lesson_ids=context.lesson_ids,
            considered=context.considered,
            num_trimmed=context.num_trimmed,
        )

    def visible(self, text: str) -> str:
        """What of an answer is scored and shown again."""
        return visible(text, strip=self._config.rollout.strip_think)


def _too_long(error: EndpointError) -> bool:
    """Whether an endpoint refused a prompt for its length. Servers word it in many ways, all of which name the
    context."""
    return error.kind in ("http_400", "http_413") and "context" in str(error).lower()
