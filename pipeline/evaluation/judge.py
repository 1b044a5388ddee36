"""A language model as verifier: whether an answer means the same as the gold answer; and how far that can be trusted.

Invariants: a judge that fails gives no verdict, never a wrong answer; a response is shown to the judge as data between
two lines that it could not have known. The judge's prompt holds a label. So it is no member of
`prompts.schemas.PromptInput`, whose rendering cannot take one, and is rendered here, by the same single-pass
substitution."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.config.endpoints import EndpointSettings, RequestsSection
from pipeline.errors import ConfigError, EndpointError, EndpointSetupError
from pipeline.evaluation.reply_cache import ReplyCache, key_of
from pipeline.inference.capabilities import check_endpoint
from pipeline.inference.chat_client import ChatClient
from pipeline.inference.client import InferenceClient
from pipeline.inference.protocol import Reply
from pipeline.inference.structured_output import THINKING_TOKENS, parse_json_reply
from pipeline.rewards.extraction import extract_answer
from pipeline.statistics import cohen_kappa, wilson_interval
from pipeline.types import Label, Message, Problem, Record, Verdict
from prompts.render import filled, template

LABELLED = Path(__file__).parent / "data" / "labelled_answers.jsonl"
# The answer is at the end; the beginning of a longer response is left out.
MAX_RESPONSE_CHARS = 4000
LEFT_OUT = "[…] "
MAX_ANSWER_CHARS = 1000


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid")
    verdict: Literal["correct", "incorrect"]


def _gold(label: Label) -> str:
    return " or ".join(label.answers)


class AnswerJudge:
    """Gives verdicts: those of the model `name` that `client` reaches; `cache` has the replies of before."""

    def __init__(
        self, client: ChatClient, name: str, *, max_tokens: int = THINKING_TOKENS, cache: ReplyCache | None = None
    ) -> None:
        self.name = name
        self._client = client
        self._max_tokens = max_tokens
        self._cache = cache
        self.num_malformed = 0

    async def verify(self, problem: Problem, text: str, label: Label) -> Verdict:
        """The verdict on `text`; 'error' for a reply that is none. Raises EndpointError, ConfigError without a gold
        answer."""
        if not label.answer.strip():
            raise ConfigError(
                f"problem {problem.id!r} has no gold answer that a judge could compare with; use another verifier"
            )
        if not text.strip():
            return Verdict(kind="no_answer")
        reply = await self._reply(problem, text, label)
        try:
            correct = parse_json_reply(_Reply, reply.text).verdict == "correct"
        except ValidationError:
            self.num_malformed += 1
            return Verdict(kind="error")
        answer = extract_answer(text)
        shown = answer[:MAX_ANSWER_CHARS] if answer is not None else None
        return Verdict(kind="scored", score=float(correct), correct=correct, answer=shown)

    async def _reply(self, problem: Problem, text: str, label: Label) -> Reply:
        if self._cache is None:
            return await self._request(problem, text, label)
        # Not of the prompt, whose fence differs.
        key = key_of(
            judge=self.name,
            template=template("judge_answer"),
            problem=problem.text,
            gold=_gold(label),
            text=text,
        )
        return await self._cache.get(key, lambda: self._request(problem, text, label), stage="judge")

    async def _request(self, problem: Problem, text: str, label: Label) -> Reply:
        fence = f"----- {secrets.token_hex(8)} -----"  # another one each time, so that no response can know it
        prompt = judge_prompt(problem.text, _gold(label), text, fence)
        return await self._client.chat(
            (Message(role="user", content=prompt),),
            max_tokens=self._max_tokens,
            temperature=0.0,
            stage="judge",
            schema=_Reply.model_json_schema(),
            affinity=problem.id,
        )


@asynccontextmanager
async def judge_endpoint(
    settings: EndpointSettings, requests: RequestsSection, on_trouble: Callable[[str], None] | None = None
) -> AsyncIterator[InferenceClient]:
    """A client of the endpoint that `--judge` names, checked; without a model in `settings` it is the only one served.

    Raises EndpointSetupError when it does not answer, or serves no such model, or several and none was named."""
    async with InferenceClient((settings,), "", requests, on_trouble=on_trouble) as client:
        try:
            await check_endpoint(client, client.endpoints[0], training=False)
        except EndpointSetupError as error:
            raise EndpointSetupError(
                f"--judge {settings.url}: {error} (a judge's model is named with --judge-model)"
            ) from error
        yield client


def judge_prompt(problem: str, reference: str, response: str, fence: str) -> str:
    """The one prompt that holds a gold answer. Control tokens in what is inserted are broken up; `fence` is not in
    it."""
    tail = response.strip()
    if len(tail) > MAX_RESPONSE_CHARS:
        tail = LEFT_OUT + tail[-MAX_RESPONSE_CHARS:]
    # Half a surrogate pair cannot be sent.
    texts = [text.encode(errors="replace").decode() for text in (problem, reference, tail)]
    problem, reference, tail = (text.replace(fence, "") for text in texts)
    return filled(template("judge_answer"), problem=problem, reference=reference, response=tail, fence=fence)


class LabelledAnswer(Record):
    """An answer, and whether it is right, as a person says."""

    category: str
    question: str
    gold: str
    text: str
    correct: bool


def labelled_answers() -> list[LabelledAnswer]:
    """The shipped sample: half of it right, half wrong, near misses and requests to the judge among it."""
    lines = LABELLED.read_text(encoding="utf-8").splitlines()
    return [LabelledAnswer.model_validate(json.loads(line)) for line in lines]


class Agreement(BaseModel):
    """Of a judge with labels. What it called correct and is: true positives."""

    num_true_positives: int = 0
    num_false_positives: int = 0
    num_true_negatives: int = 0
    num_false_negatives: int = 0
    num_errors: int = 0

    @property
    def num_judged(self) -> int:
        return self.num_true_positives + self.num_false_positives + self.num_true_negatives + self.num_false_negatives

    @property
    def num_agreed(self) -> int:
        return self.num_true_positives + self.num_true_negatives

    @property
    def accuracy(self) -> float:
        """Share of what it judged on which it agrees; NaN when it judged nothing."""
        return self.num_agreed / self.num_judged if self.num_judged else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """95 % of `accuracy` (Wilson)."""
        return wilson_interval(self.num_agreed, self.num_judged)

    @property
    def kappa(self) -> float | None:
        return cohen_kappa(
            self.num_true_positives, self.num_false_positives, self.num_true_negatives, self.num_false_negatives
        )

    def line(self) -> str:
        total = self.num_judged + self.num_errors
        if not self.num_judged:
            return f"judge: no verdict on any of {total} labelled answers"
        low, high = self.interval
        kappa = "undefined" if self.kappa is None else f"{self.kappa:.2f}"
        return (
            f"judge: agrees with {self.accuracy:.1%} [{low:.1%}, {high:.1%}] of {self.num_judged} labelled answers, "
            f"kappa {kappa}; {self.num_false_positives} wrong ones called correct, {self.num_false_negatives} correct "
            f"ones wrong, {self.num_errors} without a verdict"
        )


async def agreement(judge: AnswerJudge) -> Agreement:
    """What `judge` says of the shipped labelled answers, against their labels.

    The client bounds the requests in flight."""
    sample = labelled_answers()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_verdict(judge, number, item)) for number, item in enumerate(sample)]
    return agreement_of([(item.correct, task.result()) for item, task in zip(sample, tasks, strict=True)])


async def _verdict(judge: AnswerJudge, number: int, item: LabelledAnswer) -> Verdict:
    identity = f"labelled-{number:04d}"
    problem = Problem(id=identity, text=item.question, split="heldout")
    try:
        return await judge.verify(problem, item.text, Label(problem_id=identity, answer=item.gold))
    except EndpointError:
        return Verdict(kind="error")


def agreement_of(pairs: Sequence[tuple[bool, Verdict]]) -> Agreement:
    """Labels and the verdicts on them, counted. A verdict that carries no judgement is an error."""
    judged = [(label, verdict.correct) for label, verdict in pairs if verdict.kind == "scored"]
    return Agreement(
        num_true_positives=judged.count((True, True)),
        num_false_positives=judged.count((False, True)),
        num_true_negatives=judged.count((False, False)),
        num_false_negatives=judged.count((True, False)),
        num_errors=len(pairs) - len(judged),
    )
