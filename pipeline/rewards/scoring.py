"""All scorers of a configuration over answers: one verdict each, in order.

Invariants: an answer has exactly one verdict; whatever a scorer raises, memory errors and exits included, is the
outcome 'error' of the answer at hand and of no other, with the reason; the score is the weighted sum of what the
scorers gave, unchanged; where a scorer takes lists (`whole_groups`), all answers to one problem share the call.

| iterator | waits for | woken by |
|---|---|---|
| answers of a plain function | nothing: it is called when its verdict is asked for | |
| answers of an `async` one | its call, of `concurrency` open at once; `timeout_s` an answer at most | the loop |
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

from pipeline.config.rollout import RewardSection
from pipeline.errors import IsolationError
from pipeline.rewards.code.programs import ProgramScorer
from pipeline.rewards.contract import MAX_REWARD, FunctionScore, RewardTask, UserFunction, too_large
from pipeline.rewards.extraction import extract_answer
from pipeline.rewards.scorers import Scorer, make_scorer
from pipeline.runtime.plugins import is_plugin, load_function
from pipeline.text import visible_each
from pipeline.types import FAILED, MAX_ANSWER_CHARS, Task, Verdict

MAX_TEXT_CHARS = 2000
Answer = tuple[str, Task]
Call = tuple[list[str], Task]
_OURS = str(Path(__file__).parent)


class Scoring:
    """The scorers of `settings`, wired. Belongs to the main thread: some of them use signals."""

    def __init__(self, settings: RewardSection) -> None:
        """Raises ConfigError for a scorer that cannot be had."""
        self._settings = settings
        self._runner = asyncio.Runner()
        self._programs = ProgramScorer(settings)
        self._columns = [(one.column, one.weight) for one in settings.all_scorers]
        self._of = [self._scorer(one.scorer) for one in settings.all_scorers]
        self._users = [one for one in self._of if isinstance(one, UserFunction)]

    @property
    def whole_groups(self) -> bool:
        """Whether the first verdict of a group comes when all of them do."""
        return any(one.kind == "lists" for one in self._users)

    @property
    def concurrency(self) -> int:
        """Answers that are worth having at hand together."""
        return self._settings.concurrency if any(one.is_async for one in self._users) else 1

    @property
    def hint(self) -> str:
        """What the user's functions may have meant otherwise; empty where there is nothing to say."""
        return "".join(one.hint for one in self._users)

    def close(self) -> None:
        """End what scorers have running."""
        self._programs.close()
        self._runner.close()

    def verdicts(self, answers: Sequence[Answer]) -> Iterator[Verdict]:
        """The verdict on each answer, as soon as it is there. Raises IsolationError where code cannot be contained."""
        for of_answer in zip(*(self._each(one, answers) for one in self._of), strict=True):
            yield combined(of_answer, self._columns, self._settings.format_weight)

    def _scorer(self, name: str) -> UserFunction | Scorer:
        if is_plugin(name):
            return UserFunction(load_function(name, "reward.scorer"), name)
        return make_scorer(name, self._settings, self._programs)

    def _each(self, scorer: UserFunction | Scorer, answers: Sequence[Answer]) -> Iterator[Verdict]:
        if not isinstance(scorer, UserFunction):
            score = scorer
            shown = visible_each([text for text, _ in answers], strip=True)
            # The first line of a program's text may be indented: it goes on where its prompt ends.
            given = (
                (text if "tests" in task.label.entry else seen, task)
                for (text, task), seen in zip(answers, shown, strict=True)
            )
            return (judged(partial(score, text, task.label, problem=task.problem.text)) for text, task in given)
        calls = _calls(scorer, answers)
        return self._concurrently(scorer, calls) if scorer.is_async else self._in_turn(scorer, calls)

    def _in_turn(self, scorer: UserFunction, calls: Sequence[Call]) -> Iterator[Verdict]:
        for texts, task in calls:
            value: list[object] = []

            def call(texts: list[str] = texts, task: Task = task, value: list[object] = value) -> Verdict:
                value.append(self._awaited(scorer.call(texts, RewardTask.of(task))))
                return Verdict(kind="scored")

            failure = judged(call, scorer.hint)
            yield from self._read(scorer, value[0], texts) if value else [failure] * len(texts)

    def _concurrently(self, scorer: UserFunction, calls: Sequence[Call]) -> Iterator[Verdict]:
        """Calls of an async function, several open at once; the first verdict starts them all."""
        slots, loop = asyncio.Semaphore(self._settings.concurrency), self._runner.get_loop()

        async def one(texts: list[str], task: Task) -> list[Verdict]:
            limit_s = self._settings.timeout_s * len(texts)
            async with slots:
                try:
                    async with asyncio.timeout(limit_s) as limit:
                        value = await scorer.call(texts, RewardTask.of(task))
                except TimeoutError as error:
                    if limit.expired():
                        return [Verdict(kind="timeout", text=f"no reward within {limit_s:g} s")] * len(texts)
                    return [Verdict(kind="error", text=reason_of(error))] * len(texts)
                except asyncio.CancelledError:
                    raise
                except BaseException as error:  # noqa: BLE001 - the boundary, as in `judged`
                    return [Verdict(kind="error", text=reason_of(error) + scorer.hint)] * len(texts)
            return self._read(scorer, value, texts)

        waited = [(loop.create_task(one(texts, task)), len(texts)) for texts, task in calls]
        for task, num in waited:
            found: list[Verdict] = []

            def wait(task: asyncio.Task[list[Verdict]] = task, found: list[Verdict] = found) -> Verdict:
                found += loop.run_until_complete(task)
                return found[0]

            failure = judged(wait)
            yield from found or [failure] * num

    def _read(self, scorer: UserFunction, value: object, texts: Sequence[str]) -> list[Verdict]:
        """The verdicts in what a call for `texts` returned; what is wrong with it is the outcome of all of them."""
        said: list[FunctionScore] = []

        def read() -> Verdict:
            said.extend(scorer.scores(value, len(texts)))
            return Verdict(kind="scored")

        failure = judged(read, scorer.hint)
        return (
            [self._verdict(one, text) for one, text in zip(said, texts, strict=True)]
            if said
            else [failure] * len(texts)
        )

    def _awaited(self, value: object) -> object:
        async def wait(value: Awaitable[object]) -> object:
            return await value

        return self._runner.run(wait(value)) if isinstance(value, Awaitable) else value

    def _verdict(self, said: FunctionScore, text: str) -> Verdict:
        answer = extract_answer(text)
        return Verdict(
            kind="scored",
            score=said.score,
            correct=said.score >= self._settings.threshold,
            answer=None if answer is None else answer[:MAX_ANSWER_CHARS],
            text=said.text[:MAX_TEXT_CHARS],
        )


