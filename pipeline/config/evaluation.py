"""Settings of evaluations: those within a run, and those of the command `eval`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.config.base import Positive, Section

Mode = Literal["zero-shot", "retrieval", "reflect"]


class EvalSection(Section):
    num_problems: Positive = Field(256, description="Held-out problems, greedy, zero-shot.")
    every: int = Field(0, ge=0, description="Evaluate every so many steps; 0: only before and after.")
    max_tokens: Positive | None = Field(None, description="Longest answer, tokens; none: rollout.sampling.max_tokens.")
    baseline: bool = Field(True, description="Evaluate the base model as well.")
    num_probed: int = Field(
        10,
        ge=0,
        description="Problems by which a run measures at its start, after SFT and at its end whether the model follows "
        "lessons, ignores useless ones, summarises and inspects (20 seconds at most); 0: none.",
    )
    benchmarks: tuple[str, ...] = Field(
        ("heldout",),
        description="The command `eval`: what is asked, by name, as a .jsonl file, or 'heldout', the problems held out "
        "from training.",
    )
    modes: tuple[Mode, ...] = Field(
        ("zero-shot",),
        description="The command `eval`: from scratch, with lessons of a pool, or with a critique of the own answer.",
    )
    num_samples: Annotated[int, Field(gt=0, le=1000)] = Field(
        1, description="The command `eval`: answers to each problem in each mode."
    )
    temperature: Annotated[float, Field(ge=0)] | None = Field(
        None,
        description="The command `eval`: sampling temperature; none: 0 for one sample, else 1. Samples of one "
        "temperature add up.",
    )
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="The command `eval`: nucleus.")
    limit: Positive | None = Field(
        None, description="The command `eval`: most problems of a benchmark, a seeded sample; none: all."
    )
    max_answer_tokens: Positive | None = Field(
        None,
        description="The command `eval`: longest answer to a benchmark's problem, tokens; none: what the benchmark "
        "suggests.",
    )
    num_rounds: Positive = Field(1, description="The command `eval`: critiques that `reflect` goes through.")

    max_outage_s: Annotated[float, Field(gt=0)] = Field(
        300.0,
        description="The commands `eval` and `grade`: longest wait while no endpoint gives a usable answer; then they "
        "give up, and the same `eval` goes on from what is kept. (Runs wait for requests.max_outage_s.)",
    )

    @property
    def sampling_temperature(self) -> float:
        if self.temperature is not None:
            return self.temperature
        return 0.0 if self.num_samples == 1 else 1.0

    @model_validator(mode="after")
    def _samples_differ(self) -> EvalSection:
        if self.num_samples > 1 and self.temperature == 0:
            raise ValueError(
                f"num_samples = {self.num_samples} at temperature = 0 would be the same answer each time; "
                "set eval.temperature above 0, or eval.num_samples to 1"
            )
        for name in ("benchmarks", "modes"):
            if not getattr(self, name) or len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} = {list(getattr(self, name))}: name at least one, and each of them once")
        return self
