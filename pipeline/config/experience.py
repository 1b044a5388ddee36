"""Settings of the language half: contexts, retrieval, reflection, abstraction and the experience pool."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.config.base import Positive, Probability, Schedule, Section
from pipeline.config.endpoints import EndpointSettings

EvictionPolicy = Literal["oldest", "worst", "least_useful", "most_redundant"]


LESSON_TOKENS = 320
"""Of the longest lesson that the schema allows, some 900 characters of JSON."""


class FeedbackSection(Section):
    ratio: Schedule[Probability] = Field(
        0.75,
        description="p_t: probability that a prompt is feedback-aware; a number, or [[step, p], ...] interpolated "
        "linearly.",
    )
    intra_share: Probability = Field(0.5, description="Of the feedback-aware prompts, the share that reflects (intra).")
    similarity: Literal["lexical", "bm25", "embedding", "judge"] = Field(
        "lexical",
        description="Measure of gamma: rapidfuzz; BM25 over the query's own; cosine of embeddings; an LLM's judgement.",
    )
    similarity_endpoint: EndpointSettings | None = Field(
        None,
        description="Who embeds or judges; none: the policy judges. python -m servers.embed is one for 'embedding'.",
    )
    similarity_threshold: Probability = Field(0.9, description="gamma: least similarity of a stored problem.")
    num_candidates: Positive = Field(
        32, description="Candidates of BM25 whose similarity is asked, beside those of the problem itself."
    )
    num_candidates_per_problem: Positive = Field(
        4, description="Most of them of one problem, newest first: one with many entries must not crowd out the others."
    )
    num_lessons: Positive = Field(1, description="Most entries shown in one inter prompt.")
    diversity: Probability = Field(
        0.0, description="Weight of being unlike the lessons chosen already (MMR); 0: by rank alone."
    )
    recency_weight: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Added to the similarity of an entry made now when ranking; less for older ones."
    )
    recency_half_life_steps: Annotated[float, Field(gt=0)] = Field(100.0, description="Steps after which it is half.")
    usefulness_weight: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description="Added, times the mean reward of rollouts that saw the entry; it makes contexts depend on rewards.",
    )

    @model_validator(mode="after")
    def _embeddings_come_from_somewhere(self) -> FeedbackSection:
        if self.similarity == "embedding" and self.similarity_endpoint is None:
            raise ValueError(
                "similarity = 'embedding' needs feedback.similarity_endpoint, for example of `python -m servers.embed`"
            )
        return self


class ReflectionSection(Section):
    select: Literal["any", "failed"] = Field(
        "any",
        description="Which earlier attempt is shown; 'failed' (the paper's wording) tells the model that it is wrong.",
    )
    max_attempt_chars: Positive = Field(
        2000, description="Longest attempt shown, characters; longer ones keep head and tail."
    )


class AbstractionSection(Section):
    enabled: bool = Field(True, description="Turn trajectories into lessons.")
    num_per_step: Positive = Field(4, description="Trajectories summarised per step.")
    num_per_group: Positive = Field(1, description="Trajectories summarised of one group.")
    max_tokens_per_step: Positive = Field(
        100_000, description="Most tokens of trajectories that are given to the summarizer per step."
    )
    choose: Literal["random", "spread_first"] = Field(
        "random",
        description="Whose trajectories: any; or first of groups with right and wrong answers, one of each in turn.",
    )
    max_tokens: Positive | None = Field(
        None, description="Longest lesson, tokens; none: 320, in which the longest that the schema allows fits."
    )
    temperature: Annotated[float, Field(ge=0.0)] = Field(0.7, description="Sampling temperature of the summarizer.")
    num_repairs: int = Field(
        1, ge=0, description="Times that the summarizer is told what is wrong with its reply before it is rejected."
    )
    near_copy_threshold: Probability = Field(
        0.95,
        description="A lesson at least this like one of its problem, or of a like problem, is dropped (rapidfuzz).",
    )
    endpoint: EndpointSettings | None = Field(None, description="Summarizer; none: the policy itself.")

    @property
    def longest(self) -> int:
        """`max_tokens`, or what the schema of a lesson allows."""
        return self.max_tokens or LESSON_TOKENS


class PoolSection(Section):
    max_entries_per_problem: Positive = Field(32, description="Most entries of one problem.")
    eviction: EvictionPolicy = Field(
        "oldest", description="Which entry goes when a problem has too many; of equals the oldest."
    )
