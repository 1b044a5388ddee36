"""A language model as reward: in the loop with faults, across sessions, compared with labels at the start, and in a
run of its own from the command line."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config
from pipeline.errors import EndpointError, RewardError
from pipeline.preflight.judges import check_judges, judge_findings
from pipeline.rewards.extraction import extract_answer
from pipeline.rewards.judge.agreement import labelled_answers
from pipeline.rewards.judge.verifier import NO_VERDICT, JudgedVerifier, verifier_of
from pipeline.rewards.version import reward_version
from pipeline.run.folder import RunFolder
from pipeline.run.metrics_log import read_metrics
from pipeline.storage.journal import Journal
from tests.builders import task_with
from tests.integration.command_line import lanpo
from tests.integration.conftest import StartMock
from tests.integration.judge_child import NUM
from tests.integration.judging_endpoint import MODEL, Judging, settings_at
from tests.integration.wired_loop import Loop, make_loop
from tests.scripted_endpoint import serving
from tests.tiny_model import make_tiny_model

NUM_LABELLED = len(labelled_answers())
REQUESTS = {
    "backoff_s": 0.01,
    "max_backoff_s": 0.05,
    "max_attempts": 3,
    "probe_after_s": 0.05,
    "max_probe_after_s": 0.1,
}
Start = Callable[[Judging], Awaitable[str]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Serves a judging endpoint on loopback; returns its URL."""
    async with AsyncExitStack() as stack:
        yield lambda judging: stack.enter_async_context(serving(judging.application()))


def judged(url: str, **reward: Any) -> dict[str, Any]:
    return {"scorer": "judge", "judge": {"endpoint": settings_at(url)}, **reward}


def config(url: str, **reward: Any) -> Config:
    return Config.model_validate({"reward": judged(url, **reward), "requests": REQUESTS})


def check_rewards(loop: Loop, num_steps: int = 6) -> None:
    """Every reward is what an honest judge says."""
    gold = {task.problem.id: task.label.answer for task in loop.problems.train}
    for group in loop.groups(num_steps):
        assert group.reward_version == reward_version(loop.config.reward)
        for rollout in group.rollouts:
            right = extract_answer(rollout.text) == gold[group.problem.id]
            assert (rollout.verdict.kind, rollout.reward) == ("scored", float(right)), rollout
            assert rollout.verdict.components == {"judge": float(right)}


async def test_a_run_is_paid_by_the_judge_once_for_each_answer(
    tmp_path: Path, start_mock: StartMock, start: Start
) -> None:
    judging = Judging()
    reward = judged(await start(judging))
    async with make_loop(tmp_path, start_mock, reward=reward, feedback={"ratio": 0.0}) as loop:
        await loop.bring_servers_to(99)
        await loop.scheduler().run(0)
        check_rewards(loop)
        rewards = {rollout.reward for group in loop.groups(6) for rollout in group.rollouts}
        assert rewards == {0.0, 1.0}
        assert max(judging.asked.values()) == 1, "the same answer to the same problem is asked about once"
        assert judging.asked.total() < 6 * 4 * 4
        # Another session of the same run: what is asked about again is known.
        before = judging.asked.total()
        tasks = {task.problem.id: task for task in loop.problems.train}
        groups = loop.groups(6)
    async with verifier_of(loop.config, loop.run.judgements_file) as verifier:
        for group in groups:
            verdicts = await verifier.verify_group([one.text for one in group.rollouts], tasks[group.problem.id])
            assert verdicts == [one.verdict for one in group.rollouts]
        assert (judging.asked.total(), verifier.num_cached) == (before, 6 * 4 * 4)


async def test_failures_of_a_judge_are_never_a_score(tmp_path: Path, start_mock: StartMock, start: Start) -> None:
    """One in three requests fails in one way or another; some answers never get a verdict. What is journalled is right
    all the same, and every step is whole."""
    judging = Judging()
    judging.faults = [503, "Well …", 500, '{"verdict": "maybe"}', "", 429, "correct", '{"verdict": "correct"'] * 8
    judging.broken = lambda response: response.rstrip(".}").endswith("3")
    reward = judged(await start(judging))
    sections: dict[str, Any] = {"requests": REQUESTS, "feedback": {"ratio": 0.0}}
    async with make_loop(tmp_path, start_mock, reward=reward, **sections) as loop:
        await loop.bring_servers_to(99)
        await loop.scheduler().run(0)
        check_rewards(loop)
        assert len(loop.groups(6)) == 24
        lost = [line for line in read_metrics(loop.run.metrics_file)[0] if line["event"] == "group_outcome"]
    assert judging.faults == []
    assert NO_VERDICT in {line["error_kind"] for line in lost}
    assert "the judge a-judge gave no verdict in 3 replies, the last of which is 'I would rather not say.'" in {
        line["detail"] for line in lost
    }


