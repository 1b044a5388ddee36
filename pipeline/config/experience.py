"""Settings of the language half: contexts, retrieval, reflection, abstraction and the experience pool."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.config.base import Annealing, Positive, Probability, Schedule, Section, annealed, value_at
from pipeline.config.endpoints import EndpointSettings
from prompts.schemas import MAX_FLOW_CHARS, MAX_RULES, MAX_SHORT_CHARS, SIZE_SETTINGS, SIZES, LessonSizes

EvictionPolicy = Literal["oldest", "worst", "least_useful", "most_redundant"]

_USEFUL_SHARE = (0.05, 0.95)
"""Of the candidates, what gamma removes: less, and it filters nothing; more, and hardly a lesson is shown."""


class FeedbackSection(Section):
    ratio: Schedule[Probability] = Field(
        0.75,
        description="p_t: probability that a prompt is feedback-aware; a number, or [[step, p], ...] interpolated "
        "linearly.",
    )
    end_ratio: Probability | None = Field(
        None,
        description="p_t of the last step, to which it goes from `ratio`, then a number; none: it is not annealed.",
    )
    annealing: Annealing = Field("linear", description="How p_t goes from `ratio` to `end_ratio`.")
    rescue: Literal["off", "lesson", "reflect"] = Field(
        "off",
        description="A scratch group whose answers are all wrong is sampled again under lessons of other problems, or "
        "under one of its attempts, which the prompt says is wrong; if that has a right one it takes the slot. Before "
        "rollout.refill_zero_variance, at most once a slot.",
    )
    max_rescues_per_step: Positive | None = Field(
        None, description="Most groups of a step that are sampled again, those of lower slots first; none: no bound."
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
    max_source_chars: Annotated[int, Field(ge=40)] = Field(
        400, description="Longest text of the problem that a lesson is headed by, characters."
    )
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

    def ratio_at(self, step: int, num_steps: int) -> float:
        """p_t at `step` of a run of `num_steps` steps."""
        if self.end_ratio is None or isinstance(self.ratio, tuple):
            return value_at(self.ratio, step)
        return annealed(self.ratio, self.end_ratio, step, num_steps, self.annealing)

    @property
    def asks_endpoint(self) -> bool:
        """Whether the measure of similarity asks an endpoint."""
        return self.similarity in ("embedding", "judge")

    def gamma_verdict(self, share: float) -> str:
        """What is wrong with a gamma that removes this share of the candidates; empty where nothing is."""
        least, most = _USEFUL_SHARE
        if share < least:
            return (
                "it filters next to nothing, so that rank alone chooses lessons; raise it, unless every candidate suits"
            )
        return "hardly a lesson is shown; lower it" if share > most else ""

    @model_validator(mode="after")
    def _ratio_has_one_end(self) -> FeedbackSection:
        if self.end_ratio is not None and isinstance(self.ratio, tuple):
            raise ValueError(
                f"end_ratio = {self.end_ratio:g} is where a number goes, and ratio is a schedule with its own end; "
                "set feedback.ratio to a number, or leave out feedback.end_ratio"
            )
        return self

    @model_validator(mode="after")
    def _embeddings_come_from_somewhere(self) -> FeedbackSection:
        if self.similarity == "embedding" and self.similarity_endpoint is None:
            raise ValueError(
                "similarity = 'embedding' needs feedback.similarity_endpoint, for example of `python -m servers.embed`"
            )
        return self


SHOWN_CHARS = 2000
"""Of an attempt that is shown, where no model says what fits."""


class ReflectionSection(Section):
    select: Literal["any", "failed"] = Field(
        "any",
        description="Which earlier attempt is shown; 'failed' (the paper's wording) tells the model that it is wrong.",
    )
    recency_half_life_steps: Annotated[float, Field(gt=0)] | None = Field(
        16.0,
        description="Steps after which an earlier attempt is drawn half as often as one of today's policy; none: all "
        "alike.",
    )
    max_attempt_chars: Positive | None = Field(
        None,
        description="Longest attempt shown, characters; a longer one keeps beginning, end and final answer. none: as "
        "long as a completion may be, as far as the context allows; at least 2,000.",
    )

    @property
    def longest(self) -> int:
        """`max_attempt_chars`, or the least of what is derived for it."""
        return self.max_attempt_chars or SHOWN_CHARS

    def weight(self, age: int) -> float:
        """How likely an attempt is drawn whose policy is `age` updates behind, beside one of today's."""
        return 1.0 if self.recency_half_life_steps is None else 0.5 ** (max(0, age) / self.recency_half_life_steps)


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
    outcomes: Literal["hidden", "shown", "contrast"] = Field(
        "hidden",
        description="What the summarizer is told of an attempt, whose lesson is for other problems: nothing; right or "
        "wrong; or a right and a wrong one of a group side by side, one alone with its outcome where there are no such "
        "two. No prompt of the policy tells an outcome.",
    )
    critique_chars: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Longest critique before a lesson; 0: none. none: 240, with full templates 2,000."
    )
    flow_chars: Annotated[int, Field(ge=1, le=MAX_FLOW_CHARS)] | None = Field(
        None, description="Longest flow of thought of a lesson. none: 200, with full templates 800."
    )
    rule_chars: Annotated[int, Field(ge=1, le=MAX_SHORT_CHARS)] | None = Field(
        None, description="Longest principle or pitfall. none: 160, with full templates 320."
    )
    num_principles: Annotated[int, Field(ge=1, le=MAX_RULES)] | None = Field(
        None, description="Most principles of a lesson. none: 2, with full templates 4."
    )
    num_pitfalls: Annotated[int, Field(ge=0, le=MAX_RULES)] | None = Field(
        None, description="Most pitfalls of a lesson. none: 2, with full templates 4."
    )
    max_trajectory_chars: Positive | None = Field(
        None,
        description="Longest attempt given to the summarizer, two beside each other half each; a longer one keeps "
        "beginning, end and final answer. none: as long as a completion may be, as far as the context allows; at "
        "least 4,000.",
    )
    max_tokens: Positive | None = Field(
        None, description="Longest reply of the summarizer, tokens; none: what the sizes of its parts allow."
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
    def longest_trajectory(self) -> int:
        """`max_trajectory_chars`, or the least of what is derived for it."""
        return self.max_trajectory_chars or 2 * SHOWN_CHARS

    def sizes(self, templates: str) -> LessonSizes:
        """How long the parts of a lesson may be, with the defaults of a set of `templates`."""
        usual = SIZES.get("compact" if templates == "auto" else templates, SIZES["full"])
        given = {size: getattr(self, setting) for size, setting in SIZE_SETTINGS.items()}
        return usual.model_copy(update={name: size for name, size in given.items() if size is not None})


class PoolSection(Section):
    max_entries_per_problem: Positive = Field(32, description="Most entries of one problem.")
    eviction: EvictionPolicy = Field(
        "oldest", description="Which entry goes when a problem has too many; of equals the oldest."
    )
