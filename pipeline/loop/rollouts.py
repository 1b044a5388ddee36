"""Samples one group: draws a context, renders, trims, samples, scores.

Invariants: the context sampled under is the context recorded; every draw depends on (seed, step, slot) alone, so a
resumed run draws the same; a label reaches the verifier and nothing else. Verdicts reach the prompts of a rescue alone,
whose kinds say so."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, replace
from typing import NamedTuple

from pipeline.config import Config
from pipeline.experience.contexts import as_rescue, draw_kind, intra_context, messages_in, trimmed
from pipeline.experience.retrieval import Retriever
from pipeline.hashing import seed_of
from pipeline.inference.client import InferenceClient
from pipeline.inference.token_protocol import Samples, SamplingRequest
from pipeline.rewards.verifier import Verifier, rewards_of
from pipeline.rewards.version import reward_version
from pipeline.run.lineage import Lineage, is_current
from pipeline.runtime.stage_clock import StageClock
from pipeline.storage.journal import Journal
from pipeline.text import visible, visible_each
from pipeline.types import Attempt, Context, Message, Problem, Rollout, RolloutGroup, Task, WeightVersion


@dataclass(frozen=True)
class GroupKey:
    """Where a group belongs, and all that its draws depend on.

    `turn` counts the attempts, rescues and replacements of the slot; `oldest_step` is the least weights that it may be
    sampled by."""

    lineages: list[Lineage]
    step: int
    slot: int
    turn: int
    pool_version: int
    oldest_step: int
    order: int
    """Requests of a lower order go first, so that groups which began are finished before later ones start."""
    pair: int | None = None
    """First slot of the pair that the slot is half of; that half has no context."""

    @property
    def lineage(self) -> int:
        return self.lineages[-1].number

    @property
    def group_id(self) -> str:
        return f"l{self.lineage}-{self.step:06d}-{self.slot:04d}"

    @property
    def following(self) -> GroupKey:
        """That of the slot's next turn."""
        return replace(self, turn=self.turn + 1)

    def __str__(self) -> str:
        return self.group_id

    def draw(self, seed: int) -> tuple[int, ...]:
        """What every random draw of this group is seeded by."""
        return (seed, self.step, self.slot, self.turn)

    def accepts(self, version: WeightVersion) -> bool:
        """Whether a sample by `version` may be trained here: not older than the bound, and of weights that still
        count."""
        return version.step >= self.oldest_step and is_current(version, self.lineages)


class Prompt(NamedTuple):
    """What is sampled from: a context that fits the server, and the ids of its prompt; none where no limit is known."""

    context: Context
    messages: tuple[Message, ...]
    ids: tuple[int, ...] | None
    max_tokens: int


