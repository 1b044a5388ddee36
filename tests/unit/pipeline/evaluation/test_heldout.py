"""The evaluation within a run: what had no answer is asked again, and is no wrong answer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline.config import Config
from pipeline.errors import EndpointError, FinalEndpointError, RetryableEndpointError
from pipeline.evaluation.heldout import NUM_ROUNDS, evaluate, read_answers
from pipeline.inference.protocol import Reply
from pipeline.inference.usage import Prices, Usage
from pipeline.run.state import of_problems
from pipeline.statistics import wilson_interval
from pipeline.types import Label, Message, Problem, Task, Verdict


class Endpoints:
    """Fails `failures[problem]` times with a problem, by `error`, and answers it then."""

    def __init__(self, failures: dict[str, int], error: type[EndpointError] = RetryableEndpointError) -> None:
        self.usage = Usage(Prices())
        self.failures = failures
        self.error = error
        self.num_asked = Counter[str]()

    async def chat(self, messages: tuple[Message, ...], *, affinity: str, **_: Any) -> Reply:
        self.num_asked[affinity] += 1
        if self.num_asked[affinity] <= self.failures.get(affinity, 0):
            raise self.error("timeout", f"no answer to {affinity}")
        self.usage.tallies["", "eval"].num_completion_tokens += 10
        return Reply(text="12" if affinity in ("p0", "p1", "p2") else "13", finish_reason="stop")


class Rules:
    """Twelve is right, and worth `reward`."""

    def __init__(self, reward: float = 1.0) -> None:
        self._reward = reward

    async def verify(self, text: str, label: Label) -> Verdict:
        right = text == "12"
        return Verdict(kind="scored", score=self._reward * right, correct=right, answer=text)


async def report_of(endpoints: Endpoints, tmp_path: Path, num_problems: int = 8, reward: float = 1.0) -> Any:
    problems = [Problem(id=f"p{number}", text=f"What is {number}?") for number in range(num_problems)]
    tasks = [Task(problem=problem, label=Label(problem_id=problem.id, answer="12")) for problem in problems]
    parts: tuple[Any, Any] = cast("Any", endpoints), cast("Any", Rules(reward))
    return await evaluate("base model", tasks, Config(), *parts, tmp_path / "answers.jsonl")


async def test_with_all_answers_nothing_is_said_of_others(tmp_path: Path) -> None:
    endpoints = Endpoints({})
    report = await report_of(endpoints, tmp_path)
    assert (report.accuracy, report.num_answered, report.unanswered) == (3 / 8, 8, {})
    assert "of 8 held-out problems, 100.0% parsable" in report.line() and "answered" not in report.line()
    assert set(endpoints.num_asked.values()) == {1}


async def test_graded_rewards_are_told_beside_the_accuracy(tmp_path: Path) -> None:
    graded = await report_of(Endpoints({}), tmp_path, reward=0.5)
    assert (graded.accuracy, graded.mean_reward) == (3 / 8, 1.5 / 8)
    assert "mean reward 0.188, " in graded.line()
    assert "mean reward" not in (await report_of(Endpoints({}), tmp_path)).line()


@pytest.mark.parametrize("num_failures", range(1, NUM_ROUNDS))
async def test_what_had_no_answer_is_asked_again(tmp_path: Path, num_failures: int) -> None:
    endpoints = Endpoints({"p0": num_failures, "p5": 1})
    report = await report_of(endpoints, tmp_path)
    assert (report.accuracy, report.unanswered) == (3 / 8, {})
    assert endpoints.num_asked["p0"] == num_failures + 1 and endpoints.num_asked["p7"] == 1
    assert [answer.problem_id for answer in read_answers(tmp_path / "answers.jsonl")] == [f"p{n}" for n in range(8)]


async def test_what_never_had_one_is_counted_and_is_no_wrong_answer(tmp_path: Path) -> None:
    endpoints = Endpoints({"p1": 99, "p6": 99, "p7": 99})
    report = await report_of(endpoints, tmp_path)
    assert endpoints.num_asked["p1"] == NUM_ROUNDS
    assert (report.num_correct, report.num_answered, report.unanswered) == (2, 5, {"timeout": 3})
    assert report.accuracy == 2 / 5 and report.interval == wilson_interval(2, 5)
    assert report.mean_completion_tokens == 10 and report.share_parsable == 1.0
    assert report.outcomes == {"scored": 5}
    shown = "5 answered of 8 held-out problems (3 without an answer are not counted: timeout 3)"
    assert shown in report.line() and of_problems(report.model_dump()) == shown
    answers = {answer.problem_id: answer for answer in read_answers(tmp_path / "answers.jsonl")}
    assert answers["p1"].error == "timeout: no answer to p1" and not answers["p1"].verdict.correct


async def test_what_is_refused_for_good_is_not_asked_again(tmp_path: Path) -> None:
    endpoints = Endpoints({"p0": 99}, error=FinalEndpointError)
    report = await report_of(endpoints, tmp_path)
    assert endpoints.num_asked["p0"] == 1 and report.num_answered == 7


async def test_without_any_answer_there_is_no_accuracy(tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match="no problem could be answered; the first failure: timeout"):
        await report_of(Endpoints({f"p{number}": 99 for number in range(8)}), tmp_path)


def test_a_report_of_an_older_run_reads_as_it_did() -> None:
    assert of_problems({"num_problems": 256}) == "256 held-out problems"
