"""Estimates, before a run, what share of the candidates gamma would remove (`feedback.similarity_threshold`).

Some training problems stand for the pool, others ask it, by the run's own search and measure. Measures that ask an
endpoint are not estimated."""

from __future__ import annotations

import random
from collections.abc import Iterator
from tempfile import TemporaryDirectory

from pipeline.config import Config
from pipeline.errors import LanpoError
from pipeline.experience.pool import Pool
from pipeline.experience.retrieval import retriever_of
from pipeline.preflight.endpoints import Finding
from pipeline.problems.dataset import load_problems
from pipeline.runtime import event_loop
from pipeline.types import Experience, Task
from prompts.schemas import Lesson

NAME = "gamma"
MAX_STORED, NUM_QUERIES, FEWEST = 512, 64, 8


def gamma_findings(config: Config) -> Iterator[Finding]:
    """One finding where lessons are retrieved: the share, and whether that is next to nothing or nearly all."""
    feedback, learner = config.feedback, config.learner
    if not (config.retrieves and config.abstraction.enabled):
        return
    if feedback.asks_endpoint:
        yield Finding("ok", NAME, f"not estimated: feedback.similarity = '{feedback.similarity}' asks an endpoint")
        return
    # The lessons of a run at its end.
    num_stored = min(MAX_STORED, max(feedback.num_candidates, learner.num_steps * config.abstraction.num_per_step))
    few = config.problems.model_copy(update={"num_train": min(config.problems.num_train, num_stored + NUM_QUERIES)})
    try:
        tasks = load_problems(few, config.run.seed, config.reward.code.packages).train
    except LanpoError:
        return  # named by the check of problems
    tasks = random.Random(config.run.seed).sample(tasks, min(len(tasks), num_stored + NUM_QUERIES))
    num_queries = min(NUM_QUERIES, len(tasks) // 2)
    if num_queries >= FEWEST:
        similarities = event_loop.run(_similarities(config, tasks[num_queries:], tasks[:num_queries]))
        yield _finding(config, similarities, len(tasks) - num_queries, num_queries)


async def _similarities(config: Config, stored: list[Task], queries: list[Task]) -> list[float]:
    """Of every candidate that may be shown for one of `queries`, in ascending order."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        pool = Pool(folder, config.pool)
        pool.add([_entry(number, task) for number, task in enumerate(stored)])
        pool.index()
        retriever = retriever_of(config, pool, None, tasks=[*stored, *queries])
        found = [one for task in queries for one in await retriever.found(task.problem)]
    return sorted(one.similarity for one in found if one.excluded is None)


def _entry(number: int, task: Task) -> Experience:
    """A lesson of `task`, whatever it says."""
    problem = task.problem
    return Experience(
        id=f"x-l0-{number:06d}-0000-000",
        lesson=Lesson(flow_of_thought="-", principles=("-",)),
        problem_id=problem.id,
        problem_text=problem.query_text,
        problem_hash=problem.text_hash,
        family=problem.family,
        split="train",
        lineage=0,
        policy_version=0,
        step=0,
        reward=0.0,
        kind="scratch",
        rollout_id="",
        created_s=float(number),
    )


def _finding(config: Config, similarities: list[float], num_stored: int, num_queries: int) -> Finding:
    gamma, num = config.feedback.similarity_threshold, len(similarities)
    among = f"{num_queries} training problems against {num_stored} others as a pool"
    if not num:
        return Finding("warn", NAME, f"no candidates at all ({among}): no lesson will be shown")
    share = sum(value < gamma for value in similarities) / num
    verdict = config.feedback.gamma_verdict(share)
    # Above the value that is the last to go.
    at = [similarities[min(num - 1, int(part * num))] for part in (0.05, 0.5, 0.95)]
    message = (
        f"feedback.similarity_threshold = {gamma:g} would remove {share:.1%} of {num} candidates ({among})"
        + (f": {verdict}" if verdict else "")
        + f"; 5 % are below {at[0]:.2f}, half below {at[1]:.2f}, 95 % below {at[2]:.2f}"
    )
    return Finding("warn" if verdict else "ok", NAME, message)
