"""Settings of SFT seeding."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from pipeline.config.base import Positive, Probability, Section
from pipeline.config.endpoints import EndpointSettings

USUAL_MICRO_BATCH = 4096
"""Tokens: more take more memory and hardly less time."""


def _auto_or_bool(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(value)
    except ValidationError:
        raise ValueError("use 'auto', true or false") from None


class SftSection(Section):
    enabled: Annotated[Literal["auto"] | bool, WrapValidator(_auto_or_bool)] = Field(
        "auto",
        description="Seed the three skills by supervised fine-tuning before reinforcement learning. auto: where there "
        "is reasoning to learn from (worked solutions, a teacher, pairs of your own), never on bare answers.",
    )
    num_pairs: int = Field(
        600,
        ge=0,
        description="Most pairs made from worked solutions, all skills together; no problem gives more than three.",
    )
    pairs_file: str = Field(
        "",
        description="Pairs of your own, JSONL: `messages` that end in the assistant's, or `prompt` and `completion`.",
    )
    teacher: EndpointSettings | None = Field(None, description="Endpoint whose answers are learned from as well.")
    num_teacher_pairs: Positive = Field(3000, description="Pairs to have from the teacher, all skills together.")
    teacher_attempts: Positive = Field(
        4, description="Most answers asked of the teacher for one pair; only a verified one is kept."
    )
    teacher_temperature: Annotated[float, Field(ge=0)] = Field(0.7, description="Sampling temperature of the teacher.")
    teacher_max_tokens: Positive = Field(512, description="Longest answer of the teacher, tokens.")
    respond_share: Probability = Field(0.7, description="Share of pairs that answer (with and without lessons).")
    inspect_share: Probability = Field(0.2, description="Share of pairs that critique an attempt; the rest summarise.")
    lessons_share: Probability = Field(
        0.4,
        description="Of the pairs that answer, the share under lessons: some of which tell the way, some of which do "
        "not apply or are wrong.",
    )
    answer_only_share: Probability = Field(
        0.0,
        description="Of the answers without a lesson that applies, the share that gives the result at once: a second "
        "way to answer, worse or better.",
    )
    num_epochs: Positive = Field(1, description="Passes over the pairs.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(3e-5, description="Peak learning rate.")
    batch_size: Positive = Field(16, description="Pairs per optimizer step.")
    max_length: Positive | None = Field(
        None,
        description="Longest pair, tokens; longer ones are left out. none: what problems, model and memory allow.",
    )
    num_tokens_per_micro_batch: Positive | None = Field(
        None, description="Most tokens computed at once; none: 4,096, or what memory allows. No result depends on it."
    )
    precision: Literal["float32", "bf16_autocast"] = Field(
        "bf16_autocast", description="Arithmetic over float32 weights."
    )
    seed: int = Field(0, ge=0, description="Seed of the pairs and of their order.")
