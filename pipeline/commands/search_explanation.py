"""`pool search --explain`: what retrieval would make of each candidate for a problem, and why."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator

from pipeline.commands.opened_run import RunPool
from pipeline.config import Config
from pipeline.config.endpoints import EndpointSettings
from pipeline.errors import ConfigError
from pipeline.experience.contexts import Weighing, inter_context
from pipeline.experience.retrieval import Retriever, retriever_of
from pipeline.inference.client import client_of
from pipeline.runtime import event_loop
from pipeline.types import Considered, Context, Problem, SearchOutcome, removed_by_gamma
from prompts.render import normal_line

REASONS: dict[SearchOutcome, str] = {
    "shown": "shown",
    "trimmed": "shown, if the prompt is not too long for it",
    "same_problem": "left out: it is of the problem itself",
    "near_duplicate": "left out: its problem is a near-duplicate, and its lesson would be an answer",
    "held_out": "left out: its problem is held out",
    "crowded_out": "left out: {feedback.num_candidates_per_problem} of its problem rank before it "
    "(feedback.num_candidates_per_problem)",
    "below_threshold": "dropped: less similar than gamma = {feedback.similarity_threshold:g}",
    "same_lesson": "dropped: a lesson that is shown says the same",
    "not_among_best": "dropped: it ranks behind the {feedback.num_lessons} shown (feedback.num_lessons)",
}


def explanation(parts: RunPool, arguments: argparse.Namespace) -> Iterator[str]:
    """Lines for a problem given by its text, or by the id or text of a training problem. Raises ConfigError where the
    measure asks an endpoint and none is named, EndpointError."""
    config = _with_endpoint(parts.config, arguments)
    tasks = parts.problems().train
    known = next((t.problem for t in tasks if arguments.text in (t.problem.id, t.problem.text)), None)
    problem = known or Problem(id="", text=arguments.text)
    _, newest = parts.columns().bounds("step")
    weighing = Weighing((newest or 0) + 1, lambda entry_id: parts.usefulness.of(entry_id).mean_reward)

    async def asked() -> Context:
        settings = config.feedback.similarity_endpoint
        if settings is None or not config.feedback.asks_endpoint:
            return await searched(retriever_of(config, parts.pool, None, tasks=tasks))
        async with client_of(config, (settings,)) as client:
            return await searched(retriever_of(config, parts.pool, client, tasks=tasks))

    async def searched(retriever: Retriever) -> Context:
        return inter_context(await retriever.found(problem), config.feedback, weighing)

    yield from lines(event_loop.run(asked()), config, parts, arguments.n)


def lines(context: Context, config: Config, parts: RunPool, most: int) -> Iterator[str]:
    """The counts, and a line and its reason for each of the first `most` candidates."""
    counts: Counter[str] = Counter(one.outcome for one in context.considered)
    settings, (removed, num) = config.feedback, removed_by_gamma(counts)
    share = f"{removed / num:.1%} of {num}" if num else "none"
    yield (
        f"{len(context.considered)} candidates; gamma = {settings.similarity_threshold:g} "
        f"(feedback.similarity = '{settings.similarity}') removes {share} that may be shown: "
        + (", ".join(f"{outcome} {number}" for outcome, number in counts.most_common()) or "nothing was found")
    )
    for one in context.considered[:most]:
        yield from _of(one, config, parts)
    if len(context.considered) > most:
        yield f"… and {len(context.considered) - most} more; --n shows more of them"


def _of(one: Considered, config: Config, parts: RunPool) -> Iterator[str]:
    similarity = "    -" if one.similarity is None else f"{one.similarity:5.3f}"
    entry = parts.pool.get(one.id)
    text = normal_line(entry.problem_text)[:90] if entry else ""
    yield f"{one.bm25:8.2f}  {similarity}  {one.id}  {text}"
    yield f"                 {REASONS[one.outcome].format(feedback=config.feedback)}"


def _with_endpoint(config: Config, arguments: argparse.Namespace) -> Config:
    """The run's configuration, with the endpoint that `arguments` name in place of the one that grades or embeds."""
    feedback = config.feedback
    if arguments.endpoint:
        settings = EndpointSettings(url=arguments.endpoint, model=arguments.model)
        feedback = feedback.model_copy(update={"similarity_endpoint": settings})
    if feedback.asks_endpoint and feedback.similarity_endpoint is None:
        raise ConfigError(
            f"feedback.similarity = '{feedback.similarity}' asks the policy, which this command does not start; name "
            "who answers with --endpoint URL (and --model)"
        )
    return config.model_copy(update={"feedback": feedback})
