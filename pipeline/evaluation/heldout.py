"""The evaluation within a run: its held-out problems, zero-shot and greedy. The command `eval` has `session`.

The problems are the same ones each time, so two evaluations are compared problem by problem. A verifier failure is its
own outcome and is shown; it counts as not solved."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pydantic import BaseModel

from pipeline.config import Config
from pipeline.errors import EndpointError
from pipeline.evaluation.modes import Inference
from pipeline.inference.client import InferenceClient
from pipeline.inference.protocol import Reply
from pipeline.rewards.verifier import Verifier
from pipeline.statistics import wilson_interval
from pipeline.types import Message, Record, Task, Verdict

# An evaluation beside training takes the slots that rollouts leave free.
AFTER_ROLLOUTS = 1 << 62


class Answer(Record):
    """One evaluated problem."""

    problem_id: str
    family: str
    text: str
    finish_reason: str
    verdict: Verdict
    error: str = ""


class EvalReport(BaseModel):
    """Accuracy with its 95 % interval (Wilson), and what tells format from skill."""

    name: str
    num_problems: int
    num_correct: int
    share_parsable: float
    share_cut: float
    outcomes: dict[str, int]
    mean_completion_tokens: float
    seconds: float

    @property
    def accuracy(self) -> float:
        return self.num_correct / self.num_problems

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.num_correct, self.num_problems)

    def line(self) -> str:
        low, high = self.interval
        return (
            f"{self.name}: {self.accuracy:.1%} [{low:.1%}, {high:.1%}] of {self.num_problems} held-out problems, "
            f"{self.share_parsable:.1%} parsable, {self.share_cut:.1%} cut short"
        )


async def evaluate(
    name: str,
    tasks: list[Task],
    config: Config,
    endpoints: InferenceClient,
    verifier: Verifier,
    out: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> EvalReport:
    """Answer every task greedily, write each answer to `out` (JSONL), return the report.

    Raises EndpointError only when no problem could be answered at all.
    """
    loop = asyncio.get_running_loop()
    begin, tokens_before = loop.time(), endpoints.usage.total("completion_tokens", "eval")
    done = itertools.count(1)

    async def one(task: Task) -> Answer:
        answer = await _answer(task, config, endpoints, verifier)
        progress(next(done), len(tasks))
        return answer

    async with asyncio.TaskGroup() as group:
        running = [group.create_task(one(task)) for task in tasks]
    answers = [task.result() for task in running]
    with out.open("w", encoding="utf-8") as file:
        for answer in answers:
            file.write(answer.model_dump_json() + "\n")
    if all(answer.error for answer in answers):
        raise EndpointError("evaluation", f"no problem could be answered; the first failure: {answers[0].error}")
    num_tokens = endpoints.usage.total("completion_tokens", "eval") - tokens_before
    return EvalReport(
        name=name,
        num_problems=len(answers),
        num_correct=sum(answer.verdict.correct for answer in answers),
        share_parsable=sum(answer.verdict.answer is not None for answer in answers) / len(answers),
        share_cut=sum(answer.finish_reason == "length" for answer in answers) / len(answers),
        outcomes=dict(Counter(answer.verdict.kind if not answer.error else "no_reply" for answer in answers)),
        mean_completion_tokens=num_tokens / len(answers),
        seconds=loop.time() - begin,
    )


async def _answer(task: Task, config: Config, endpoints: InferenceClient, verifier: Verifier) -> Answer:
    async def request(messages: tuple[Message, ...], sample: int) -> Reply:
        return await endpoints.chat(
            messages,
            max_tokens=config.eval.max_tokens,
            temperature=0.0,
            stage="eval",
            priority=AFTER_ROLLOUTS,
            affinity=task.problem.id,
        )

    inference = Inference(config, request)
    answer = partial(Answer, problem_id=task.problem.id, family=task.problem.family)
    try:
        (turn,) = (await inference.infer(task.problem, "zero-shot")).turns
    except EndpointError as error:
        failed = Verdict(kind="error")
        return answer(text="", finish_reason="error", verdict=failed, error=f"{error.kind}: {error}")
    verdict = await verifier.verify(inference.visible(turn.text), task)
    return answer(text=turn.text, finish_reason=turn.finish_reason, verdict=verdict)


def read_answers(path: Path) -> list[Answer]:
    return [Answer.model_validate(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
