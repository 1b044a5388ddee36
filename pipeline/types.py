"""The records that flow between the parts: frozen pydantic models.

Reward-agnosticism is a type here: `Problem`, `Attempt` and `Lesson` (of `prompts`) hold no label and no reward, and the
renderer accepts only these. Gold answers live in `Label`, rewards in `Rollout` and `Experience`. A prompt that tells
the outcome of an attempt at its own problem is of `RESCUE_KINDS`."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Collection, Iterable, Mapping
from functools import total_ordering
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from pipeline.text import is_among, text_hash
from prompts.schemas import AnswerForm, Lesson

ContextKind = Literal["scratch", "inter", "intra", "rescue_inter", "rescue_intra"]
DRAWN_KINDS: tuple[ContextKind, ...] = ("scratch", "inter", "intra")
"""What chance draws, and what knows no outcome of the problem that it is for."""
RESCUE_KINDS: tuple[ContextKind, ...] = ("rescue_inter", "rescue_intra")
"""What a problem is shown because a scratch group of it was all wrong: lessons, or one of these attempts."""
Split = Literal["train", "heldout"]
SearchOutcome = Literal[
    "shown",
    "trimmed",
    "same_problem",
    "near_duplicate",
    "held_out",
    "crowded_out",
    "below_threshold",
    "same_lesson",
    "not_among_best",
]
_NOT_COMPARED: frozenset[SearchOutcome] = frozenset({"same_problem", "near_duplicate", "held_out", "crowded_out"})
"""Of entries that may not be shown, whatever their similarity."""
IMPORTED = "i-"
"""How the ids of imported entries begin."""


def removed_by_gamma(outcomes: Mapping[str, int]) -> tuple[int, int]:
    """How many candidates of searches, counted by what was made of them, gamma removed; and of how many that may be
    shown."""
    compared = {outcome: num for outcome, num in outcomes.items() if outcome not in _NOT_COMPARED}
    return compared.get("below_threshold", 0), sum(compared.values())


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Problem(Record):
    """A problem as the policy may see it."""

    id: str
    text: str
    split: Split = "train"
    family: str = ""
    form: AnswerForm = "boxed"
    question: str = Field(
        "", description="What the source asks, where `text` wraps it in words that all its problems share."
    )

    @property
    def query_text(self) -> str:
        """What tells this problem from others: compared and searched for, never shown in place of `text`."""
        return self.question or self.text

    @property
    def text_hash(self) -> str:
        return text_hash(self.query_text)


class Label(Record):
    """The gold answer of one problem. Never rendered."""

    problem_id: str
    answer: str
    entry: dict[str, Any] = Field(default_factory=dict, description="What the family's own scorer needs.")
    row: dict[str, Any] = Field(default_factory=dict, description="The row as it was read, for a scorer of the user's.")

    @property
    def answers(self) -> tuple[str, ...]:
        """Every gold answer: any of them is right."""
        return tuple(self.entry.get("answers", (self.answer,)))


class Task(Record):
    """A problem beside its label, as the problem source yields them."""

    problem: Problem
    label: Label
    solution: str = Field("", description="Worked solution as the source writes it: for SFT, and never rendered.")

    def with_row(self, values: dict[str, Any]) -> Task:
        """The task with the row that it was read from, for scorers."""
        return self.model_copy(update={"label": self.label.model_copy(update={"row": values})})


class Attempt(Record):
    """An earlier answer of the policy to a problem; its reward is deliberately absent."""

    problem_id: str
    text: str
    rollout_id: str = ""
    policy_step: int | None = Field(None, description="Updates of the newest weights that wrote any of it.")


OutcomesTold = Literal["hidden", "shown", "contrast"]
"""What a summarizer is told of right and wrong."""


class Origin(Record):
    """How an entry of the pool was made. Empty texts: not known, as of entries that were made before it was kept."""

    templates: str = Field("", description="The set of templates and its hash: 'full@0f3c…'.")
    summarizer: str = Field("", description="The model that was asked, with the endpoint where it is not the policy.")
    weights: str = Field("", description="Version of the policy's weights; empty for another model.")
    outcomes: OutcomesTold = Field("hidden", description="What the summarizer was told of this very attempt.")
    contrasted_with: str = Field("", description="Id of the wrong rollout that stood beside a right one.")
    critique: str = Field("", description="What the summarizer found in the attempt. No prompt shows it.")


class Experience(Record):
    """One entry of the pool: a lesson and where it came from."""

    id: str
    lesson: Lesson
    problem_id: str
    problem_text: str
    problem_hash: str
    family: str = ""
    split: Split
    template_hash: str = Field("", description="Identity of the prompt that the summarizer was given.")
    origin: Origin = Origin()
    lineage: int
    policy_version: int
    step: int
    reward: float = Field(description="Of the rollout that it was made from.")
    kind: ContextKind
    rollout_id: str
    created_s: float
    num_retrieved: int = Field(0, description="Groups that saw it in runs before the one that it is in now.")
    num_rollouts: int = Field(0, description="Rollouts of these groups.")
    reward_sum: float = Field(0.0, description="Sum of their rewards.")

    @property
    def is_imported(self) -> bool:
        """Whether another run made it: its rollout and step are none of the run whose pool it is in."""
        return self.id.startswith(IMPORTED)

    def is_held_out(self, keys: Collection[str]) -> bool:
        """Whether its problem is held out, by its split or as one of `keys` (`pipeline.text.is_among`)."""
        return self.split != "train" or self.problem_hash in keys or bool(keys and is_among(self.problem_text, keys))

    def as_imported(self) -> Experience:
        """The entry as another run's pool keeps it: under an id that no run gives, since every run counts from its own
        first step, and older than all that is made there."""
        if self.is_imported:
            return self
        content = "\n".join((self.id, self.problem_hash, self.lesson.model_dump_json(), repr(self.created_s)))
        digest = hashlib.sha256(content.encode()).hexdigest()[:12]
        return self.model_copy(update={"id": f"{IMPORTED}{digest}-{self.id}", "step": 0})


class Considered(Record):
    """An entry that a search found for a prompt, and what was made of it. `similarity` is None where nobody asked."""

    id: str
    bm25: float
    similarity: float | None
    outcome: SearchOutcome


class Context(Record):
    """What a prompt shows beside the problem. `drawn` is the kind the policy drew, `kind` the one it became: scratch
    where there was nothing to show, or one of `RESCUE_KINDS`, which are never drawn."""

    drawn: ContextKind = "scratch"
    kind: ContextKind = "scratch"
    lessons: tuple[Lesson, ...] = ()
    lesson_ids: tuple[str, ...] = ()
    sources: tuple[str, ...] = Field((), description="The problems that the lessons were drawn from, as shown.")
    considered: tuple[Considered, ...] = Field((), description="The retrieval's trace, in the order of the search.")
    attempt: Attempt | None = None
    num_trimmed: int = Field(0, description="Parts dropped or cut so that the prompt fits max_model_len.")


class Message(Record):
    role: Literal["system", "user", "assistant"]
    content: str


@total_ordering
class WeightVersion(Record):
    """A published policy: lineage + number of optimizer steps. A restart from a checkpoint begins a new lineage."""

    lineage: int = Field(ge=0)
    step: int = Field(ge=0)

    @property
    def label(self) -> str:
        return f"l{self.lineage}-s{self.step:06d}"

    @classmethod
    def parse(cls, label: str) -> WeightVersion | None:
        """The version that `label` names, or None for a label that is not ours (a fresh server says 'default')."""
        match = re.fullmatch(r"l(\d+)-s(\d+)", label)
        return cls(lineage=int(match[1]), step=int(match[2])) if match else None

    def __lt__(self, other: WeightVersion) -> bool:
        return (self.lineage, self.step) < (other.lineage, other.step)


class Completion(NamedTuple):
    """One sampled answer as an endpoint returned it. `token_ids` (T,) and `logprobs` (T,) are of the sampled tokens.

    `pipeline.inference.protocol` checked it; a tuple, because thousands a second are made only to become rollouts."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: str
    oldest_version: WeightVersion | None = None
    newest_version: WeightVersion | None = None


