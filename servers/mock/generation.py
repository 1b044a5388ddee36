"""Samples of a prompt, after the latency and any pause, in the shapes of the routes that return them.

An answer depends only on the seed, the prompt, the request's seed and the index of the choice."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from servers.mock.answers import END_ID, answer, conforming, decode, encode
from servers.mock.control import Control
from servers.mock.latency import Latency
from servers.mock.settings import Settings

Json = dict[str, Any]


class Sample(NamedTuple):
    """One answer. `token_ids` (T,), `logprobs` (T,); `versions` are spans of tokens with their label."""

    text: str
    token_ids: list[int]
    logprobs: list[float]
    finish_reason: str
    versions: list[Json]


class Generator:
    """Makes samples as slowly as it was told to."""

    def __init__(self, control: Control, settings: Settings) -> None:
        self._control = control
        self._settings = settings
        self._latency = Latency(settings.latency or f"fixed:{settings.latency_s}", settings.seed)

    async def sample(self, prompt: str, sampling: Json, max_tokens: int, schema: Json | None = None) -> list[Sample]:
        """`n` answers. Weights that change meanwhile sampled the second half of each."""
        first = self._control.version
        await asyncio.sleep(self._latency.draw_s())
        await self._control.running.wait()
        drafts = [self._draft(prompt, sampling, max_tokens, schema, index) for index in range(sampling.get("n") or 1)]
        if self._settings.s_per_token:
            await asyncio.sleep(self._settings.s_per_token * max(len(ids) for ids, _ in drafts))
            await self._control.running.wait()
        return [self._sample(ids, rng, first) for ids, rng in drafts]

    async def stream(
        self, prompt: str, sampling: Json, max_tokens: int, schema: Json | None = None
    ) -> AsyncIterator[tuple[Sample, int]]:
        """One sample, token by token: the sample and the number of the token."""
        await asyncio.sleep(self._latency.draw_s())
        await self._control.running.wait()
        ids, rng = self._draft(prompt, sampling, max_tokens, schema, 0)
        sample = self._sample(ids, rng, self._control.version)
        for index in range(len(ids)):
            if self._settings.s_per_token:
                await asyncio.sleep(self._settings.s_per_token)
            yield sample, index

    def _draft(
        self, prompt: str, sampling: Json, max_tokens: int, schema: Json | None, index: int
    ) -> tuple[list[int], random.Random]:
        greedy = sampling.get("temperature", 1.0) == 0
        drawn = (self._settings.seed, prompt) if greedy else (self._settings.seed, prompt, sampling.get("seed"), index)
        rng = random.Random(repr(drawn))
        text = answer(prompt, rng, self._settings.accuracy) if schema is None else json.dumps(conforming(schema, rng))
        ids = encode(text)
        if (length := self._settings.num_tokens) and schema is None:
            ids = (ids * (length // len(ids) + 1))[: length - 1]
        return [*ids, END_ID][:max_tokens], rng

    def _sample(self, ids: list[int], rng: random.Random, first: str) -> Sample:
        last, half = self._control.version, len(ids) // 2
        spans = [(last, 0, len(ids))] if first == last or not half else [(first, 0, half), (last, half, len(ids))]
        versions = [{"version": version, "start": start, "end": end} for version, start, end in spans]
        reason = "stop" if ids[-1] == END_ID else "length"
        return Sample(decode(ids), ids, [-rng.random() for _ in ids], reason, versions)


def token_logprobs(sample: Sample, num_top: int = 0, temperature: float = 1.0) -> list[Json]:
    """One entry per token. The top candidates are half a nat apart at temperature 1, and 1/T times that at T."""
    top = [{"token": str(rank), "logprob": -(0.1 + 0.5 * rank / temperature), "bytes": None} for rank in range(num_top)]
    pairs = zip(sample.token_ids, sample.logprobs, strict=True)
    return [
        {"token": decode([token]), "logprob": logprob, "bytes": None, "top_logprobs": top} for token, logprob in pairs
    ]


def id_logprobs(sample: Sample) -> list[Json]:
    pairs = zip(sample.token_ids, sample.logprobs, strict=True)
    return [{"token_id": token, "logprob": logprob, "rank": 1, "top_logprobs": []} for token, logprob in pairs]


def usage(num_prompt: int, samples: list[Sample]) -> Json:
    num_sampled = sum(len(sample.token_ids) for sample in samples)
    return {"prompt_tokens": num_prompt, "completion_tokens": num_sampled, "total_tokens": num_prompt + num_sampled}
