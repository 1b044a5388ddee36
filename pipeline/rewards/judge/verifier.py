"""Verdicts in which language models have a part: those of the worker processes, and beside them each judge's.

Invariants: an answer has a verdict when all scorers gave one, and it is theirs as `pipeline.rewards.scoring` combines
them; where a judge gives none, `verify` raises, and the answer counts neither way: it is sampled or requested anew;
what a judge said of an answer is in the cache before it is used, so that it is paid for once.

| waits | for | woken by |
|---|---|---|
| `verify` | the workers' verdicts, then all judges' | `pipeline.rewards.verifier`; the judges' endpoints, the cache |
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from pipeline.config import Config
from pipeline.config.endpoints import EndpointSettings
from pipeline.config.judge import JUDGE
from pipeline.config.rollout import RewardSection, ScorerSettings
from pipeline.errors import EndpointSetupError, RetryableEndpointError
from pipeline.inference.capabilities import check_endpoint
from pipeline.inference.client import InferenceClient, client_of
from pipeline.inference.reply_cache import ReplyCache
from pipeline.rewards.judge.model import AnswerJudge, rules_in
from pipeline.rewards.scoring import combined
from pipeline.rewards.verifier import Verifier
from pipeline.runtime.stage_clock import StageClock
from pipeline.runtime.watchdog import Watchdog
from pipeline.text import visible_each
from pipeline.types import Task, Verdict

NO_VERDICT = "judge_verdict"
"""Kind of the failure of a judge that answers, and gives no verdict."""


class OpenedJudges(NamedTuple):
    """Judges by their column, the clients that they use by name, and what was said before."""

    judges: dict[str, AnswerJudge]
    clients: dict[str, InferenceClient]
    cache: ReplyCache | None = None


class JudgedVerifier(Verifier):
    """A verifier whose scorers are judges, alone or among others. `clock` counts the time that judges take."""

    def __init__(self, settings: RewardSection, opened: OpenedJudges, clock: StageClock | None = None) -> None:
        others = without_judges(settings)
        self._others = others is not None
        # What an answer's form earns is added once, here.
        super().__init__((others or settings).model_copy(update={"format_weight": 0.0}))
        self._all = settings
        self._opened = opened
        self._clock = clock or StageClock()

    async def __aenter__(self) -> Self:
        return await super().__aenter__() if self._others else self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._others:
            await super().__aexit__(kind, error, traceback)

    @property
    def clients(self) -> dict[str, InferenceClient]:
        return self._opened.clients

    @property
    def num_cached(self) -> int:
        return self._opened.cache.num_cached if self._opened.cache else 0

    @property
    def all_unavailable(self) -> bool:
        return any(client.all_unavailable for client in self.clients.values())

    async def verify_group(self, texts: list[str], task: Task) -> list[Verdict]:
        """The verdicts on several answers to one problem. Raises EndpointError where a judge gives none, ConfigError
        where it has nothing to go by."""
        found = await super().verify_group(texts, task) if self._others else [Verdict(kind="scored")] * len(texts)
        # Whatever the judges say, an answer on which the others failed has no judgement.
        asked = [index for index, verdict in enumerate(found) if not verdict.failed]
        shown = visible_each([texts[index] for index in asked], strip=True)
        said = {column: await self._said(judge, shown, task) for column, judge in self._opened.judges.items()}
        columns = [(one.column, one.weight) for one in self._all.all_scorers]
        for place, index in enumerate(asked):
            judged = {column: verdicts[place] for column, verdicts in said.items()}
            of_each = verdicts_of_each(found[index], self._all.all_scorers, judged)
            found[index] = combined(of_each, columns, self._all.format_weight)
        return found

    async def _said(self, judge: AnswerJudge, texts: list[str], task: Task) -> list[Verdict]:
        """What one judge says of all answers."""
        self._clock.count("answers_judged", len(texts))
        with self._clock.stage("judge"):
            asked = (judge.verify(task.problem, text, task.label) for text in texts)
            said = await asyncio.gather(*asked, return_exceptions=True)
        found = []
        for verdict in said:  # after all have ended: what was asked is paid for, and is in the cache
            if isinstance(verdict, BaseException):
                raise verdict
            if verdict.failed:
                raise RetryableEndpointError(NO_VERDICT, verdict.text)
            found.append(verdict)
        return found


def without_judges(settings: RewardSection) -> RewardSection | None:
    """The same without its judges; None where nothing is left."""
    others = tuple(one for one in settings.all_scorers if one.scorer != JUDGE)
    return settings.model_copy(update={"scorer": others[0].scorer, "scorers": others}) if others else None


def check_judgeable(settings: RewardSection, tasks: Sequence[Task]) -> None:
    """Raise ConfigError where a judge has nothing to judge one of `tasks` by."""
    for rules in rules_in(settings).values():
        for task in tasks:
            rules.shown(task.problem, task.label)


def verdicts_of_each(others: Verdict, scorers: Sequence[ScorerSettings], judged: dict[str, Verdict]) -> list[Verdict]:
    """The verdict of each of `scorers`: that of a judge, or its part in `others`, which are together. Pure."""
    found, text = [], others.text
    for one in scorers:
        if one.column in judged:
            found.append(judged[one.column])
            continue
        found.append(others.model_copy(update={"score": others.components[one.column], "components": {}, "text": text}))
        text = ""  # once
    return found


@asynccontextmanager
async def opened_judges(
    config: Config,
    cache_file: Path | None = None,
    watchdog: Watchdog | None = None,
    on_trouble: Callable[[str], None] | None = None,
) -> AsyncIterator[OpenedJudges]:
    """The judges of `config`, whose endpoints answer; `cache_file` keeps what they say.

    Raises EndpointSetupError for an endpoint that is no use."""
    settings, rules = config.reward, rules_in(config.reward)
    clients: dict[EndpointSettings, InferenceClient] = {}
    slots: dict[EndpointSettings, asyncio.Semaphore] = {}
    judges: dict[str, AnswerJudge] = {}
    async with AsyncExitStack() as stack:
        cache = await stack.enter_async_context(ReplyCache(cache_file)) if cache_file else None
        for one in settings.judges:
            assert one.endpoint is not None
            if (client := clients.get(one.endpoint)) is None:
                opening = client_of(config, (one.endpoint,), watchdog=watchdog, on_trouble=on_trouble)
                slots[one.endpoint] = asyncio.Semaphore(one.endpoint.max_concurrency)
                client = clients[one.endpoint] = await stack.enter_async_context(opening)
                try:
                    await check_endpoint(client, client.endpoints[0], training=False)
                except EndpointSetupError as error:
                    raise EndpointSetupError(f"reward.judge.endpoint: {error}") from error
            judges[one.column] = AnswerJudge(
                client,
                client.endpoints[0].model,
                rules=rules[one.column],
                max_tokens=settings.judge.max_tokens,
                cache=cache,
                at=one.endpoint.base_url,
                slots=slots[one.endpoint],
            )
        names = (f"judge_{number}" if number > 1 else "judge" for number in range(1, len(clients) + 1))
        yield OpenedJudges(judges, dict(zip(names, clients.values(), strict=True)), cache)


@asynccontextmanager
async def verifier_of(
    config: Config,
    cache_file: Path | None = None,
    *,
    clock: StageClock | None = None,
    watchdog: Watchdog | None = None,
    on_trouble: Callable[[str], None] | None = None,
) -> AsyncIterator[Verifier]:
    """What gives the rewards that `config` wants, judges among them. Raises as `Verifier` and `opened_judges` do."""
    if not config.reward.judges:
        async with Verifier(config.reward) as verifier:
            yield verifier
        return
    async with (
        opened_judges(config, cache_file, watchdog, on_trouble) as opened,
        JudgedVerifier(config.reward, opened, clock) as judged,
    ):
        yield judged