UNJUDGEABLE = frozenset({"error", "missing_module"})
"""Kinds of verdicts that are nobody's fault but the scorer's, or its settings'."""
FAILED = UNJUDGEABLE | {"timeout"}
"""Kinds of verdicts that carry no judgement."""
MAX_ANSWER_CHARS = 1000
"""Of an answer that a verdict keeps."""


class Verdict(Record):
    """What the scorers said of one answer. 'timeout', 'error' and 'missing_module' (a program imports what its sandbox
    lacks) are outcomes of their own and carry no judgement."""

    kind: Literal["scored", "no_answer", "timeout", "error", "missing_module"]
    score: float = Field(0.0, description="The reward: what each scorer gave, times its weight, added up.")
    correct: bool = Field(False, description="Whether the first scorer gave `reward.threshold` or more.")
    answer: str | None = None
    text: str = Field("", description="What the scorers said in words; of an outcome without a judgement, the reason.")
    components: dict[str, float] = Field(
        default_factory=dict, description="What each scorer gave, by its name, before weights."
    )

    @property
    def failed(self) -> bool:
        """Whether no judgement could be had."""
        return self.kind in FAILED


class Rollout(Record):
    """One scored completion. Token ids and behaviour log-probabilities are exact; nothing is tokenized again."""

    id: str
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: str
    reward: float
    verdict: Verdict
    oldest_version: WeightVersion
    newest_version: WeightVersion


