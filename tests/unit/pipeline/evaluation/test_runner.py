"""Asking: each answer once, failures written down, verdicts anew without a request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config
from pipeline.config.endpoints import EndpointSettings
from pipeline.config.evaluation import Mode
from pipeline.errors import EndpointError, FinalEndpointError, RetryableEndpointError
from pipeline.evaluation.folder import EvalFolder
from pipeline.evaluation.plan import BenchmarkTasks, planned
from pipeline.evaluation.results import Scored, scored
from pipeline.evaluation.runner import EvalRun, Scoring
from pipeline.inference.protocol import Reply
from pipeline.inference.reply_cache import ReplyCache
from pipeline.inference.usage import Prices
from pipeline.types import Label, Message, Problem, Task, Verdict

NUM = 6


class Endpoints:
    """Answers every prompt with a 7, or fails as `fail` says of its number."""

    def __init__(self, fail: Callable[[int], EndpointError | None] = lambda number: None, in_flight: int = 2) -> None:
        self.endpoints = [self]
        self.settings = EndpointSettings(url="http://e", max_concurrency=in_flight)
        self.num_asked = self.num_answered = 0
        self.failing_s = 0.0
        self.stopped_by: EndpointError | None = None
        self.let = asyncio.Event()
        self.let.set()
        self._fail = fail

    def stop(self, error: EndpointError) -> None:
        self.stopped_by = error

    async def chat(self, messages: tuple[Message, ...], **wanted: Any) -> Reply:
        self.num_asked += 1
        number = self.num_asked
        if (error := self._fail(number)) is not None:
            raise error
        await self.let.wait()
        self.num_answered += 1
        return Reply(text="\\boxed{7}", finish_reason="stop", num_prompt_tokens=5, num_completion_tokens=2)


class Verifier:
    def __init__(self, correct: bool = True) -> None:
        self._correct = correct

    async def verify(self, text: str, label: Label) -> Verdict:
        return Verdict(kind="scored", score=float(self._correct), correct=self._correct, answer="7")


class StubJudge:
    """Says that nothing is right, or fails."""

    name = "judge"

    def __init__(self, error: EndpointError | None = None) -> None:
        self._error = error
        self.num_asked = 0

    async def verify(self, problem: Problem, text: str, label: Label) -> Verdict:
        self.num_asked += 1
        if self._error is not None:
            raise self._error
        return Verdict(kind="scored", correct=False)


TASKS = [
    Task(
        problem=Problem(id=f"p{n}", text=f"What is {n} + {n}?", split="heldout"),
        label=Label(problem_id=f"p{n}", answer="7"),
    )
    for n in range(NUM)
]
ASKED = BenchmarkTasks("sums", TASKS, 16, "math")
QUOTA = FinalEndpointError("quota", "the quota is used up")


class Evaluation:
    """`eval` in a folder, as often as it is called."""

    def __init__(self, folder: Path, *modes: Mode, asked: BenchmarkTasks = ASKED) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = EvalFolder(folder)
        self.config = Config()
        self.asked = asked
        self.cells = [planned(self.config, asked, mode) for mode in modes or ("zero-shot",)]
        self.known: dict[str, Scored] = {}
        self.run: EvalRun

    async def __call__(
        self,
        endpoints: Endpoints,
        verifier: Verifier | None = None,
        judge: StubJudge | None = None,
        own_judge: StubJudge | None = None,
        **options: Any,
    ) -> int:
        """Requests that were made."""
        before = endpoints.num_asked
        self.known = {answer.key: scored(answer, Prices()) for answer in self.folder.answers()}
        async with ReplyCache(self.folder.replies_file) as replies:
            scoring = Scoring({"math": verifier or Verifier()}, judge, own_judge)  # type: ignore[dict-item, arg-type]
            self.run = EvalRun(self.config, self.folder, endpoints, replies, self.known, scoring, **options)  # type: ignore[arg-type]
            try:
                await self.run.run([(self.asked, self.cells)])
            finally:
                self.stored = {answer.key: answer for answer in self.folder.answers()}
        return endpoints.num_asked - before


async def test_what_is_known_is_not_asked_again(tmp_path: Path) -> None:
    evaluation, endpoints = Evaluation(tmp_path), Endpoints()
    assert await evaluation(endpoints) == NUM
    assert len(evaluation.known) == len(evaluation.stored) == NUM
    assert await evaluation(endpoints) == 0
    assert evaluation.run.num_verdicts == 0


async def test_a_folder_without_its_answers_needs_no_request(tmp_path: Path) -> None:
    """The replies are kept by what was asked: of another version of lanpo too."""
    evaluation, endpoints = Evaluation(tmp_path), Endpoints()
    await evaluation(endpoints)
    evaluation.folder.answers_file.unlink()
    assert await evaluation(endpoints) == 0
    assert len(evaluation.stored) == NUM


async def test_a_failure_is_written_down_and_asked_for_again(tmp_path: Path) -> None:
    late = RetryableEndpointError("timeout", "no answer in 600 s")
    evaluation, endpoints = Evaluation(tmp_path), Endpoints(lambda number: late if number == 3 else None)
    await evaluation(endpoints)
    assert list(evaluation.folder.failures().values()) == ["timeout"]
    assert len(evaluation.known) == NUM - 1
    assert evaluation.run.first_failure.startswith("timeout: no answer in 600 s. What to do: ")
    assert await evaluation(endpoints) == 1
    assert len(evaluation.known) == NUM


async def test_a_failure_that_all_would_meet_lets_what_is_in_flight_end(tmp_path: Path) -> None:
    """Two are in flight beside the one that is told that there is no credit: both are paid for, and kept."""
    quota = FinalEndpointError("quota", "the quota is used up")
    evaluation, endpoints = Evaluation(tmp_path), Endpoints(lambda number: quota if number >= 3 else None)
    with pytest.raises(FinalEndpointError, match="used up"):
        await evaluation(endpoints)
    assert endpoints.num_answered == len(evaluation.stored) == 2
    assert endpoints.num_asked <= 4
    assert await evaluation(Endpoints()) == NUM - 2


async def test_a_judge_that_comes_later_judges_what_is_kept(tmp_path: Path) -> None:
    evaluation, endpoints = Evaluation(tmp_path), Endpoints()
    await evaluation(endpoints)
    assert await evaluation(endpoints, judge=StubJudge()) == 0
    assert {(found.correct, found.judged, found.judge) for found in evaluation.known.values()} == {
        (True, False, "judge")
    }
    assert await evaluation(endpoints, judge=StubJudge()) == 0
    assert evaluation.run.num_verdicts == 0
    assert len(list(evaluation.folder.answers())) == NUM


async def test_a_judge_that_fails_beside_a_verifier_is_asked_again_and_told(tmp_path: Path) -> None:
    evaluation, endpoints = Evaluation(tmp_path), Endpoints()
    assert await evaluation(endpoints, judge=StubJudge(QUOTA)) == NUM
    assert evaluation.run.failures == {"judge: quota": NUM}
    assert [(found.correct, found.judge) for found in evaluation.known.values()] == [(True, "")] * NUM
    assert await evaluation(endpoints, judge=(judge := StubJudge())) == 0
    assert judge.num_asked == NUM
    assert {found.judge for found in evaluation.known.values()} == {"judge"}


async def test_a_judge_that_decides_and_fails_leaves_no_wrong_answer(tmp_path: Path) -> None:
    """Its quota is used up: what was answered is kept, nothing is scored, and the next command judges it."""
    evaluation, endpoints = Evaluation(tmp_path, asked=ASKED._replace(scorer="judge")), Endpoints()
    with pytest.raises(FinalEndpointError, match="used up"):
        await evaluation(endpoints, judge=StubJudge(QUOTA))
    assert evaluation.known == {}
    assert endpoints.num_asked + await evaluation(Endpoints(), judge=StubJudge()) == NUM
    assert len(evaluation.known) == NUM


async def test_a_runs_own_problems_are_judged_as_they_were_in_training(tmp_path: Path) -> None:
    """By its rubric, where a judge decides alone; all else by the gold answer."""
    by_gold, own = StubJudge(), StubJudge()
    for name, scorer, is_heldout, num_own in (
        ("a", "judge", True, NUM),
        ("b", "judge", False, 0),
        ("c", "math", True, 0),
    ):
        before = own.num_asked, by_gold.num_asked
        asked = ASKED._replace(scorer=scorer, is_heldout=is_heldout)
        evaluation = Evaluation(tmp_path / name, asked=asked)
        await evaluation(Endpoints(), judge=by_gold, own_judge=own)
        assert (own.num_asked - before[0], by_gold.num_asked - before[1]) == (num_own, NUM - num_own), name


async def test_a_judge_is_not_asked_about_programs(tmp_path: Path) -> None:
    """They have tests, and no gold answer that it could compare with."""
    tasks = [Task(problem=task.problem, label=Label(problem_id=task.problem.id, answer="")) for task in TASKS]
    evaluation, judge = Evaluation(tmp_path, asked=ASKED._replace(tasks=tasks)), StubJudge()
    assert await evaluation(Endpoints(), judge=judge) == NUM
    assert (len(evaluation.known), judge.num_asked) == (NUM, 0)
    assert await evaluation(Endpoints(), judge=judge) == 0


async def test_a_critique_begins_with_the_answer_that_is_known(tmp_path: Path) -> None:
    endpoints = Endpoints()
    assert await Evaluation(tmp_path)(endpoints) == NUM
    assert await Evaluation(tmp_path, "reflect")(endpoints) == NUM


async def test_no_more_is_paid_for_and_not_kept_than_is_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk is slow, replies that are here count as being in flight: a kill would lose them too."""
    endpoints, commit, disk = Endpoints(in_flight=2), ReplyCache._commit, threading.Event()

    def slow(self: ReplyCache, rows: Any) -> None:
        assert disk.wait(60)
        commit(self, rows)

    monkeypatch.setattr(ReplyCache, "_commit", slow)
    evaluation = asyncio.create_task(Evaluation(tmp_path)(endpoints))
    for _ in range(200):  # every worker has its turns
        await asyncio.sleep(0)
    assert endpoints.num_answered == 2
    disk.set()
    assert await evaluation == NUM


async def test_an_answer_that_waits_for_the_same_question_takes_no_place(tmp_path: Path) -> None:
    """A critique's first answer is the zero-shot one: both modes wait for one request, and the places are for
    requests."""
    endpoints = Endpoints(in_flight=2)
    endpoints.let.clear()
    evaluation = asyncio.create_task(Evaluation(tmp_path, "zero-shot", "reflect")(endpoints))
    for _ in range(200):
        await asyncio.sleep(0)
    assert endpoints.num_asked == 2
    endpoints.let.set()
    assert await evaluation == 2 * NUM
