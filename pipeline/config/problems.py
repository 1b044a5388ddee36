"""Settings of the problems: where they come from and how many are held out."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from pipeline.config.base import Positive, Section


class FamilySettings(Section):
    name: str = Field(description="Task family, for example chain_sum of reasoning-gym.")
    weight: Annotated[float, Field(gt=0)] = Field(1.0, description="Share of this family among the problems.")
    params: dict[str, Any] = Field(
        default_factory=dict, description="The family's own settings, for example max_terms."
    )


class ColumnsSection(Section):
    """Names of a source's columns, for sources that call them otherwise. A dot leads into a table, as in
    reward_model.ground_truth."""

    question: str = Field("", description="Empty: question, problem, prompt, messages or conversations.")
    answer: str = Field("", description="Empty: answer, ground_truth, gold, final_answer or reward_model.ground_truth.")
    solution: str = Field("", description="Worked solution, for SFT; empty: solution, worked_solution or rationale.")
    id: str = Field("", description="Empty: id.")
    context: str = Field("", description="Text that stands before the question; empty: none.")

    @property
    def named(self) -> dict[str, str]:
        """The columns that are named here, by what they hold."""
        return {name: column for name, column in self if column}


class ProblemsSection(Section):
    source: str = Field(
        "reasoning_gym",
        description=(
            "'reasoning_gym', 'operators' (hidden rules), 'procedural_code' (small programs), 'jsonl', 'hub' (a "
            "Hugging Face data set), or your own 'module:function'."
        ),
    )
    families: tuple[FamilySettings, ...] = Field(
        (FamilySettings(name="chain_sum", params={"min_terms": 2, "max_terms": 3, "min_digits": 1, "max_digits": 2}),),
        description=(
            "reasoning_gym: the task families. procedural_code: those of `pipeline/problems/code_families.toml`; "
            "empty: all. operators: one, 'operators', whose params are its dials; empty: their defaults."
        ),
    )
    num_train: Positive = Field(2000, description="Problems for training, of sources that make them.")
    num_heldout: Positive = Field(
        512, description="Held-out problems (generated, or the first ones of the held-out file)."
    )
    heldout_seed: int = Field(
        7_777_777, ge=0, description="Seed of the held-out problems; the same for every run seed."
    )
    drop_near_duplicates: bool = Field(
        True,
        description="Train on no problem that has a held-out one's numbers and words in another order, or its gold "
        "answer, numbers and words but for function words.",
    )
    train_file: str = Field(
        "",
        description=(
            "jsonl: file with `question`/`problem`/`prompt` and `answer`, or `tests` of a program, on each line."
        ),
    )
    heldout_file: str = Field("", description="jsonl: held-out file; empty: the last num_heldout lines of train_file.")
    columns: ColumnsSection = ColumnsSection()
    dataset: str = Field("", description="hub: data set id, for example openai/gsm8k.")
    dataset_config: str = Field("", description="hub: configuration name, for example main.")
    train_split: str = Field("train", description="hub: split to train on.")
    heldout_split: str = Field("test", description="hub: split held out.")