class GroupSampler:
    """Samples and scores groups; holds no state of its own between them."""

    def __init__(
        self,
        config: Config,
        endpoints: InferenceClient,
        verifier: Verifier,
        journal: Journal,
        retriever: Retriever,
        clock: StageClock,
    ) -> None:
        self._config = config
        self._reward_version = reward_version(config.reward)
        self._endpoints = endpoints
        self._verifier = verifier
        self._journal = journal
        self._retriever = retriever
        self._clock = clock

    @property
    def all_unavailable(self) -> bool:
        """Whether no endpoint, or no judge, is available at present: what fails then is not held against a problem."""
        return self._endpoints.all_unavailable or self._verifier.all_unavailable

    async def sample_pair(self, task: Task, key: GroupKey) -> tuple[RolloutGroup, RolloutGroup]:
        """G rollouts of x alone in the slot of `key`, and G in a context that is drawn in the next one. Both are asked
        at once: by the same weights with S = 0, else within the bound of `key`, as the rollouts of a group are. Raises
        EndpointError when either could not be had."""
        try:
            async with asyncio.TaskGroup() as tasks:
                alone, in_context = (
                    tasks.create_task(self.sample(task, replace(key, slot=slot, pair=key.slot)))
                    for slot in (key.slot, key.slot + 1)
                )
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        first, second = alone.result(), in_context.result()
        if self._needs_bare_prompt(second.context):
            second = second.model_copy(update={"bare_prompt_ids": first.prompt_ids})
        return first, second

    async def sample(self, task: Task, key: GroupKey) -> RolloutGroup:
        """One group of G scored rollouts for `task`. Raises EndpointError when the endpoints did not answer."""
        rng = random.Random(seed_of("context", *key.draw(self._config.run.seed)))
        context = Context() if key.pair == key.slot else await self._draw_context(task, key, rng)
        return await self._group(task, key, await self._fitted(task.problem, context, key), "rollout")

    async def rescue_context(self, group: RolloutGroup, key: GroupKey) -> Context | None:
        """What the problem of an all-wrong `group` is shown when it is sampled again; None where there is nothing to
        show. Raises EndpointError of the measure of similarity."""
        config = self._config
        if config.feedback.rescue == "lesson":
            with self._clock.stage("retrieve"):
                return as_rescue(await self._retriever.context(group.problem, key.step), group.context)
        # Of an answer that nobody could judge the prompt must not say that it is wrong.
        judged = [rollout for rollout in group.rollouts if not rollout.verdict.failed]
        shown = [(rollout, text) for rollout in judged if (text := self._visible(rollout.text)).strip()]
        if not shown:
            return None
        rollout, text = random.Random(seed_of("rescue", *key.draw(config.run.seed))).choice(shown)
        # Its id will be that of a rollout of the group that takes the place of its own.
        attempt = Attempt(problem_id=group.problem.id, text=text, policy_step=rollout.newest_version.step)
        return as_rescue(intra_context(attempt, config.reflection.longest), group.context)

    async def rescue(self, task: Task, context: Context, key: GroupKey) -> RolloutGroup | None:
        """Another group for `task` under a `context` of `rescue_context`; None where nothing of that fits the server.
        Raises EndpointError."""
        prompt = await self._fitted(task.problem, context, key)
        return None if prompt.context.kind == "scratch" else await self._group(task, key, prompt, "rescue")

    async def _group(self, task: Task, key: GroupKey, prompt: Prompt, stage: str) -> RolloutGroup:
        config, context = self._config, prompt.context
        seed = seed_of("rollout", *key.draw(config.run.seed))
        samples = await self._completions(task.problem, prompt, key, config.rollout.group_size, seed, stage)
        bare_prompt_ids: tuple[int, ...] = ()
        if self._needs_bare_prompt(context) and key.pair is None:  # that of a pair is the other half's
            bare_prompt_ids = await self._bare_prompt(task.problem, key)
        texts = visible_each([completion.text for completion in samples.completions], strip=config.rollout.strip_think)
        with self._clock.stage("reward"):
            verdicts = await self._verifier.verify_group(texts, task)
        rewards = rewards_of(verdicts)
        rollouts = []
        for index, (completion, verdict, reward) in enumerate(zip(samples.completions, verdicts, rewards, strict=True)):
            assert completion.oldest_version is not None and completion.newest_version is not None
            rollouts.append(
                Rollout(
                    id=f"{key.group_id}-{index:03d}",
                    text=completion.text,
                    token_ids=completion.token_ids,
                    logprobs=completion.logprobs,
                    finish_reason=completion.finish_reason,
                    reward=reward,
                    verdict=verdict,
                    oldest_version=completion.oldest_version,
                    newest_version=completion.newest_version,
                )
            )
        return RolloutGroup(
            id=key.group_id,
            lineage=key.lineage,
            step=key.step,
            slot=key.slot,
            pair=key.pair,
            problem=task.problem,
            context=context,
            prompt_ids=samples.prompt_ids,
            bare_prompt_ids=bare_prompt_ids,
            rollouts=tuple(rollouts),
            pool_version=key.pool_version,
            reward_version=self._reward_version,
            created_s=time.time(),
        )

    async def _fitted(self, problem: Problem, context: Context, key: GroupKey) -> Prompt:
        """`context` trimmed until prompt and completion fit the server."""
        limit, max_tokens = self._endpoints.token_limit, self._config.rollout.sampling.longest
        while True:
            messages = messages_in(problem, context, self._config)
            if limit is None:
                return Prompt(context, messages, None, max_tokens)
            with self._clock.stage("render"):
                ids = await self._endpoints.render(messages, priority=key.order)
            if len(ids) + max_tokens <= limit:
                return Prompt(context, messages, ids, max_tokens)
            shorter = trimmed(context)
            if shorter is None:
                context = context.model_copy(update={"num_trimmed": context.num_trimmed + 1})
                return Prompt(context, messages, ids, max(1, int(limit) - len(ids)))
            context = shorter

    async def _completions(
        self, problem: Problem, prompt: Prompt, key: GroupKey, num_samples: int, seed: int, stage: str
    ) -> Samples:
        """Completions of `prompt` by weights that `key` accepts."""
        endpoints, sampling = self._endpoints, self._config.rollout.sampling
        request: SamplingRequest = {
            "max_tokens": prompt.max_tokens,
            "seed": seed,
            "stage": stage,
            "priority": key.order,
            # Prompts of one problem begin alike.
            "affinity": problem.id,
            "accept": key.accepts,
        }
        with self._clock.stage(stage):
            if prompt.ids is None:
                return await endpoints.sample(prompt.messages, sampling, num_samples, **request)
            return await endpoints.generate(prompt.ids, sampling, num_samples, **request)

    def _needs_bare_prompt(self, context: Context) -> bool:
        return self._config.learner.train_under == "scratch" and context.kind != "scratch"

    async def _bare_prompt(self, problem: Problem, key: GroupKey) -> tuple[int, ...]:
        """The token ids of x alone, as the chat template renders it; of an endpoint without a render route as a reply
        of one token tells them."""
        messages, config = messages_in(problem, Context(), self._config), self._config
        with self._clock.stage("render"):
            if self._endpoints.token_limit is not None:
                return await self._endpoints.render(messages, priority=key.order)
            request: SamplingRequest = {"max_tokens": 1, "seed": 0, "stage": "render", "priority": key.order}
            return (await self._endpoints.sample(messages, config.rollout.sampling, 1, **request)).prompt_ids

    def _visible(self, text: str) -> str:
        return visible(text, strip=self._config.rollout.strip_think)

    async def _draw_context(self, task: Task, key: GroupKey, rng: random.Random) -> Context:
        problem, config = task.problem, self._config
        kind = draw_kind(rng, config.ratio_at(key.step), config.feedback.intra_share)
        if kind == "inter":
            with self._clock.stage("retrieve"):
                return await self._retriever.context(problem, key.step)
        if kind == "intra":
            attempt = await self._attempt(task, key, rng)
            return intra_context(attempt, config.reflection.longest)
        return Context()

    async def _attempt(self, task: Task, key: GroupKey, rng: random.Random) -> Attempt | None:
        """An earlier attempt from the journal, else one sampled now, as rollouts are: its cost is counted, it is not
        trained on."""
        settings = self._config.reflection
        failed_only = settings.select == "failed"
        with self._clock.stage("retrieve"):
            known = await asyncio.to_thread(
                self._journal.attempt,
                task.problem.id,
                key.lineages,
                rng,
                failed_only=failed_only,
                weight=lambda step: settings.weight(key.step - step),
            )
        if known is not None:
            return known.model_copy(update={"text": self._visible(known.text)})
        self._clock.count("attempts_sampled")
        seed = rng.randrange(2**31)
        prompt = await self._fitted(task.problem, Context(), key)
        samples = await self._completions(task.problem, prompt, key, 1, seed, "reflect")
        (completion,) = samples.completions
        assert completion.newest_version is not None
        text = self._visible(completion.text)
        if failed_only and (await self._verifier.verify(text, task)).correct:
            return None
        return Attempt(problem_id=task.problem.id, text=text, policy_step=completion.newest_version.step)
