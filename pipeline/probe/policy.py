"""The model that is probed: it solves problems under a context, and summarises attempts as it would in training.

Every prompt is made by the parts that training makes its own with: `pipeline.evaluation.modes` and
`pipeline.experience.abstraction`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from pipeline.config import Config
from pipeline.errors import EndpointError
from pipeline.evaluation.modes import Inference, Turn
from pipeline.experience.abstraction import Abstractor, Chosen, Rejection
from pipeline.experience.contexts import intra_context
from pipeline.inference.protocol import Reply
from pipeline.text import visible
from pipeline.types import Attempt, Context, Label, Message, Problem, Rollout, RolloutGroup, Verdict, WeightVersion
from prompts.schemas import Lesson

PolicyRequest = Callable[[tuple[Message, ...], int, dict[str, Any]], Awaitable[Reply]]
"""Messages, number of the sample, parameters of the request → a reply. Raises EndpointError."""
SCRATCH = Context()


class Summarised(NamedTuple):
    """The lesson that training would keep, or why it would keep none; `turns` are the requests that it took."""

    lesson: Lesson | None
    reason: str
    turns: tuple[Turn, ...]


class _Recorder:
    """A ChatClient that remembers its turns."""

    def __init__(self, request: PolicyRequest) -> None:
        self._request = request
        self.turns: list[Turn] = []
        self.failure: EndpointError | None = None

    async def chat(
        self,
        messages: tuple[Message, ...],
        *,
        max_tokens: int,
        temperature: float,
        stage: str,
        schema: dict[str, Any] | None = None,
        seed: int | None = None,
        affinity: str = "",
    ) -> Reply:
        wanted = {"max_tokens": max_tokens, "temperature": temperature, "schema": schema}
        try:
            reply = await self._request(messages, 0, wanted)
        except EndpointError as error:
            self.failure = error
            raise
        self.turns.append(Turn.of(messages, reply))
        return reply


class Policy:
    """`max_lesson_tokens` bounds a summary further than training does, and leaves it unrepaired, where time is
    short."""

    def __init__(self, config: Config, request: PolicyRequest, max_lesson_tokens: int | None = None) -> None:
        update: dict[str, Any] = {"temperature": 0.0}
        if max_lesson_tokens is not None:
            update |= {"max_tokens": min(config.longest_lesson, max_lesson_tokens), "num_repairs": 0}
        abstraction = config.abstraction.model_copy(update=update)
        self._config = config.model_copy(update={"abstraction": abstraction})
        self._request = request
        self._sampling = config.rollout.sampling

    async def solve(
        self, problem: Problem, max_tokens: int, context: Context = SCRATCH, *, sample: int | None = None
    ) -> Turn:
        """Its answer to `problem`: the greedy one, or sample number `sample` as training would sample it. Raises
        EndpointError."""
        wanted: dict[str, Any] = {"max_tokens": max_tokens, "temperature": 0.0}
        if sample is not None:
            wanted |= {"temperature": self._sampling.temperature, "top_p": self._sampling.top_p}

        async def request(messages: tuple[Message, ...], number: int) -> Reply:
            return await self._request(messages, number, wanted)

        inferred = await Inference(self._config, request).shown(problem, context, sample or 0)
        return inferred.turns[-1]

    async def reflect(self, problem: Problem, attempt: str, max_tokens: int) -> Turn:
        """Its answer after a critique of `attempt`. Raises EndpointError."""
        shown = Attempt(problem_id=problem.id, text=attempt)
        return await self.solve(problem, max_tokens, intra_context(shown, self._config.reflection.longest))

    async def summarise(self, problem: Problem, gold: str, attempt: str, verdict: Verdict) -> Summarised:
        """The lesson of an `attempt` at a problem whose answer is `gold`, by the prompt, schema and checks of training.
        Raises EndpointError."""
        recorder = _Recorder(self._request)
        group = _group(problem, attempt, verdict)
        label = Label(problem_id=problem.id, answer=gold)
        made = await Abstractor(self._config, recorder).summarise(Chosen(group, group.rollouts[0]), label)
        if recorder.failure is not None:
            raise recorder.failure
        if isinstance(made, Rejection):
            return Summarised(None, made.reason, tuple(recorder.turns))
        return Summarised(made.lesson, "", tuple(recorder.turns))

    def visible(self, turn: Turn) -> str:
        """What of an answer is graded and shown again."""
        return visible(turn.text, strip=self._config.rollout.strip_think)


def _group(problem: Problem, attempt: str, verdict: Verdict) -> RolloutGroup:
    """The attempt as training has it: of a group, by the first weights."""
    first = WeightVersion(lineage=0, step=0)
    rollout = Rollout(
        id="probe-0", text=attempt, token_ids=(), logprobs=(), finish_reason="stop", reward=verdict.score,
        verdict=verdict, oldest_version=first, newest_version=first,
    )  # fmt: skip
    return RolloutGroup(
        id="probe", lineage=0, step=0, slot=0, problem=problem, context=Context(), prompt_ids=(), rollouts=(rollout,)
    )
