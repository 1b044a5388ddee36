"""Requests of an evaluation: each reply is paid for once, and a failure that all requests would meet ends them.

Invariants: a reply is cached before it is used (`pipeline.inference.reply_cache`); no more requests are paid for and
not yet cached than the endpoints take at once, so that a kill loses no more. After `stop`, and once a failure is
`fatal`, no request begins; those in flight end, because they are paid for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from pipeline.config import Config
from pipeline.errors import EndpointError, FinalEndpointError
from pipeline.inference.client import InferenceClient
from pipeline.inference.protocol import Reply
from pipeline.inference.reply_cache import ReplyCache
from pipeline.inference.trouble import remedy_of
from pipeline.types import Message

# Refusals of one prompt; any other final failure (no credit, a wrong key) is the same for every prompt.
OF_ONE_PROMPT = ("http_400", "http_413", "http_422")
MAX_FAILURES_IN_A_ROW = 50


class Stopped(Exception):  # noqa: N818 - no failure
    """The evaluation was stopped, and this request was not begun."""


class PaidRequests:
    """`end_waits` ends what only waits, at whatever endpoint, once a failure is fatal."""

    def __init__(
        self,
        config: Config,
        endpoints: InferenceClient,
        replies: ReplyCache,
        end_waits: Callable[[EndpointError], None] | None = None,
    ) -> None:
        self._patience_s = config.eval.max_outage_s
        self._endpoints = endpoints
        self._replies = replies
        self._end_waits = end_waits or endpoints.stop
        self.num_at_once = sum(endpoint.settings.max_concurrency for endpoint in endpoints.endpoints)
        # An endpoint's slot is free when the reply is here; until it is on the disk, a kill would lose it like one in
        # flight.
        self._slots = asyncio.Semaphore(self.num_at_once)
        self.stopped = False
        self.fatal: EndpointError | None = None
        self._num_in_a_row = 0
        self.failures: Counter[str] = Counter()
        """Answers that could not be had, by kind. The next command requests them again."""
        self.first_failure = ""

    @property
    def is_over(self) -> bool:
        """Whether no request begins any more."""
        return self.stopped or self.fatal is not None

    def stop(self) -> None:
        self.stopped = True

    async def chat(self, key: str, messages: tuple[Message, ...], **request: Any) -> Reply:
        """The reply with this key, paid for now or before. Raises Stopped, EndpointError, DiskError."""

        async def paid() -> Reply:
            if self.is_over:
                raise Stopped
            return await self._endpoints.chat(messages, seed=int(key[:7], 16), **request)

        return await self._replies.get(key, paid, slots=self._slots)

    def succeeded(self) -> None:
        self._num_in_a_row = 0

    def failed(self, error: EndpointError) -> None:
        """Count the failure of an answer; it is `fatal` where no other would fare better."""
        self.count(error.kind, error)
        self._num_in_a_row += 1
        if self.fatal is None and (reason := self._hopeless(error)):
            self.fatal = FinalEndpointError(error.kind, f"{str(error).rstrip('.')}; gave up{reason}")
            self._end_waits(self.fatal)

    def count(self, kind: str, error: EndpointError) -> None:
        self.failures[kind] += 1
        self.first_failure = self.first_failure or f"{kind}: {error}. What to do: {remedy_of(error.kind)}"

    def _hopeless(self, error: EndpointError) -> str:
        """Why no other request would fare better than the one that met `error`; empty where one may."""
        patience_s, failing_s = self._patience_s, self._endpoints.failing_s
        allowed = f"eval.max_outage_s = {patience_s:g}"
        if isinstance(error, FinalEndpointError) and error.kind not in OF_ONE_PROMPT:
            return ", for every request would meet this"
        if self._num_in_a_row >= MAX_FAILURES_IN_A_ROW:
            return f" after {self._num_in_a_row} failures in a row"
        if failing_s >= patience_s:
            return f" after {failing_s:.0f} s without an answer ({allowed})"
        if (pause_s := error.retry_after_s or 0.0) > patience_s:
            return f", for the endpoint wants to be left alone for {pause_s:.0f} s ({allowed})"
        return ""
