"""Answers all questions of a plan: benchmarks × modes × samples, each once, whatever ends the process in between.

Invariants: a reply is paid for once (`pipeline.evaluation.requests`), an answer is written as soon as it is judged;
what is written is not requested again, also when the same prompt belongs to two modes; at most twice as many answers
are worked on as the endpoints take at once (the bound protects memory; while one half is being judged the other keeps
the endpoints busy). An answer that cannot be had is written down as a failure with its kind.

| waits | for | woken by |
|---|---|---|
| a worker | a slot, lessons, replies, a verdict | another's reply that is cached, pool, endpoints, verifier |
| `run` | all workers; after `stop`, those that wait for a reply | the last of them |
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pipeline.config import Config
from pipeline.errors import EndpointError
from pipeline.evaluation.folder import Answered, EvalFolder, Failed
from pipeline.evaluation.modes import Inference, Search
from pipeline.evaluation.plan import BenchmarkCells, BenchmarkTasks, Question, questions, sampling_of
from pipeline.evaluation.requests import PaidRequests, Stopped
from pipeline.evaluation.results import Scored, scored
from pipeline.inference.client import InferenceClient
from pipeline.inference.protocol import Reply
from pipeline.inference.reply_cache import ReplyCache, key_of
from pipeline.inference.usage import Prices
from pipeline.rewards.judge.model import AnswerJudge
from pipeline.rewards.verifier import Verifier
from pipeline.rewards.version import verifier_version
from pipeline.types import Message, Verdict

MAX_DETAIL_CHARS = 300


class Scoring(NamedTuple):
    """What is made of an answer: its verdicts and its price. `verifiers` are by scorer; a judge is none of them.
    `own_judge` decides, in its place, where the run's own problems are judged as they were in training."""

    verifiers: Mapping[str, Verifier]
    judge: AnswerJudge | None = None
    own_judge: AnswerJudge | None = None
    prices: Prices = Prices()


