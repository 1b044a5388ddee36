"""The evaluation within a run: its held-out problems, zero-shot and greedy. The command `eval` has `session`.

The problems are the same ones each time, so two evaluations are compared problem by problem. A verifier failure is its
own outcome and is shown; it counts as not solved. A problem without an answer is asked again, with the patience that
the servers were seen to need; what is still without one then is no wrong answer: it counts neither way and is shown."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import mean

from pydantic import BaseModel

from pipeline.config import Config
from pipeline.errors import EndpointError, FinalEndpointError
from pipeline.evaluation.modes import Inference
from pipeline.inference.client import InferenceClient
from pipeline.inference.patience import Patience
from pipeline.inference.protocol import Reply
from pipeline.rewards.verifier import Verifier
from pipeline.run.state import of_problems, shown_reward
from pipeline.statistics import wilson_interval
from pipeline.types import Message, Record, Task, Verdict

# An evaluation beside training takes the slots that rollouts leave free.
AFTER_ROLLOUTS = 1 << 62
# How often a problem is asked, each time after all the others and with all attempts of a request.
NUM_ROUNDS = 3


class Answer(Record):
    """One evaluated problem."""

    problem_id: str
    family: str
    text: str
    finish_reason: str
    verdict: Verdict
    error: str = ""


class EvalReport(BaseModel):
    """Accuracy over the answered problems with its 95 % interval (Wilson), and what tells format from skill.

    Of `num_problems` those `unanswered`, by the kind of failure, are in no share and no mean."""

    name: str
    num_problems: int
    num_correct: int
    share_parsable: float
    share_cut: float
    outcomes: dict[str, int]
    unanswered: dict[str, int] = {}
    mean_reward: float | None = None
    mean_completion_tokens: float
    seconds: float

    @property
    def num_answered(self) -> int:
        return self.num_problems - sum(self.unanswered.values())

    @property
    def accuracy(self) -> float:
        return self.num_correct / self.num_answered

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.num_correct, self.num_answered)

    def line(self) -> str:
        low, high = self.interval
        return (
            f"{self.name}: {self.accuracy:.1%} [{low:.1%}, {high:.1%}] of {of_problems(self.model_dump())}, "
            f"{shown_reward(self.mean_reward, self.accuracy)}{self.share_parsable:.1%} parsable, "
            f"{self.share_cut:.1%} cut short"
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
    patience = Patience(config.requests.attempt_timeout_s)
    answers: dict[str, Answer] = {}

    async def one(task: Task, again: list[Task]) -> None:
        try:
            answers[task.problem.id] = await _answer(task, config, endpoints, verifier, patience)
        except EndpointError as error:
            answers[task.problem.id] = _unanswered(task, error)
            if not isinstance(error, FinalEndpointError):
                again.append(task)
        progress(sum(not answer.error for answer in answers.values()), len(tasks))

    left = tasks
    for _ in range(NUM_ROUNDS):
        asked, left = left, list[Task]()
        async with asyncio.TaskGroup() as group:
            for task in asked:
                group.create_task(one(task, left))
    in_order = [answers[task.problem.id] for task in tasks]
    with out.open("w", encoding="utf-8") as file:
        for answer in in_order:
            file.write(answer.model_dump_json() + "\n")
    if all(answer.error for answer in in_order):
        raise EndpointError("evaluation", f"no problem could be answered; the first failure: {in_order[0].error}")
    return _report(
        name, in_order, endpoints.usage.total("completion_tokens", "eval") - tokens_before, loop.time() - begin
    )


def _report(name: str, answers: list[Answer], num_tokens: int, seconds: float) -> EvalReport:
    answered = [answer for answer in answers if not answer.error]
    scores = [answer.verdict.score for answer in answered if not answer.verdict.failed]
    return EvalReport(
        name=name,
        num_problems=len(answers),
        num_correct=sum(answer.verdict.correct for answer in answered),
        share_parsable=sum(answer.verdict.answer is not None for answer in answered) / len(answered),
        share_cut=sum(answer.finish_reason == "length" for answer in answered) / len(answered),
        outcomes=dict(Counter(answer.verdict.kind for answer in answered)),
        unanswered=dict(Counter(answer.error.partition(":")[0] for answer in answers if answer.error)),
        mean_reward=mean(scores) if scores else None,
        mean_completion_tokens=num_tokens / len(answered),
        seconds=seconds,
    )


async def _answer(
    task: Task, config: Config, endpoints: InferenceClient, verifier: Verifier, patience: Patience
) -> Answer:
    async def request(messages: tuple[Message, ...], sample: int) -> Reply:
        return await endpoints.chat(
            messages,
            max_tokens=config.longest_answer,
            temperature=0.0,
            stage="eval",
            priority=AFTER_ROLLOUTS,
            affinity=task.problem.id,
            patience=patience,
        )

    inference = Inference(config, request)
    (turn,) = (await inference.infer(task.problem, "zero-shot")).turns
    return Answer(
        problem_id=task.problem.id,
        family=task.problem.family,
        text=turn.text,
        finish_reason=turn.finish_reason,
        verdict=await verifier.verify(inference.visible(turn.text), task),
    )


def _unanswered(task: Task, error: EndpointError) -> Answer:
    return Answer(
        problem_id=task.problem.id,
        family=task.problem.family,
        text="",
        finish_reason="error",
        verdict=Verdict(kind="error"),
        error=f"{error.kind}: {error}",
    )


def read_answers(path: Path) -> list[Answer]:
    return [Answer.model_validate(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
