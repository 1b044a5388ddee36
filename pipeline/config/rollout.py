"""Settings of rollouts: groups, sampling, rewards."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from pipeline.config.base import Positive, Probability, Section
from pipeline.config.endpoints import EndpointSettings
from pipeline.config.judge import JUDGE, JudgeSection

USUAL_COMPLETION = 1024
"""Tokens that most answers of instruction-tuned models fit in."""


class SamplingSection(Section):
    temperature: Annotated[float, Field(ge=0.0)] = Field(
        1.0, description="Sampling temperature; the learner divides by it too."
    )
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0, description="Nucleus; below 1 the log-probabilities are of the cut distribution."
    )
    top_k: int = Field(0, ge=0, description="Most likely tokens kept; 0: all.")
    min_p: Probability = Field(0.0, description="Least probability relative to the most likely token.")
    max_tokens: Positive | None = Field(
        None,
        description="Longest completion, tokens. none: twice the longest worked solution, 1,024 where there is none, "
        "as far as model and memory allow.",
    )
    seeded: bool = Field(
        False,
        description="Send a seed with each request, so that a deterministic endpoint repeats itself. vLLM on a CPU "
        "dies of it.",
    )

    @property
    def longest(self) -> int:
        """`max_tokens`, or where nothing derived it (no model is at hand) what most answers fit in."""
        return self.max_tokens or USUAL_COMPLETION


class RolloutSection(Section):
    group_size: int = Field(8, ge=2, description="G: rollouts sampled per prompt.")
    num_problems_per_step: Positive = Field(8, description="Groups per optimizer step.")
    paired_groups: bool = Field(
        False,
        description="For each problem G rollouts of the problem alone and G in the context that is drawn, two groups "
        "(slots) of a step; advantages are by mean and deviation of all 2G. Off: each group by its own.",
    )
    max_staleness: int = Field(
        0, ge=0, description="S: most weight updates a sample may lag when it is trained; 0: synchronous."
    )
    sampling: SamplingSection = SamplingSection()
    system_prompt: str = Field(
        "You solve problems.", description="System message of every prompt; empty: the template's own."
    )
    templates: str = Field(
        "auto",
        description="Templates of prompts: 'compact', 'full', 'legacy' (of runs before the others), or a folder of "
        "yours; 'auto': full from a billion parameters and 8,192 tokens of context on, else compact.",
    )
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict, description="Passed to the chat template.")
    strip_think: bool = Field(
        True,
        description="Drop <think>…</think> before scoring, reflecting and abstracting; maths is scored without anyway.",
    )
    max_groups_in_flight: Positive = Field(
        256, description="Groups sampled at once; bounds the rollouts held in memory and the requests that queue."
    )
    group_timeout_s: Annotated[float, Field(gt=0)] = Field(
        1800.0,
        description="Deadline of one group while endpoints answer; then it is sampled anew, and no step waits longer.",
    )
    max_group_attempts: Positive = Field(
        3, description="Attempts at one problem's group; then another problem takes its slot."
    )
    max_failed_groups: Positive = Field(
        20, description="Problems in a row that could not be sampled before the run ends (it can be resumed)."
    )
    refill_zero_variance: bool = Field(
        False, description="Replace a group whose rewards are all equal by one of another problem (as DAPO does)."
    )
    max_refills: Positive = Field(
        2, description="Replacements of one slot; the last group stays, whatever its rewards."
    )

    @property
    def slots_per_problem(self) -> int:
        """Groups of a step that are of one problem."""
        return 2 if self.paired_groups else 1

    @property
    def advantage_group_size(self) -> int:
        """Rollouts by whose rewards an advantage is normalised."""
        return self.group_size * self.slots_per_problem

    @model_validator(mode="after")
    def _a_pair_is_in_flight_at_once(self) -> Self:
        if self.max_groups_in_flight < self.slots_per_problem:
            raise ValueError(
                f"paired_groups samples two groups at once, and max_groups_in_flight = {self.max_groups_in_flight}; "
                "set rollout.max_groups_in_flight to 2 or more"
            )
        return self


class ScorerSettings(Section):
    scorer: str = Field(description="What `reward.scorer` may be: a scorer by name, or your own 'module:function'.")
    weight: Annotated[float, Field(allow_inf_nan=False)] = Field(1.0, description="What its score is multiplied by.")
    name: Annotated[str, Field(pattern=r"^(\w+|)$")] = Field(
        "", description="Its column in logs and journal; empty: the scorer's name, or the function's."
    )
    rubric: str = Field("", description="Of a 'judge': what it grades by, in place of `reward.judge.rubric`.")
    endpoint: EndpointSettings | None = Field(
        None, description="Of a 'judge': where it is, in place of `reward.judge.endpoint`."
    )

    @model_validator(mode="after")
    def _only_a_judge_is_asked(self) -> Self:
        if self.scorer != JUDGE and (self.rubric or self.endpoint):
            raise ValueError(f"rubric and endpoint are settings of scorer = 'judge', and this one is {self.scorer!r}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _scorer_alone(cls, value: Any) -> Any:
        return {"scorer": value} if isinstance(value, str) else value

    @property
    def column(self) -> str:
        """The name that its scores go by."""
        return self.name or re.sub(r"\W", "_", self.scorer.rpartition(":")[2])


class CodeSection(Section):
    packages: tuple[str, ...] = Field(
        (),
        description="Installed packages that programs and tests may import beside the standard library (numpy …); what "
        "they need comes with them. Prompts say so.",
    )
    partial: bool = Field(
        False,
        description="Pay the share of tests that a program passes; else all of them or nothing. What is correct stays "
        "all of them. A program that ends, or runs into `reward.timeout_s`, has no share.",
    )
    num_ahead: int = Field(
        2, ge=0, description="Sandboxes that stand ready for the next programs, in each verifier process; 0: none."
    )


class RewardSection(Section):
    scorer: str = Field(
        "auto",
        description="'auto' (what the problem has: tests, its family's own scorer, else math), 'math' (equal in "
        "value, whatever the format), 'code' (tests in a sandbox), 'format' (an answer can be parsed), 'judge' (a "
        "language model, see `reward.judge`), or your own 'module:function': reward(response, task) -> float or "
        "(float, str), whose rewards arrive as they are.",
    )
    scorers: tuple[ScorerSettings, ...] = Field(
        (),
        description="Several scorers, each with `scorer`, `weight` and optionally `name`; the reward is their weighted "
        "sum, and the first one decides what is correct. Empty: `scorer` alone.",
    )
    threshold: Annotated[float, Field(allow_inf_nan=False)] = Field(
        0.999, description="Least score that counts as correct: the reading of accuracy, apart from the reward."
    )
    graded: bool = Field(
        False,
        description="Pay the partial scores of task families as they are; else theirs is 1 from `threshold` on, and 0 "
        "below. Scores of your own scorer are never changed.",
    )
    refuse_echo: bool = Field(
        True,
        description="Pay nothing for a copy of an expression of the problem where the gold answer is its value: '12 + "
        "5' to 'What is 12 + 5?'. Off where an equal expression is as good, whatever its form.",
    )
    format_weight: Annotated[float, Field(ge=0.0)] = Field(
        0.0, description="Added to the reward when an answer can be parsed."
    )
    timeout_s: Annotated[float, Field(gt=0)] = Field(
        5.0,
        description="Longest scoring of one answer; then the worker is killed. One that takes lists has it for each "
        "answer of a list.",
    )
    code: CodeSection = CodeSection()
    num_workers: Positive = Field(1, description="Verifier processes.")
    concurrency: Positive = Field(
        32, description="Calls that one process has open at once, of a scorer of yours that is `async`."
    )
    judge: JudgeSection = JudgeSection()
    probe: bool = Field(
        True,
        description="Call a scorer of yours on a few problems before anything starts, and refuse one that fails or "
        "gives the same to every answer.",
    )
    flat_steps: Positive = Field(
        3, description="Steps in a row in which no group's rewards differ, so that nothing is learned, before an alert."
    )

    @model_validator(mode="before")
    @classmethod
    def _first_scorer_is_the_scorer(cls, values: Any) -> Any:
        """With `scorers`, `scorer` is the first of them: who asks what is correct need not know of the others."""
        if not isinstance(values, dict) or not values.get("scorers"):
            return values
        first = values["scorers"][0]
        first = first.get("scorer", "") if isinstance(first, dict) else getattr(first, "scorer", first)
        return {**values, "scorer": first} if values.get("scorer", "auto") == "auto" else values

    @model_validator(mode="after")
    def _scorers_agree(self) -> Self:
        if self.scorers and self.scorers[0].scorer != self.scorer:
            raise ValueError(
                f"scorer = {self.scorer!r} is not the first of scorers, which decides what is correct; name it there, "
                "first, or leave it out"
            )
        for one in self.all_scorers:
            if one.scorer == JUDGE and self.endpoint_of(one) is None:
                raise ValueError(
                    "scorer = 'judge' needs a language model that judges; name it in reward.judge.endpoint, for "
                    "example --reward.judge.endpoint.url http://127.0.0.1:8000 --reward.judge.endpoint.model my-judge"
                )
        columns = [scorer.column for scorer in self.scorers]
        if twice := sorted({column for column in columns if columns.count(column) > 1}):
            raise ValueError(f"scorers has two that are called {twice[0]!r}; give each a `name` of its own")
        return self

    @property
    def all_scorers(self) -> tuple[ScorerSettings, ...]:
        """Every scorer, the one that decides what is correct first."""
        return self.scorers or (ScorerSettings(scorer=self.scorer),)

    @property
    def judges(self) -> tuple[ScorerSettings, ...]:
        """Those that are language models, each with what it decides by and where it is."""
        shared = self.judge
        return tuple(
            one.model_copy(update={"rubric": one.rubric or shared.rubric, "endpoint": self.endpoint_of(one)})
            for one in self.all_scorers
            if one.scorer == JUDGE
        )

    @property
    def judge_endpoint(self) -> EndpointSettings | None:
        """Where the first of them is."""
        return next((judge.endpoint for judge in self.judges), None)

    def endpoint_of(self, judge: ScorerSettings) -> EndpointSettings | None:
        """Where a judge is."""
        return judge.endpoint or self.judge.endpoint