class EvalRun:
    """One run over the questions of a plan.

    `answers` are those that the folder holds, by key; what `run` adds joins them. After `stop` no request begins.
    `end_waits` ends what only waits, at whatever endpoint, once a failure has ended the run."""

    def __init__(
        self,
        config: Config,
        folder: EvalFolder,
        endpoints: InferenceClient,
        replies: ReplyCache,
        answers: dict[str, Scored],
        scoring: Scoring,
        *,
        search: Search | None = None,
        end_waits: Callable[[EndpointError], None] | None = None,
        progress: Callable[[int], None] = lambda done: None,
    ) -> None:
        self._config = config
        self._folder = folder
        self._requests = PaidRequests(config, endpoints, replies, end_waits)
        self.answers = answers
        self._scoring = scoring
        self._search = search
        self._progress = progress
        self._inferences: dict[str, Inference] = {}
        self._versions = {scorer: verifier_version(scorer) for scorer in {*scoring.verifiers, "judge"}}
        self.num_done = 0
        self.num_verdicts = 0

    @property
    def stopped(self) -> bool:
        return self._requests.stopped

    @property
    def failures(self) -> Counter[str]:
        """Answers that could not be had, by kind."""
        return self._requests.failures

    @property
    def first_failure(self) -> str:
        return self._requests.first_failure

    def stop(self) -> None:
        self._requests.stop()

    async def run(self, benchmarks: Sequence[BenchmarkCells]) -> None:
        """Answer every question that is not answered yet.

        Raises FinalEndpointError for a failure that all requests would meet, EndpointError after too many in a row."""
        num_all = num_left = num_superseded = 0
        for question in questions(self._config, benchmarks):
            num_all += 1
            if not self._is_settled(question):
                num_left += 1
                num_superseded += question.key in self.answers
        self.num_done = num_all - num_left
        self._progress(self.num_done)
        self._inferences = {benchmark.name: self._inference(benchmark) for benchmark, _ in benchmarks}
        # One iterator for all workers: the next question is looked up only then.
        left = (question for question in questions(self._config, benchmarks) if not self._is_settled(question))
        self._folder.make_logs()
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(2 * self._requests.num_at_once, num_left)):
                workers.create_task(self._work(left))
        if num_superseded:
            await asyncio.to_thread(self._folder.drop_superseded)
        if self._requests.fatal is not None:
            raise self._requests.fatal

    def _is_settled(self, question: Question) -> bool:
        """Whether there is an answer with all of its verdicts. Each question is looked at once, before it is
        answered."""
        answer, judge = self.answers.get(question.key), self._judge_of(question)
        return answer is not None and (judge is None or answer.judge == judge.name)

    def _judge_of(self, question: Question) -> AnswerJudge | None:
        """The judge of its answers, beside a verifier or alone; None without a gold answer to compare with
        (programs)."""
        alone = question.benchmark.scorer == "judge"
        if alone and question.benchmark.is_heldout:
            return self._scoring.own_judge or self._scoring.judge
        return self._scoring.judge if alone or question.task.label.answer.strip() else None

    async def _work(self, left: Iterator[Question]) -> None:
        for question in left:
            if self._requests.is_over:
                return
            try:
                answer = await self._answered(question)
            except Stopped:
                return
            except EndpointError as error:
                self._fail(question, error)
                continue
            self._requests.succeeded()
            self._folder.append(answer)
            self.answers[question.key] = scored(answer, self._scoring.prices)
            self.num_done += 1
            self._progress(self.num_done)

    def _fail(self, question: Question, error: EndpointError) -> None:
        if self.stopped:  # it was not given all of its attempts
            return
        self._requests.failed(error)
        self._folder.append_failure(Failed(key=question.key, kind=error.kind, detail=str(error)[:MAX_DETAIL_CHARS]))

    async def _answered(self, question: Question) -> Answered:
        benchmark, task = question.benchmark, question.task
        inference = self._inferences[benchmark.name]
        inferred = await inference.infer(task.problem, question.mode, question.sample)
        text = inference.visible(inferred.turns[-1].text)
        judged = await self._judged(question, text)
        if benchmark.scorer == "judge":
            assert judged is not None, "a benchmark that a judge decides needs a judge"
            verdict = judged
        else:
            verdict = await self._scoring.verifiers[benchmark.scorer].verify(text, task)
        self.num_verdicts += 1
        return Answered(
            key=question.key,
            benchmark=benchmark.name,
            problem_id=task.problem.id,
            family=task.problem.family,
            mode=question.mode,
            sample=question.sample,
            inferred=inferred,
            verdict=verdict,
            verifier=self._versions[benchmark.scorer],
            judged=judged,
            judge=self._scoring.judge.name if self._scoring.judge and judged else "",
        )

    async def _judged(self, question: Question, text: str) -> Verdict | None:
        """The judge's verdict.

        Beside a verifier one that cannot be had is counted, and requested again by the next command; where the judge
        decides alone, EndpointError is raised."""
        judge = self._judge_of(question)
        if judge is None:
            return None
        try:
            return await judge.verify(question.task.problem, text, question.task.label)
        except EndpointError as error:
            if question.benchmark.scorer == "judge":
                raise
            self._requests.count(f"judge: {error.kind}", error)
            return None

    def _inference(self, benchmark: BenchmarkTasks) -> Inference:
        settings = self._config.eval
        sampling = sampling_of(self._config, benchmark.max_tokens)
        greedy = settings.sampling_temperature == 0

        async def request(messages: tuple[Message, ...], sample: int) -> Reply:
            sent = [message.model_dump() for message in messages]
            key = key_of(messages=sent, sampling=sampling, sample=0 if greedy else sample)

            return await self._requests.chat(
                key,
                messages,
                max_tokens=benchmark.max_tokens,
                temperature=settings.sampling_temperature,
                top_p=settings.top_p,
                stage="eval",
                affinity=messages[-1].content,
            )

        return Inference(self._config, request, self._search)
