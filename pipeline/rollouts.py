"""One group: draw a context, render, fit, sample, score.

Invariants: the context sampled under is the context recorded; every draw depends on (seed, step, slot) alone, so a
resumed run draws the same; a label reaches the verifier and nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Sequence

from pipeline.answers import strip_think
from pipeline.config import Config
from pipeline.contexts import draw_kind, inter_context, intra_context, messages_of, prompt_input, trimmed
from pipeline.endpoints import EndpointPool
from pipeline.journal import Journal
from pipeline.metrics import StageClock
from pipeline.pool import Pool
from pipeline.records import Attempt, Context, Message, Problem, Rollout, RolloutGroup, Task
from pipeline.rewards import Verifier, reward_of
from pipeline.run import Lineage


def seed_of(*parts: object) -> int:
    """A 31-bit seed from `parts`, the same in every process and run."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:4], "big") >> 1


class GroupSampler:
    """Samples and scores groups; holds no state of its own between them."""

    def __init__(
        self,
        config: Config,
        endpoints: EndpointPool,
        verifier: Verifier,
        journal: Journal,
        pool: Pool,
        clock: StageClock,
    ) -> None:
        self._config = config
        self._endpoints = endpoints
        self._verifier = verifier
        self._journal = journal
        self._pool = pool
        self._clock = clock

    async def sample(
        self, task: Task, step: int, slot: int, lineages: Sequence[Lineage], pool_version: int, attempt: int = 0
    ) -> RolloutGroup:
        """One group of G scored rollouts for `task`. Raises EndpointError when the endpoints did not answer."""
        config = self._config
        place = (config.run.seed, step, slot, attempt)
        rng = random.Random(seed_of("context", *place))
        context = await self._draw_context(task, step, rng, list(lineages))
        context, messages, max_tokens = await self._fit(task.problem, context)
        with self._clock.stage("rollout"):
            samples = await self._endpoints.sample(
                messages,
                config.rollout.sampling,
                config.rollout.group_size,
                max_tokens=max_tokens,
                seed=seed_of("rollout", *place),
                stage="rollout",
            )
        texts = [self._visible(completion.text) for completion in samples.completions]
        with self._clock.stage("reward"):
            verdicts = await asyncio.gather(*(self._verifier.verify(text, task.label) for text in texts))
        lineage = lineages[-1].number
        group_id = f"l{lineage}-{step:06d}-{slot:04d}"
        rollouts = []
        for index, (completion, verdict) in enumerate(zip(samples.completions, verdicts, strict=True)):
            assert completion.oldest_version is not None and completion.newest_version is not None
            rollouts.append(
                Rollout(
                    id=f"{group_id}-{index:03d}",
                    text=completion.text,
                    token_ids=completion.token_ids,
                    logprobs=completion.logprobs,
                    finish_reason=completion.finish_reason,
                    reward=reward_of(verdict, config.reward),
                    verdict=verdict,
                    oldest_version=completion.oldest_version,
                    newest_version=completion.newest_version,
                )
            )
        return RolloutGroup(
            id=group_id,
            lineage=lineage,
            step=step,
            slot=slot,
            problem=task.problem,
            context=context,
            prompt_ids=samples.prompt_ids,
            rollouts=tuple(rollouts),
            pool_version=pool_version,
            created_s=time.time(),
        )

    def _visible(self, text: str) -> str:
        return strip_think(text) if self._config.rollout.strip_think else text

    async def _draw_context(self, task: Task, step: int, rng: random.Random, lineages: list[Lineage]) -> Context:
        problem, feedback = task.problem, self._config.feedback
        kind = draw_kind(rng, feedback, step)
        if kind == "inter":
            with self._clock.stage("retrieve"):
                candidates = await asyncio.to_thread(self._pool.search, problem.text, feedback.num_candidates)
            return inter_context(problem, candidates, feedback)
        if kind == "intra":
            attempt = await self._attempt(task, rng, lineages)
            return intra_context(attempt, self._config.reflection.max_attempt_chars)
        return Context()

    async def _attempt(self, task: Task, rng: random.Random, lineages: list[Lineage]) -> Attempt | None:
        """An earlier attempt from the journal, else one sampled now: its cost is counted, it is not trained on."""
        failed_only = self._config.reflection.select == "failed"
        with self._clock.stage("retrieve"):
            known = await asyncio.to_thread(self._journal.attempts, task.problem.id, lineages, failed_only=failed_only)
        if known:
            chosen = rng.choice(known)
            return chosen.model_copy(update={"text": self._visible(chosen.text)})
        with self._clock.stage("reflect"):
            self._clock.count("attempts_sampled")
            reply = await self._endpoints.chat(
                messages_of(prompt_input(task.problem, Context()), self._config.rollout.system_prompt),
                max_tokens=self._config.rollout.sampling.max_tokens,
                temperature=self._config.rollout.sampling.temperature,
                stage="reflect",
                seed=rng.randrange(2**31),
            )
        text = self._visible(reply.text)
        if failed_only and (await self._verifier.verify(text, task.label)).correct:
            return None
        return Attempt(problem_id=task.problem.id, text=text)

    async def _fit(self, problem: Problem, context: Context) -> tuple[Context, tuple[Message, ...], int]:
        """Trim `context` until prompt and completion fit the server; a prompt too long by itself gets a shorter
        completion.
        """
        limit, max_tokens = self._endpoints.max_model_len, self._config.rollout.sampling.max_tokens
        system = self._config.rollout.system_prompt
        while True:
            messages = messages_of(prompt_input(problem, context), system)
            if limit is None or 3 * sum(len(m.content) for m in messages) < limit:
                return context, messages, max_tokens
            with self._clock.stage("render"):
                num_tokens = await self._endpoints.num_prompt_tokens(messages)
            if num_tokens is None or num_tokens + max_tokens <= limit:
                return context, messages, max_tokens
            shorter = trimmed(context)
            if shorter is None:
                return (
                    context.model_copy(update={"num_trimmed": context.num_trimmed + 1}),
                    messages,
                    max(1, limit - num_tokens),
                )
            context = shorter
