"""Finds what keeps problems that ask for programs from being scored, before a run starts anything."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.rewards.code.sandbox import isolation_problem
from pipeline.types import Task


def check_code(config: Config, tasks: Sequence[Task]) -> None:
    """Raise ConfigError when `tasks` ask for programs and this configuration, or this machine, cannot do that; or when
    its scorer wants programs of tasks that ask for none."""
    code = next((task for task in tasks if task.problem.form == "code"), None)
    other = next((task for task in tasks if task.problem.form != "code"), None)
    if config.reward.scorer == "code" and other is not None:
        raise ConfigError(
            f"reward.scorer = 'code': problem {other.problem.id!r} has no tests; use 'auto', or problems that have some"
        )
    if code is None:
        return
    if config.reward.scorer == "math":
        raise ConfigError(
            f"reward.scorer = 'math': problem {code.problem.id!r} asks for a program and has no answer; use 'auto' or "
            "'code'"
        )
    if config.reward.scorer in ("auto", "code") and (problem := isolation_problem()):
        raise ConfigError(
            f"reward.scorer = {config.reward.scorer!r}: problem {code.problem.id!r} asks for a program, but {problem}"
        )
