"""Whether a run is seeded by SFT, and why: `sft.enabled = "auto"` seeds where a target has reasoning, and nowhere else.

A bare answer as target teaches a model to leave its reasoning out, which is what reinforcement learning is to build
on."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.config import Config
from pipeline.config.sft import SftSection
from pipeline.errors import ConfigError
from pipeline.sft.grounds import is_practised
from pipeline.sft.pairs import MAX_PAIRS_PER_PROBLEM, solved_of
from pipeline.types import Task

MIN_SOLVED = 16
"""Problems with a worked solution below which auto makes no pairs of them: a batch would be the same few texts."""


class Seeding(NamedTuple):
    """`why` completes the sentence that says it."""

    wanted: bool
    why: str

    def __str__(self) -> str:
        return f"SFT seeding: {'on ' if self.wanted else 'none, '}{self.why}"


def seeding(config: Config, tasks: list[Task]) -> Seeding:
    """Whether `tasks`, the training problems, and the configuration have anything to seed with. Raises ConfigError
    where it is demanded (`sft.enabled = true`) and there is nothing."""
    sft = config.sft
    if sft.enabled is False:
        return Seeding(False, "sft.enabled = false")
    others = _others(sft)
    if sft.num_pairs and is_practised(config.problems):
        others = [f"{sft.num_pairs} pairs on operators of other names", *others]
        return Seeding(True, " and ".join(others))
    num_solved = len(solved_of(tasks)) if sft.num_pairs else 0
    enough = num_solved >= (1 if sft.enabled is True else MIN_SOLVED)
    if enough:
        num_pairs = min(sft.num_pairs, MAX_PAIRS_PER_PROBLEM * num_solved)
        others = [f"{num_pairs} pairs from the worked solutions of {num_solved} of {len(tasks)} problems", *others]
    if others:
        return Seeding(True, " and ".join(others))
    lack = _lack(sft, num_solved, len(tasks))
    if sft.enabled is True:
        raise ConfigError(
            f"sft.enabled = true, but there is nothing to learn from: {lack}. Set sft.enabled = 'auto' to go without, "
            "give the rows a worked solution (problems.columns.solution names its column), or name an sft.teacher or "
            "an sft.pairs_file"
        )
    return Seeding(False, f"{lack}: a bare answer as target would teach the model to leave its reasoning out")


def demanded(config: Config) -> Config:
    """`config` for who asks for SFT in so many words."""
    return config.model_copy(update={"sft": config.sft.model_copy(update={"enabled": True})})


def _others(sft: SftSection) -> list[str]:
    """What there is to learn from beside worked solutions."""
    return [f"{sft.num_teacher_pairs} pairs of a teacher"] * (sft.teacher is not None) + (
        [f"the pairs of {sft.pairs_file}"] if sft.pairs_file else []
    )


def _lack(sft: SftSection, num_solved: int, num_tasks: int) -> str:
    if not sft.num_pairs:
        return "sft.num_pairs = 0, and there is neither sft.teacher nor sft.pairs_file"
    few = f"only {num_solved}" if num_solved else "none"
    least = f" (auto wants {MIN_SOLVED})" if num_solved else ""
    return (
        f"{few} of {num_tasks} training problems {'have' if num_solved > 1 else 'has'} a worked solution{least}, and "
        "there is neither sft.teacher nor sft.pairs_file"
    )
