"""Settings of rollouts: groups, sampling, rewards."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from pipeline.config.base import Positive, Probability, Section

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
    max_staleness: int = Field(
        0, ge=0, description="S: most weight updates a sample may lag when it is trained; 0: synchronous."
    )
    sampling: SamplingSection = SamplingSection()
    system_prompt: str = Field(
        "You solve problems.", description="System message of every prompt; empty: the template's own."
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


class RewardSection(Section):
    scorer: str = Field(
        "auto",
        description="'auto' (what the problem has: tests, its family's own scorer, else math), 'math' (equal in "
        "value, whatever the format), 'code' (tests in a sandbox), or your own 'module:function'.",
    )
    threshold: Probability = Field(0.999, description="Least score of a scorer that counts as correct (reward 1).")
    format_weight: Annotated[float, Field(ge=0.0)] = Field(
        0.0, description="Added to the reward when an answer can be parsed."
    )
    timeout_s: Annotated[float, Field(gt=0)] = Field(
        5.0, description="Longest scoring of one answer; then the worker is killed."
    )
    num_workers: Positive = Field(1, description="Verifier processes.")