async def test_a_judge_that_is_away_is_waited_for(tmp_path: Path, start_mock: StartMock, start: Start) -> None:
    judging = Judging()
    reward = judged(await start(judging))
    sections: dict[str, Any] = {"requests": REQUESTS, "feedback": {"ratio": 0.0}}
    sections["rollout"] = {"max_failed_groups": 1, "max_group_attempts": 2}
    async with make_loop(tmp_path, start_mock, reward=reward, **sections) as loop:
        await loop.bring_servers_to(99)
        judging.down = True
        running = asyncio.ensure_future(loop.scheduler().run(0))
        async with asyncio.timeout(30):
            while not loop.verifier.all_unavailable:  # noqa: ASYNC110 - the breaker opens in another task
                await asyncio.sleep(0.01)
        assert not running.done() and loop.groups(6) == []
        judging.down = False
        async with asyncio.timeout(60):
            await running
        check_rewards(loop)


async def test_a_judge_that_never_says_anything_ends_the_run_with_the_reason(
    tmp_path: Path, start_mock: StartMock, start: Start
) -> None:
    judging = Judging()
    judging.broken = lambda response: True
    sections: dict[str, Any] = {"rollout": {"max_failed_groups": 3, "max_group_attempts": 1}}
    reward = judged(await start(judging))
    async with make_loop(tmp_path, start_mock, reward=reward, feedback={"ratio": 0.0}, **sections) as loop:
        await loop.bring_servers_to(99)
        with pytest.raises(ExceptionGroup) as caught:
            await loop.scheduler().run(0)
        assert caught.group_contains(EndpointError, match="3 problems in a row .* the judge a-judge gave no verdict")
        assert loop.groups(6) == []


async def test_judges_and_other_scorers_add_up(start: Start) -> None:
    judging = Judging()
    url = await start(judging)
    scorers = [
        {"scorer": "math"},
        {"scorer": "judge", "weight": 0.5, "name": "meaning"},
        {"scorer": "judge", "weight": -2.0, "name": "length", "rubric": "Is it long?"},
    ]
    task = task_with("7", "p")
    texts = ["It is \\boxed{7}.", "It is \\boxed{8}, I think, and so on.", "", "seven"]
    async with verifier_of(config(url, scorer="math", scorers=scorers, format_weight=0.25)) as verifier:
        assert isinstance(verifier, JudgedVerifier) and [*verifier.clients] == ["judge"]
        right, wrong, empty, word = await verifier.verify_group(texts, task)
    assert (right.components, right.correct) == ({"math": 1.0, "meaning": 1.0, "length": 0.1}, True)
    assert right.score == pytest.approx(1.0 + 0.5 - 0.2 + 0.25)
    assert wrong.components == {"math": 0.0, "meaning": 0.0, "length": 0.3} and not wrong.correct
    assert wrong.score == pytest.approx(-0.6 + 0.25)
    assert (empty.kind, empty.score) == ("no_answer", 0.0)
    assert (word.kind, word.answer) == ("no_answer", None)
    assert not any(text == "" for _, text in judging.asked)
    # By the judge first: what is correct is its reading.
    async with verifier_of(config(url, scorers=scorers[2:], threshold=0.3)) as verifier:
        assert [one.correct for one in await verifier.verify_group(texts[:2], task)] == [False, True]


