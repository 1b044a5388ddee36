"""The benchmarks of an evaluation, each with its problems and the longest answer to them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.evaluation.plan import BenchmarkTasks
from pipeline.hashing import digest
from pipeline.problems.benchmark import source_of
from pipeline.problems.benchmark_items import find_benchmark, sampled, tasks_of
from pipeline.problems.dataset import load_problems
from pipeline.rewards.code.preflight import check_code, with_imports

HELD_OUT = "heldout"
"""The name of a run's own problems, held out from training."""
MAX_ANSWER_TOKENS = 4096
"""Longest answer where neither the benchmark nor the user says."""
PROMPT_TOKENS = 2048
"""Tokens of a context window left to the prompt, half of a smaller window."""


def load_benchmarks(config: Config, registry: Path | None = None, data: Path | None = None) -> list[BenchmarkTasks]:
    """Each benchmark of `eval.benchmarks` with its problems, which can be judged here. Blocking.

    `registry` is a TOML file of the user's benchmarks, `data` a folder of files in place of the hub. Raises
    ConfigError, DataError."""
    found = [_load(name, config, registry, data) for name in config.eval.benchmarks]
    if twice := [name for name, num in Counter(one.name for one in found).items() if num > 1]:
        raise ConfigError(
            f"--benchmark names two that are called {twice[0]!r}, and a report would take them for one; name each in a "
            "file of your own (--registry), or evaluate them into folders of their own (--out)"
        )
    for one in found:
        if one.scorer != "judge":
            reward = config.reward.model_copy(update={"scorer": one.scorer, "scorers": ()})
            check_code(config.model_copy(update={"reward": reward}), one.tasks)
    return found


def _load(name: str, config: Config, registry: Path | None, data: Path | None) -> BenchmarkTasks:
    settings, seed, is_heldout = config.eval, config.run.seed, name == HELD_OUT
    if is_heldout:
        found = load_problems(config.problems, seed, config.reward.code.packages)
        tasks = found.heldout[: max(settings.num_problems, settings.limit or 0)]
        max_tokens, scorer = config.longest_answer, config.reward.scorer
        source = digest([config.problems.model_dump(mode="json"), seed])[:12]
    else:
        benchmark = find_benchmark(name, registry)
        tasks = with_imports(tasks_of(benchmark, data, settings.limit or 0), config.reward.code.packages)
        max_tokens, scorer = benchmark.max_tokens or MAX_ANSWER_TOKENS, benchmark.verifier
        name, source = benchmark.name, source_of(benchmark)
    chosen = sampled(tasks, name, settings.limit, seed)
    return BenchmarkTasks(
        name, chosen, settings.max_answer_tokens or max_tokens, scorer, source, len(tasks), is_heldout
    )


def fitted(one: BenchmarkTasks, max_model_len: int | None) -> BenchmarkTasks:
    """`one` with answers that leave a prompt its share of the `max_model_len` tokens that an endpoint takes in all."""
    if one.is_heldout or max_model_len is None:
        return one
    left = max_model_len - min(max_model_len // 2, PROMPT_TOKENS)
    return one._replace(max_tokens=min(one.max_tokens, left))