class GroupOutcome(Record):
    """What became of an attempt at a group that was not journalled; one that was is data."""

    step: int
    slot: int
    turn: int
    kind: Literal["zero_variance", "failed", "deadline", "rescued", "rescue_failed"]
    problem_id: str
    error_kind: str = ""
    detail: str = ""


class Rescued(Record):
    """The all-wrong scratch group in whose place another one of its problem stands."""

    rewards: tuple[float, ...]
    num_prompt_tokens: int
    num_completion_tokens: int


class RolloutGroup(Record):
    """G rollouts of one prompt (x, c): the unit of journal and training, and of advantages but for a pair.
    `prompt_ids` (P,)."""

    id: str
    lineage: int
    step: int = Field(description="Optimizer step that will train this group.")
    slot: int = Field(description="Position within the step's batch.")
    pair: int | None = Field(
        None, description="First slot of the pair that this is half of: that of x alone; the other half is in the next."
    )
    problem: Problem
    context: Context
    prompt_ids: tuple[int, ...]
    bare_prompt_ids: tuple[int, ...] = Field(
        (), description="The prompt of x alone, of a group in a context that is to be trained without it."
    )
    rollouts: tuple[Rollout, ...]
    pool_version: int = Field(0, description="Version of the pool's table when the step began.")
    reward_version: str = Field("", description="Identity of the scorers and settings that gave the rewards.")
    rescued: Rescued | None = None
    tried_rescue: bool = Field(False, description="Whether its slot has had a rescue, this group or one before it.")
    created_s: float = 0.0

    @property
    def versions(self) -> tuple[WeightVersion, WeightVersion]:
        """The oldest and the newest weights that sampled any of its tokens."""
        return (
            min(rollout.oldest_version for rollout in self.rollouts),
            max(rollout.newest_version for rollout in self.rollouts),
        )

    @property
    def rewards(self) -> tuple[float, ...]:
        return tuple(rollout.reward for rollout in self.rollouts)

    @property
    def zero_variance(self) -> bool:
        """Whether all rewards of the group are equal, so that it teaches nothing by itself."""
        return have_equal_rewards([self])

    @property
    def has_success(self) -> bool:
        """Whether a rollout is right."""
        return any(rollout.verdict.correct for rollout in self.rollouts)

    @property
    def all_wrong(self) -> bool:
        """Whether no rollout is right, of which at least one could be judged."""
        return not self.has_success and not all(rollout.verdict.failed for rollout in self.rollouts)

    def as_rescued(self) -> Rescued:
        """What is kept of the group where another one takes its place."""
        return Rescued(
            rewards=self.rewards,
            num_prompt_tokens=len(self.prompt_ids),
            num_completion_tokens=sum(len(rollout.token_ids) for rollout in self.rollouts),
        )


def have_equal_rewards(groups: Iterable[RolloutGroup]) -> bool:
    """Whether all rewards are equal in float32, as the learner gets them, so that every advantage over them is 0."""
    return len(set(array("f", (reward for group in groups for reward in group.rewards)))) == 1


def advantage_groups(groups: Iterable[RolloutGroup]) -> list[tuple[RolloutGroup, ...]]:
    """The groups of a step by whose rewards an advantage is normalised: the two of a pair, or one alone."""
    together: dict[int, tuple[RolloutGroup, ...]] = {}
    for group in groups:
        first = group.slot if group.pair is None else group.pair
        together[first] = (*together.get(first, ()), group)
    return list(together.values())
