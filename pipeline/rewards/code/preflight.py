"""Finds what keeps problems that ask for programs from being scored, before a run starts anything."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.rewards.code.packages import may_import
from pipeline.rewards.code.sandbox import isolation_problem, probed
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
    if config.reward.scorer in ("auto", "code") and (problem := isolation_problem(config.reward.code.packages)):
        raise ConfigError(
            f"reward.scorer = {config.reward.scorer!r}: problem {code.problem.id!r} asks for a program, but {problem}"
        )


def imports_note(packages: Sequence[str]) -> str:
    """What programs may import beside the standard library, with the seconds that it takes; empty for nothing."""
    took = probed(tuple(packages)).imports_s if packages else {}
    said = ", ".join(f"{module} ({seconds:.2f} s)" for module, seconds in took.items())
    return f"; programs may import {said}" if said else ""


def with_imports(tasks: list[Task], packages: Sequence[str]) -> list[Task]:
    """`tasks`, of which those that ask for programs say what these may import."""
    sentence = may_import(packages)
    return [_saying(task, sentence) for task in tasks] if sentence else tasks


def _saying(task: Task, sentence: str) -> Task:
    problem = task.problem
    if problem.form != "code":
        return task
    said = {"text": f"{problem.text}\n{sentence}", "question": problem.query_text}
    return task.model_copy(update={"problem": problem.model_copy(update=said)})
