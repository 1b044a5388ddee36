"""A language model as verifier: whether an answer means the same as the gold answer, or how well it meets a rubric.

Invariants: a judge that fails gives no verdict, never a score; a reply that is no verdict is asked for again, a bounded
number of times; a response is shown to the judge as data between two lines that it could not have known; with a cache
no judgement is paid for twice. The judge's prompt holds a label. So it is no member of `prompts.schemas.PromptInput`,
whose rendering cannot take one, and is rendered here, by the same single-pass substitution."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.config.endpoints import EndpointSettings, RequestsSection
from pipeline.config.rollout import RewardSection
from pipeline.errors import ConfigError, EndpointSetupError
from pipeline.inference.capabilities import check_endpoint
from pipeline.inference.chat_client import ChatClient
from pipeline.inference.client import InferenceClient
from pipeline.inference.protocol import Reply
from pipeline.inference.reply_cache import ReplyCache, key_of
from pipeline.inference.structured_output import THINKING_TOKENS, parse_json_reply
from pipeline.rewards.extraction import extract_answer
from pipeline.types import MAX_ANSWER_CHARS, Label, Message, Problem, Verdict
from prompts.filling import filled
from prompts.sets import template

# The answer is at the end; the beginning of a longer response is left out.
MAX_RESPONSE_CHARS = 4000
LEFT_OUT = "[…] "
MAX_SHOWN_CHARS = 100
# How often one judgement is asked for, where replies are none. The first time greedily: what was said once, greedily,
# would be said again.
NUM_ASKS = 3
AGAIN_TEMPERATURE = 0.7
MAX_GRADE = 10


class _Comparison(BaseModel):
    model_config = ConfigDict(extra="forbid")
    verdict: Literal["correct", "incorrect"]

    @property
    def value(self) -> float:
        return float(self.verdict == "correct")


class _Grade(BaseModel):
    model_config = ConfigDict(extra="forbid")
    score: int = Field(ge=0, le=MAX_GRADE)

    @property
    def value(self) -> float:
        return self.score / MAX_GRADE


class JudgeRules(NamedTuple):
    """What a judge decides by: a `rubric`, which gives 0 to 1 in tenths, and that of each problem's own in `column` of
    its row; without either the gold answer, which gives 0 or 1. From `threshold` on an answer is correct."""

    rubric: str = ""
    column: str = ""
    threshold: float = 0.999

    @property
    def by_rubric(self) -> bool:
        return bool(self.rubric or self.column)

    def shown(self, problem: Problem, label: Label) -> dict[str, str]:
        """What a judge is shown beside a response. Raises ConfigError without what it has to go by."""
        found = {"problem": problem.text, "reference": " or ".join(label.answers)}
        if self.by_rubric:
            return {**found, "rubric": self._rubric_of(label)}
        if not label.answer.strip():
            raise ConfigError(
                f"problem {problem.id!r} has no gold answer that a judge could compare with; use another verifier, or "
                "a rubric (reward.judge.rubric)"
            )
        return found

    def _rubric_of(self, label: Label) -> str:
        own = label.row.get(self.column) if self.column else None
        shown = own if isinstance(own, str) else json.dumps(own, ensure_ascii=False, default=str) if own else ""
        if not (rubric := "\n".join(part for part in (self.rubric, shown) if part.strip())):
            raise ConfigError(
                f"problem {label.problem_id!r} has nothing in its column {self.column!r} (reward.judge.rubric_column); "
                "give every row one, or name what holds for all of them in reward.judge.rubric"
            )
        return rubric


BY_REFERENCE = JudgeRules()


def own_rules(settings: RewardSection) -> JudgeRules:
    """What the first judge of `settings` decides by: the gold answer where there is none."""
    return next(iter(rules_in(settings).values()), BY_REFERENCE)


def rules_in(settings: RewardSection) -> dict[str, JudgeRules]:
    """What each judge of `settings` decides by, by its column."""
    column, threshold = settings.judge.rubric_column, settings.threshold
    return {one.column: JudgeRules(one.rubric, column, threshold) for one in settings.judges}


class AnswerJudge:
    """Gives verdicts: those of the model `name` that `client` reaches, by `rules`.

    `cache` has the replies of before; `at` tells judges of one name in it apart, `slots` are as many as may be paid for
    and not yet in it: so much a kill loses."""

    def __init__(
        self,
        client: ChatClient,
        name: str,
        *,
        rules: JudgeRules = BY_REFERENCE,
        max_tokens: int = THINKING_TOKENS,
        cache: ReplyCache | None = None,
        at: str = "",
        slots: asyncio.Semaphore | None = None,
    ) -> None:
        self.name = name
        self.rules = rules
        self._client = client
        self._max_tokens = max_tokens
        self._cache = cache
        self._at = at
        self._slots = slots
        self.num_malformed = 0
        """Replies that were no verdict."""

    def by(self, rules: JudgeRules) -> AnswerJudge:
        """The same model with other rules."""
        return AnswerJudge(
            self._client, self.name, rules=rules, max_tokens=self._max_tokens, cache=self._cache, at=self._at,
            slots=self._slots,
        )  # fmt: skip

    async def verify(self, problem: Problem, text: str, label: Label) -> Verdict:
        """The verdict on `text`; 'error' where no reply of NUM_ASKS is one. Raises EndpointError, ConfigError without
        a gold answer or a rubric."""
        by_rubric, shown = self.rules.by_rubric, self.rules.shown(problem, label)
        if not text.strip():
            return Verdict(kind="no_answer")
        kind: type[_Comparison] | type[_Grade] = _Grade if by_rubric else _Comparison
        reply = Reply(text="", finish_reason="")
        ask = num_new = 0
        while num_new < NUM_ASKS:  # replies of before that are no verdict stand for no question of now
            reply, is_new = await self._reply(shown, text, kind, problem.id, ask)
            ask, num_new = ask + 1, num_new + is_new
            try:
                score = parse_json_reply(kind, reply.text).value
            except ValidationError:
                self.num_malformed += 1
                continue
            answer = extract_answer(text)
            return Verdict(
                kind="scored",
                score=score,
                correct=score >= self.rules.threshold if by_rubric else bool(score),
                answer=answer[:MAX_ANSWER_CHARS] if answer is not None else None,
            )
        said = " ".join(reply.text.split())[:MAX_SHOWN_CHARS]
        reason = f"the judge {self.name} gave no verdict in {NUM_ASKS} replies, the last of which is {said!r}"
        return Verdict(kind="error", text=reason)

    async def _reply(
        self, shown: dict[str, str], text: str, kind: type[BaseModel], problem_id: str, ask: int
    ) -> tuple[Reply, bool]:
        """The reply to a question, and whether it is new."""

        async def request() -> Reply:
            fence = f"----- {secrets.token_hex(8)} -----"  # another one each time, so that no response can know it
            return await self._client.chat(
                (Message(role="user", content=judge_prompt(shown, text, fence)),),
                max_tokens=self._max_tokens,
                temperature=AGAIN_TEMPERATURE if ask else 0.0,
                stage="judge",
                schema=kind.model_json_schema(),
                affinity=problem_id,
            )

        if self._cache is None:
            return await request(), True
        # Not of the prompt, whose fence differs.
        key: dict[str, Any] = {"problem": shown["problem"], "gold": shown["reference"], "text": text}
        key |= {"judge": self.name, "template": template(_template_of(shown))}
        more = {"rubric": shown.get("rubric"), "at": self._at, "ask": ask}
        key |= {name: value for name, value in more.items() if value}
        is_new = self._cache.find(key_of(**key)) is None
        return await self._cache.get(key_of(**key), request, stage="judge", slots=self._slots), is_new


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


def _template_of(shown: dict[str, str]) -> str:
    return "judge_rubric" if "rubric" in shown else "judge_answer"


def judge_prompt(shown: dict[str, str], response: str, fence: str) -> str:
    """The one prompt that holds a gold answer: `shown` are problem, reference and, where one decides, rubric. Control
    tokens in what is inserted are broken up; `fence` is not in it."""
    tail = response.strip()
    if len(tail) > MAX_RESPONSE_CHARS:
        tail = LEFT_OUT + tail[-MAX_RESPONSE_CHARS:]
    # Half a surrogate pair cannot be sent.
    texts = {
        name: text.encode(errors="replace").decode().replace(fence, "")
        for name, text in {"response": tail, **shown}.items()
    }
    texts["reference"] = texts["reference"] or "(there is none)"
    return filled(template(_template_of(shown)), **texts, fence=fence)