async def test_a_judge_is_compared_with_labels_before_anything_starts(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "the-key")
    judging = Judging()
    url = await start(judging)
    sound = config(url, judge={"endpoint": settings_at(url, api_key_env="JUDGE_KEY")})
    lines, (spent,) = await asyncio.to_thread(check_judges, sound, {})
    assert [*lines.values()] == [
        f"judge judge: {MODEL} agrees with 100.0% [95.6%, 100.0%] of 84 labelled answers, kappa 1.00; 0 wrong ones "
        "called correct, 0 correct ones wrong, 0 without a verdict"
    ]
    assert judging.asked.total() == NUM_LABELLED and judging.keys == {"Bearer the-key"}
    assert spent["usage"]["judge"]["requests"] == NUM_LABELLED
    assert spent["stage_cost"]["judge"] == pytest.approx(NUM_LABELLED * 110e-6)
    assert (await asyncio.to_thread(check_judges, sound, lines)).lines == lines
    assert judging.asked.total() == NUM_LABELLED, "what is known is not paid for again"

    judging.decide = lambda reference, response: True
    with pytest.raises(RewardError, match=r"agrees with 50.0% .* 42 wrong ones called correct.*min_agreement = 0.8"):
        await asyncio.to_thread(check_judges, config(url), {})
    low = config(url, judge={"endpoint": settings_at(url), "min_agreement": 0.5})
    assert len((await asyncio.to_thread(check_judges, low, {})).lines) == 1

    judging.broken = lambda response: True
    (finding,) = await asyncio.to_thread(judge_findings, config(url))
    assert finding.state == "FAILED"
    assert "no verdict on any of 84 labelled answers" in finding.message
    (finding,) = await asyncio.to_thread(judge_findings, config("http://127.0.0.1:9"))
    assert finding.state == "FAILED" and "reward.judge.endpoint: endpoint http://127.0.0.1:9" in finding.message


async def test_a_rubric_is_compared_with_labels_of_ones_own_or_with_known_answers(tmp_path: Path, start: Start) -> None:
    judging = Judging()
    url = await start(judging)
    labels = tmp_path / "labels.jsonl"
    lines = [{"question": "Why?", "text": "x" * num, "correct": num > 60} for num in range(20, 100, 10)]
    labels.write_text("".join(json.dumps(line) + "\n" for line in lines))
    own = {"endpoint": settings_at(url), "rubric": "Is it long?", "labelled_file": str(labels)}
    (line,) = (await asyncio.to_thread(check_judges, config(url, judge=own, threshold=0.7), {})).lines.values()
    assert "agrees with 100.0%" in line and "of 8 labelled answers" in line and "labels.jsonl" in line
    labels.write_text('{"question": "Why?", "text": "x"}\n')
    (finding,) = await asyncio.to_thread(judge_findings, config(url, judge=own))
    assert "labels.jsonl, line 1: correct: field required" in finding.message.lower()
    write_labels = [{"question": "Why?", "text": "x", "correct": False, "scorer": "other"}, lines[0]]
    labels.write_text("".join(json.dumps(line) + "\n" for line in write_labels))
    (finding,) = await asyncio.to_thread(judge_findings, config(url, judge=own))
    assert "of 1 labelled answers" in finding.message
    (finding,) = await asyncio.to_thread(judge_findings, config(url, judge={**own, "rubric": ""}))
    assert "has no gold answer that a judge could compare with" in finding.message

    unlabelled = {"endpoint": settings_at(url), "rubric": "Is it long?"}
    (finding,) = await asyncio.to_thread(judge_findings, config(url, judge=unlabelled))
    assert finding.state == "ok" and "was not compared with labels" in finding.message
    assert finding.message.count("gold 0.") == 3 and "long 1" in finding.message
    judging.broken = lambda response: True
    (finding,) = await asyncio.to_thread(judge_findings, config(url, judge=unlabelled))
    assert finding.state == "FAILED" and "gave no verdict in 3 replies" in finding.message


