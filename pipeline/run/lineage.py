"""Lineages: the stretches of a run between resumes, and which groups and versions a later one abandons."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from pipeline.types import RolloutGroup, WeightVersion


class Lineage(BaseModel):
    """One uninterrupted stretch of learning. It began at `start_step`, the step of the checkpoint that it continues."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    number: int
    start_step: int
    fresh: bool = False
    """Whether nothing counts that earlier lineages sampled for its steps: a fork, with settings of its own."""

    def abandons(self, sampled_by: WeightVersion, step: int | None) -> bool:
        """Whether what `sampled_by` of an earlier lineage sampled for `step` is no part of the history that this one
        continues; None: for any step.

        Ours (design.md, Resume): a restart from the checkpoint of step k abandons every group that weights newer than k
        sampled."""
        return sampled_by.step > self.start_step or (self.fresh and step is not None and step >= self.start_step)


def group_is_current(group: RolloutGroup, lineages: list[Lineage]) -> bool:
    """Whether `group` belongs to the surviving history: no later lineage abandons it."""
    return is_current(WeightVersion(lineage=group.lineage, step=group.versions[1].step), lineages, group.step)


def is_current(version: WeightVersion, lineages: list[Lineage], step: int | None = None) -> bool:
    """Whether what `version` samples for `step` belongs to the surviving history, so that it may be trained."""
    return not any(lineage.abandons(version, step) for lineage in lineages if lineage.number > version.lineage)
