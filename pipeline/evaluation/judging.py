"""The judge of an evaluation: opened, compared with labelled answers, and refused where it says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from pipeline.config.endpoints import EndpointSettings, RequestsSection
from pipeline.errors import EndpointSetupError
from pipeline.inference.client import InferenceClient
from pipeline.inference.reply_cache import ReplyCache
from pipeline.rewards.judge.agreement import agreement
from pipeline.rewards.judge.model import AnswerJudge, judge_endpoint


class OpenedJudge(NamedTuple):
    judge: AnswerJudge
    client: InferenceClient


@asynccontextmanager
async def opened_judge(
    settings: EndpointSettings,
    requests: RequestsSection,
    replies: ReplyCache,
    log: Callable[[str], None],
    warn: Callable[[str], None] | None = None,
) -> AsyncIterator[OpenedJudge]:
    """The judge, after its agreement with labelled answers was logged. Raises EndpointSetupError for one that judges
    none of them."""
    async with judge_endpoint(settings, requests, warn) as client:
        slots = asyncio.Semaphore(settings.max_concurrency)
        judge = AnswerJudge(client, client.endpoints[0].model, cache=replies, slots=slots)
        log(f"{judge.name}, {(found := await agreement(judge)).line()}")
        if not found.num_judged:
            reason = client.endpoints[0].last_failure or f"{judge.num_malformed} replies without a verdict"
            raise EndpointSetupError(
                f"--judge {settings.url} gave no verdict on any of {found.num_errors} labelled answers ({reason}); "
                "mend it, or name another judge"
            )
        yield OpenedJudge(judge, client)