def _calls(scorer: UserFunction, answers: Sequence[Answer]) -> list[Call]:
    """What a function is called for: an answer, or all answers to a problem where it takes lists."""
    if scorer.kind != "lists":
        return [([text], task) for text, task in answers]
    groups = (list(group) for _, group in groupby(answers, key=lambda answer: id(answer[1])))
    return [([text for text, _ in group], group[0][1]) for group in groups]


def combined(verdicts: Sequence[Verdict], columns: Sequence[tuple[str, float]], format_weight: float = 0.0) -> Verdict:
    """One verdict of those of all scorers, whose names and weights are `columns`. Without a judgement where any of them
    has none. Pure."""
    scored = [(name, weight, verdict) for (name, weight), verdict in zip(columns, verdicts, strict=True)]
    for name, _, verdict in scored:
        if verdict.kind in FAILED:
            return Verdict(kind=verdict.kind, text=f"{name}: {verdict.text}" if len(scored) > 1 else verdict.text)
    first = verdicts[0]
    answer = next((verdict.answer for verdict in verdicts if verdict.answer is not None), None)
    components = {name: verdict.score for name, _, verdict in scored}
    score = sum(weight * verdict.score for _, weight, verdict in scored) + format_weight * (answer is not None)
    # Not of NaN.
    if not abs(score) <= MAX_REWARD:
        names = (
            f"the weighted sum of {', '.join(components)} is" if len(scored) > 1 or format_weight else "the reward is"
        )
        return Verdict(kind="error", text=f"{names} {too_large(score)}; reward.scorers gives each a weight")
    text = "\n".join(verdict.text for verdict in verdicts if verdict.text)
    return first.model_copy(update={"score": score, "answer": answer, "text": text, "components": components})


def judged(score: Callable[[], Verdict], hint: str = "") -> Verdict:
    """The verdict that `score` gives, or the outcome 'error' of whatever it raises; that code cannot be contained is no
    outcome, and goes on."""
    try:
        return score()
    except IsolationError:
        raise
    except BaseException as error:  # noqa: BLE001 - the boundary of all scorers: an exit and an interrupt, too
        return Verdict(kind="error", text=reason_of(error) + hint)


def reason_of(error: BaseException) -> str:
    """What a traceback ends with, and the last line of it that is not of this package."""
    message = " ".join(str(error).split())[:300]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_OURS)]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno}, in {frames[-1].name})" if frames else ""
    return f"{type(error).__name__}{': ' if message else ''}{message}{where}"