async def test_a_run_from_the_command_line(
    tmp_path: Path, repository: Path, start_mock: StartMock, start: Start
) -> None:
    """doctor, a refusal, train, resume, eval: the judge is a stage of its own in logs and summary, and a resumed run
    pays for no comparison again."""
    judging = Judging()
    url = await start(judging)
    make_tiny_model(tmp_path / "model")
    rows = [{"question": f"What is {n} + {n % 7}?", "answer": str(n + n % 7)} for n in range(200)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "own.toml").write_text(
        f"""
model.path = "model"
run = {{ name = "own", root = "runs", seed = 3 }}
problems = {{ source = "jsonl", train_file = "sums.jsonl", num_heldout = 16 }}
eval = {{ num_problems = 16, every = 0 }}
abstraction.enabled = false
[reward]
scorers = [{{ scorer = "judge" }}, {{ scorer = "format", weight = 0.25 }}]
[reward.judge.endpoint]
url = "{url}"
model = "{MODEL}"
prompt_price = 1.0
completion_price = 2.0
[rollout]
group_size = 4
num_problems_per_step = 4
sampling = {{ max_tokens = 48 }}
[learner]
num_steps = 3
checkpoint_every = 1
cpu_threads = 1
logprob_gap_tolerance = 1e9
report_to = []
"""
    )
    mock = json.dumps([{"url": (await start_mock(accuracy=0.5)).url}])
    given = ("--config", "own.toml", "--endpoints", mock)
    judging.decide = lambda reference, response: False
    status, said = await lanpo(tmp_path, repository, "train", *given)
    assert status == 2 and "which is less than reward.judge.min_agreement = 0.8" in said, said[-3000:]
    assert "Traceback" not in said and not (tmp_path / "runs" / "own").exists()
    judging.decide = None
    status, said = await lanpo(tmp_path, repository, "doctor", *given)
    assert status == 0 and "ok      judge judge: a-judge agrees with 100.0%" in said, said
    status, said = await lanpo(tmp_path, repository, "train", *given)
    assert status == 0, said[-4000:]
    assert said.count("judge judge: a-judge agrees with 100.0%") == 2, "at the start and in the summary"
    assert "  judge: " in said and " requests (0 failed attempts)" in said and ", judge " in said
    run = RunFolder.open(tmp_path / "runs" / "own")
    totals = json.loads(run.state_file.read_text())["totals"]
    num_judged = totals["usage"]["judge"]["requests"]
    assert totals["stage_cost"]["judge"] == pytest.approx(num_judged * (100 * 1.0 + 5 * 2.0) / 1e6)
    groups = [group for step in range(3) for group in Journal(run.store).read_step(step, run.lineages())]
    gold = {row["question"]: row["answer"] for row in rows}
    for group in groups:
        for rollout in group.rollouts:
            right = float(extract_answer(rollout.text) == gold[group.problem.query_text])
            assert rollout.verdict.components == {"judge": right, "format": float(rollout.verdict.answer is not None)}
    steps = [line for line in read_metrics(run.metrics_file)[0] if line["event"] == "step"]
    assert [line["answers_judged_total"] for line in steps[-1:]] >= [3 * 4 * 4] and steps[-1]["judge_s_total"] > 0
    before = judging.asked.total()
    status, said = await lanpo(tmp_path, repository, "train", "--resume", "runs/own", "--endpoints", mock)
    assert status == 0, said[-4000:]
    assert judging.asked.total() == before, "all is known"
    status, said = await lanpo(tmp_path, repository, "eval", "--run-folder", "runs/own", "--endpoints", mock)
    assert status == 0, said[-4000:]
    assert "a-judge, judge: agrees with 100.0%" in said
    before = judging.asked.total()
    status, said = await lanpo(
        tmp_path, repository, "eval", "--run-folder", "runs/own", "--endpoints", mock, "--rejudge"
    )
    assert status == 0, said[-4000:]
    assert "heldout, zero-shot: 16 verdicts were given anew" in said and "verdicts that differ 0." in said
    assert judging.asked.total() == before, "what the judge said is known"


async def test_a_killed_process_pays_again_for_what_was_in_flight_alone(
    tmp_path: Path, repository: Path, start: Start
) -> None:
    """Killed four times in the middle: in the end every answer has its verdict, and beyond one request each the judge
    was asked for no more than the processes had under way."""
    judging, num_at_once = Judging(), 8
    url = await start(judging)
    wanted = config(url, judge={"endpoint": settings_at(url, max_concurrency=num_at_once)})
    words = ("-m", "tests.integration.judge_child", str(tmp_path / "said.sqlite"), wanted.model_dump_json())
    num_done = 0
    for kill_after in (5, 20, 40, 60, NUM):
        process = await asyncio.create_subprocess_exec(
            sys.executable, *words, cwd=repository, env={**os.environ, "PYTHONPATH": str(repository)},
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        before = judging.asked.total()
        lines = [line async for line in process.stdout] if kill_after == NUM else []
        while kill_after != NUM and judging.asked.total() - before < kill_after:
            assert await process.stdout.readline(), "it ended by itself"
        if kill_after != NUM:
            process.kill()
        status = await process.wait()
        num_done = len(lines)
    assert (status, num_done) == (0, NUM)
    assert len(judging.asked) == NUM
    assert judging.asked.total() - NUM <= 4 * num_at_once
