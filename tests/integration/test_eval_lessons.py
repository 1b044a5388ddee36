"""`eval --mode retrieval` against mock endpoints: which lessons are shown, kept and refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pipeline.config.loading import load_recipe
from pipeline.experience.pool import Pool
from pipeline.problems.benchmark_items import sampled
from pipeline.problems.dataset import load_problems
from pipeline.types import Task
from tests.builders import experience, run_with_lessons
from tests.integration.command_line import Command
from tests.integration.conftest import StartMock
from tests.integration.test_eval_command import HELDOUT, answers_in, num_asked


def asked_of_heldout(limit: int) -> list[Task]:
    """The quickstart's held-out problems that `--limit` chooses."""
    config = load_recipe("quickstart")
    return sampled(load_problems(config.problems, 0).heldout[: config.eval.num_problems], "heldout", limit, 0)


async def test_retrieval_shows_lessons_of_other_problems_and_keeps_their_trace(
    tmp_path: Path, repository: Path, start_mock: StartMock
) -> None:
    heldout = asked_of_heldout(4)
    twins = [task.problem.text.replace(" =", " + 1 =") for task in heldout]
    run = run_with_lessons(tmp_path, *twins)
    command = Command(
        tmp_path, repository, "eval", "--endpoint", (await start_mock()).url, *HELDOUT, "--limit", "4", "--out", "e"
    )
    status, out, err = await command.run("--mode", "zero-shot,retrieval", "--pool", str(run.path))
    assert status == 0, err
    shown = [answer for answer in answers_in(tmp_path / "e") if answer.mode == "retrieval"]
    assert all(answer.inferred.lesson_ids and answer.inferred.considered for answer in shown)
    assert all("Lesson 1 (from: " in answer.inferred.turns[0].messages[-1].content for answer in shown)
    assert "100% of the prompts held lessons" in out
    # The run goes on, and the evaluation keeps to the lessons that it began with.
    Pool(run.store).add([experience(99, "p99", twins[0])])
    begun = Counter(answer.key for answer in answers_in(tmp_path / "e"))
    status, out, err = await command.run("--mode", "zero-shot,retrieval", "--pool", str(run.path))
    assert status == 0, err
    assert "0 requests" in out
    assert Counter(answer.key for answer in answers_in(tmp_path / "e")) == begun


async def test_an_evaluated_problem_in_the_pool_is_refused_and_named(
    tmp_path: Path, repository: Path, start_mock: StartMock
) -> None:
    heldout = asked_of_heldout(4)
    run = run_with_lessons(tmp_path, "What is 1 + 1 =", heldout[2].problem.text.upper())
    endpoint = await start_mock()
    command = Command(tmp_path, repository, "eval", "--endpoint", endpoint.url, *HELDOUT, "--limit", "4", "--out", "e")
    asked = await num_asked(endpoint)
    status, _, err = await command.run("--mode", "retrieval", "--pool", str(run.path))
    assert status == 2
    assert f"lessons of problems that are to be evaluated: {heldout[2].problem.id} (entry x1)" in err
    assert await num_asked(endpoint) == asked
