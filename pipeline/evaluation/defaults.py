"""Settings that follow from what is evaluated, where the user set none: those of a training are for short answers."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.evaluation.plan import BenchmarkTasks
from pipeline.experience.wording import checked
from prompts.sets import AUTO, suited

# More than any answer has.
WHOLE_ANSWER_CHARS = 10_000_000
SLOWEST_TOKENS_PER_S = 10.0
"""A stream of answers that is slower than this is taken for dead."""
LEAST_ATTEMPT_S = 600.0
"""The deadline of OpenAI's own client."""
MAX_CODE_WORKERS = 8

Explicit = Mapping[str, Any]
"""The settings that the user gave, by options or in a file: apart from recipes, runs and defaults."""


def adapted(config: Config, explicit: Explicit, benchmarks: Sequence[BenchmarkTasks]) -> Config:
    """`config` with all of the settings below. Raises ConfigError for a deadline that no answer could keep."""
    config = with_deadlines(config, explicit, max(one.max_tokens for one in benchmarks))
    programs = any(task.problem.form == "code" for one in benchmarks for task in one.tasks)
    return with_workers(with_whole_answers(config, explicit), explicit, programs=programs)


def with_deadlines(config: Config, explicit: Explicit, max_tokens: int) -> Config:
    """With deadlines that an answer of `max_tokens` can keep. Raises ConfigError for one that no answer could keep."""
    requests, given = config.requests, explicit.get("requests", {})
    attempt_s = requests.attempt_timeout_s
    if "attempt_timeout_s" not in given:
        attempt_s = max(attempt_s, LEAST_ATTEMPT_S, max_tokens / SLOWEST_TOKENS_PER_S)
    # Twice, so that a lost answer can be requested again.
    timeout_s = requests.timeout_s if "timeout_s" in given else max(requests.timeout_s, 2 * attempt_s)
    if timeout_s < attempt_s:
        raise ConfigError(
            f"requests.timeout_s = {timeout_s:g} is less than the {math.ceil(attempt_s)} s that one answer of "
            f"{max_tokens} tokens may take; raise it, or set requests.attempt_timeout_s too"
        )
    return _with(config, "requests", attempt_timeout_s=attempt_s, timeout_s=timeout_s)


def with_whole_answers(config: Config, explicit: Explicit) -> Config:
    """With answers that are shown whole to their critic: half of an answer is criticised for its hole.

    A prompt that an endpoint finds too long is cut then, and counted."""
    if "max_attempt_chars" in explicit.get("reflection", {}):
        return config
    return _with(config, "reflection", max_attempt_chars=WHOLE_ANSWER_CHARS)


def with_templates(
    config: Config, num_parameters: int | None, context: int | None, log: Callable[[str], None]
) -> Config:
    """With the templates that suit a model, as far as it is known, where nothing chose any; `log` says which, and what
    a folder of the user's lacks. Raises ConfigError for a folder that cannot be used."""
    if config.rollout.templates == AUTO:
        chosen, why = suited(num_parameters, context)
        log(f"rollout.templates = {chosen!r}: {why}")
        config = _with(config, "rollout", templates=chosen)
    if note := checked(config).note:
        log(note)
    return config


def with_workers(config: Config, explicit: Explicit, *, programs: bool) -> Config:
    """With as many verifier processes as `programs` need, which take longest."""
    if not programs or "num_workers" in explicit.get("reward", {}):
        return config
    num_workers = max(config.reward.num_workers, min(len(os.sched_getaffinity(0)), MAX_CODE_WORKERS))
    return _with(config, "reward", num_workers=num_workers)


def _with(config: Config, section: str, **settings: Any) -> Config:
    changed = getattr(config, section).model_copy(update=settings)
    return config.model_copy(update={section: changed})
