"""Seeded groups, batches and runs for tests of the learner."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.run.folder import RunFolder
from pipeline.storage.journal import Journal
from pipeline.types import Context, Problem, Rollout, RolloutGroup, Verdict, WeightVersion
from pipeline.weights import publishing, sync
from prompts.analysis import block
from tests.tiny_model import make_tiny_model, make_tiny_tokenizer

NUM_WORDS = 250
GROUP_SIZE = 4
NUM_GROUPS = 4


def tiny_config(root: Path, *, num_steps: int = 3, rollout: dict[str, Any] | None = None, **learner: Any) -> Config:
    """4 groups of 4 rollouts a step, without trackers."""
    settings = {"num_steps": num_steps, "num_warmup_steps": 0, "report_to": (), "cpu_threads": 1, "learning_rate": 1e-3}
    return Config.model_validate(
        {
            "run": {"root": str(root), "name": "run"},
            "rollout": {
                "group_size": GROUP_SIZE,
                "num_problems_per_step": NUM_GROUPS,
                "sampling": {"max_tokens": 12, "temperature": 0.8},
            }
            | (rollout or {}),
            "learner": settings | learner,
        }
    )


def make_group(
    rng: random.Random,
    step: int,
    slot: int,
    *,
    lineage: int = 0,
    version_step: int | None = None,
    same_reward: bool = False,
) -> RolloutGroup:
    """One group of random tokens, sampled by the weights of its step. Slot 0 has a prompt of one token."""
    version = WeightVersion(lineage=lineage, step=step if version_step is None else version_step)
    rollouts = []
    for index in range(GROUP_SIZE):
        length = rng.randint(1, 12)
        reward = 1.0 if same_reward else float((index + rng.randint(0, 1)) % 2)
        rollouts.append(
            Rollout(
                id=f"{step}-{slot}-{index}",
                text="",
                token_ids=tuple(rng.randrange(NUM_WORDS) for _ in range(length)),
                logprobs=tuple(-5.7 + rng.uniform(-0.5, 0.5) for _ in range(length)),
                finish_reason="length" if length == 12 else "stop",
                reward=reward,
                verdict=Verdict(kind="scored", score=reward, correct=reward == 1.0),
                oldest_version=version,
                newest_version=version,
            )
        )
    prompt_length = 1 if slot == 0 else rng.randint(2, 20)
    return RolloutGroup(
        id=f"{step}-{slot}",
        lineage=lineage,
        step=step,
        slot=slot,
        problem=Problem(id=f"p{slot}", text="What is 1 + 1?"),
        context=Context(),
        prompt_ids=tuple(rng.randrange(NUM_WORDS) for _ in range(prompt_length)),
        rollouts=tuple(rollouts),
        created_s=float(step),
    )


def make_groups(step: int, *, lineage: int = 0, num_zero_variance: int = 1) -> list[RolloutGroup]:
    """The groups of one step, always the same. The last `num_zero_variance` of them teach nothing."""
    rng = random.Random(step)
    return [
        make_group(rng, step, slot, lineage=lineage, same_reward=slot >= NUM_GROUPS - num_zero_variance)
        for slot in range(NUM_GROUPS)
    ]


def as_pairs(groups: list[RolloutGroup], context: Context | None = None) -> list[RolloutGroup]:
    """Groups 2k and 2k + 1 as pairs: of one problem, the second ones in `context`, under lessons if it is None."""
    context = context or Context(drawn="inter", kind="inter")
    return [
        group.model_copy(
            update={
                "pair": group.slot - group.slot % 2,
                "problem": groups[group.slot - group.slot % 2].problem,
                "context": context if group.slot % 2 else Context(),
            }
        )
        for group in groups
    ]


def in_contexts(groups: list[RolloutGroup]) -> list[RolloutGroup]:
    """The groups in odd slots as under lessons: with a bare prompt, and an analysis before each solution but for the
    last rollout's, which has none."""
    tokenizer = make_tiny_tokenizer()
    analysis, first = (tokenizer.encode(text) for text in (block("Add."), "4"))
    return [
        group
        if group.slot % 2 == 0
        else group.model_copy(
            update={
                "context": Context(drawn="inter", kind="inter"),
                "bare_prompt_ids": group.prompt_ids[1:],
                "rollouts": (
                    *(_after(rollout, analysis, first) for rollout in group.rollouts[:-1]),
                    _after(group.rollouts[-1], [], first),
                ),
            }
        )
        for group in groups
    ]


def _after(rollout: Rollout, analysis: list[int], first: list[int]) -> Rollout:
    """The rollout behind an analysis, its first token another one."""
    return rollout.model_copy(
        update={
            "token_ids": (*analysis, *first, *rollout.token_ids[1:]),
            "logprobs": (*[-1.0] * len(analysis), *rollout.logprobs),
        }
    )


def with_rewards(group: RolloutGroup, rewards: Sequence[float]) -> RolloutGroup:
    rollouts = zip(group.rollouts, rewards, strict=True)
    return group.model_copy(
        update={"rollouts": tuple(rollout.model_copy(update={"reward": reward}) for rollout, reward in rollouts)}
    )


def make_run(
    root: Path,
    *,
    num_steps: int = 3,
    num_written: int | None = None,
    rollout: dict[str, Any] | None = None,
    groups: Callable[[int], list[RolloutGroup]] = make_groups,
    **learner: Any,
) -> RunFolder:
    """A run folder as the orchestrator leaves it to the learner: reference published, no server, groups in the journal.

    `num_written` steps are in the journal; None: all.
    """
    run = RunFolder.create(tiny_config(root, num_steps=num_steps, rollout=rollout, **learner))
    publishing.publish(run, WeightVersion(lineage=0, step=0), make_tiny_model)  # type: ignore[arg-type]
    sync.write_servers(run, [])
    journal = Journal(run.store)
    for step in range(num_steps if num_written is None else num_written):
        journal.append(groups(step))
    return run
