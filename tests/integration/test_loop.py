"""What the loop of the orchestrator samples, stores and refuses (`tests.integration.wired_loop`)."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline.config.loading import load_recipe
from pipeline.errors import EndpointError, ProcessEndedError
from pipeline.evaluation.heldout import evaluate, read_answers
from pipeline.loop.learner_link import LearnerLink, LearnerStatus
from pipeline.problems.dataset import ProblemSet
from pipeline.run.metrics_log import read_metrics
from pipeline.runtime.child_process import Child
from pipeline.types import Experience, RolloutGroup
from tests.builders import version
from tests.integration.conftest import StartMock
from tests.integration.wired_loop import SETTINGS, LiveChild, Loop, make_loop, write_status


async def test_with_s_0_step_t_is_sampled_by_the_weights_of_step_t(tmp_path: Path, start_mock: StartMock) -> None:
    async with make_loop(tmp_path, start_mock) as loop:

        async def learner() -> None:
            """Trains step t when its four groups are there."""
            for step in range(6):
                while len(loop.journal.read_step(step, loop.run.lineages())) < 4:  # noqa: ASYNC110 - as the learner looks
                    await asyncio.sleep(0.02)
                await loop.bring_servers_to(step + 1)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(learner())
            tasks.create_task(loop.scheduler().run(0))
        groups = loop.groups(6)
        assert len(groups) == 24
        assert all({version.step for version in group.versions} == {group.step} for group in groups)
        assert {(group.step, group.slot) for group in groups} == {
            (step, slot) for step in range(6) for slot in range(4)
        }


async def test_no_sample_begins_before_its_weights_are_fresh_enough(tmp_path: Path, start_mock: StartMock) -> None:
    async with make_loop(tmp_path, start_mock, rollout={**SETTINGS["rollout"], "max_staleness": 2}) as loop:
        reached: list[int] = []
        third = asyncio.Event()

        def note(step: int) -> None:
            reached.append(step)
            if step == 2:
                third.set()

        running = asyncio.create_task(loop.scheduler(note).run(0))
        await third.wait()
        await loop_has_sampled(loop, 2)
        assert reached == [0, 1, 2], "step 3 would lag by three updates"
        await loop.bring_servers_to(1)
        await loop_has_sampled(loop, 3)
        assert reached == [0, 1, 2, 3]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert all(group.step - group.versions[0].step <= 2 for group in loop.groups(4))


async def loop_has_sampled(loop: Loop, step: int) -> None:
    """Wait until the metrics have a line of `step`."""
    while True:
        lines, _ = read_metrics(loop.run.metrics_file)
        if any(line["event"] == "step" and line["step"] == step for line in lines):
            return
        await asyncio.sleep(0.02)


async def test_contexts_carry_lessons_and_attempts_and_every_share_is_counted(
    tmp_path: Path, start_mock: StartMock
) -> None:
    always = {"ratio": 1.0, "similarity_threshold": 0.5}
    async with make_loop(tmp_path, start_mock, feedback=always) as loop:
        await loop.bring_servers_to(99)
        scheduler = loop.scheduler()
        await scheduler.run(0)
        kinds = [group.context.kind for group in loop.groups(6)]
        drawn = [group.context.drawn for group in loop.groups(6)]
        assert "scratch" not in drawn
        assert kinds.count("intra") == drawn.count("intra") > 0
        assert kinds.count("inter") > 0
        assert scheduler.totals.carried["inter"] == kinds.count("inter")
        assert scheduler.totals.drawn["inter"] == drawn.count("inter")
        assert all(group.context.lesson_ids for group in loop.groups(6) if group.context.kind == "inter")
        assert scheduler.totals.num_accepted == loop.pool.num_entries() > 12
        assert scheduler.totals.num_accepted + sum(scheduler.totals.rejected.values()) == 24


async def test_the_recipe_with_a_judge_shows_the_lessons_that_it_grades_high(
    tmp_path: Path, start_mock: StartMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    feedback = load_recipe("relevance-judge").feedback.model_copy(update={"ratio": 1.0, "intra_share": 0.0})
    async with make_loop(tmp_path, start_mock, feedback=feedback.model_dump()) as loop:
        await loop.bring_servers_to(99)
        chat = loop.endpoints.chat

        async def judged(messages: Any, **request: Any) -> Any:
            """The mock grades nothing but 0: here every third candidate has a 9, every other third a 5."""
            reply = await chat(messages, **request)
            if request["stage"] != "judge":
                return reply
            grades = [9 - 4 * (number % 3) for number in range(len(json.loads(reply.text)["grades"]))]
            return reply.model_copy(update={"text": json.dumps({"grades": grades})})

        monkeypatch.setattr(loop.endpoints, "chat", judged)
        scheduler = loop.scheduler()
        await scheduler.run(0)
        found = [one for group in loop.groups(6) for one in group.context.considered]
    assert loop.endpoints.usage.total("requests", "judge") > 0
    assert {one.similarity for one in found} - {None} == {0.9, 0.5, 0.1}
    assert {one.similarity for one in found if one.outcome == "below_threshold"} == {0.5, 0.1}
    assert {one.similarity for one in found if one.outcome == "shown"} == {0.9}
    assert scheduler.totals.carried["inter"] > 0


async def test_attempts_are_sampled_as_rollouts_are_and_their_weights_are_checked(
    tmp_path: Path, start_mock: StartMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = {**SETTINGS["rollout"], "sampling": {"top_p": 0.9, "top_k": 40, "min_p": 0.05, "max_tokens": 24}}
    always = {"ratio": 1.0, "intra_share": 1.0}
    async with make_loop(tmp_path, start_mock, feedback=always, rollout=rollout) as loop:
        await loop.bring_servers_to(99)
        sent: list[tuple[Any, int, Any]] = []
        generate = loop.endpoints.generate

        def watched(prompt_ids: Any, sampling: Any, num_samples: int, **request: Any) -> Any:
            if request["stage"] == "reflect":
                sent.append((sampling, num_samples, request["accept"]))
            return generate(prompt_ids, sampling, num_samples, **request)

        monkeypatch.setattr(loop.endpoints, "generate", watched)
        await loop.scheduler().run(0)
        groups = loop.groups(6)
    assert sent
    assert all((sampling, num) == (loop.config.rollout.sampling, 1) for sampling, num, _ in sent)
    assert all(accept(version(99)) for *_, accept in sent)
    assert any(not accept(version(0)) for *_, accept in sent), "too old for a step but the first"
    assert {group.context.attempt.policy_step for group in groups if group.context.attempt} == {99}
    assert loop.endpoints.usage.total("requests", "reflect") == len(sent)


async def test_a_resumed_step_keeps_what_was_journalled_and_samples_only_the_rest(
    tmp_path: Path, start_mock: StartMock
) -> None:
    async with make_loop(tmp_path, start_mock, name="unbroken") as loop:
        await loop.bring_servers_to(99)
        await loop.scheduler().run(0)
        unbroken = loop.groups(6)
    async with make_loop(tmp_path, start_mock, name="broken") as loop:
        await loop.bring_servers_to(99)

        class GoneAtTwo(LearnerLink):
            async def wait_for_step(self, step: int, lineage: int) -> LearnerStatus:
                if step == 2:
                    await loop_has_sampled(loop, 1)
                    raise ProcessEndedError("the learner is gone")
                return await super().wait_for_step(step, lineage)

        with pytest.raises(ExceptionGroup):
            await loop.scheduler(link=GoneAtTwo(loop.run, cast("Child", LiveChild()))).run(0)
        before = loop.endpoints.usage.total("requests", "rollout")
        await loop.scheduler().run(1)
        assert loop.endpoints.usage.total("requests", "rollout") - before == 16, "step 1 was there already"
        resumed = loop.groups(6)

    def essence(groups: list[RolloutGroup]) -> list[dict[str, Any]]:
        return [group.model_dump(exclude={"created_s", "pool_version"}) for group in groups]

    assert essence(resumed) == essence(unbroken)


async def test_lessons_that_a_crash_cut_off_are_made_again_when_the_next_step_had_not_begun(
    tmp_path: Path, start_mock: StartMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The learner may have trained a step, and taken its checkpoint, before the lessons of that step are stored."""

    def stored(loop: Loop) -> list[tuple[str, str]]:
        return sorted((entry.id, entry.lesson.model_dump_json()) for entry in loop.pool.entries())

    async with make_loop(tmp_path, start_mock, name="unbroken") as loop:
        await loop.bring_servers_to(99)
        await loop.scheduler().run(0)
        unbroken = stored(loop)
    async with make_loop(tmp_path, start_mock, name="broken") as loop:
        await loop.bring_servers_to(99)
        add = loop.pool.add

        def killed_at_two(entries: list[Experience]) -> None:
            if any(entry.step == 2 for entry in entries):
                raise RuntimeError("killed")
            add(entries)

        with monkeypatch.context() as killed:
            killed.setattr(loop.pool, "add", killed_at_two)
            with pytest.raises(ExceptionGroup):
                await loop.scheduler().run(0)
        assert len(loop.journal.read_step(2, loop.run.lineages())) == 4
        assert loop.journal.read_step(3, loop.run.lineages()) == []
        asked = loop.endpoints.usage.total("requests", "abstract")

        class NeverReady(LearnerLink):
            async def wait_for_step(self, step: int, lineage: int) -> LearnerStatus:
                raise ProcessEndedError("the learner ended first")

        with pytest.raises(ExceptionGroup):
            await loop.scheduler(link=NeverReady(loop.run, cast("Child", LiveChild()))).run(3)
        assert loop.endpoints.usage.total("requests", "abstract") == asked, (
            "nothing before the servers have its weights"
        )
        await loop.scheduler().run(3)
        assert stored(loop) == unbroken
        num_per_step = loop.config.abstraction.num_per_step
        assert loop.endpoints.usage.total("requests", "abstract") - asked >= 4 * num_per_step, "steps 2 to 5"
        asked = loop.endpoints.usage.total("requests", "abstract")
        await loop.scheduler().run(6)
        assert loop.endpoints.usage.total("requests", "abstract") == asked, "what is there is not asked for again"
        assert stored(loop) == unbroken


async def test_a_group_that_keeps_failing_ends_the_run_with_its_name(tmp_path: Path, start_mock: StartMock) -> None:
    few = {**SETTINGS["rollout"], "max_group_attempts": 2, "max_failed_groups": 6}
    async with make_loop(tmp_path, start_mock, rollout=few, feedback={"ratio": 0.0}) as loop:
        from servers.mock.faults import GENERATE
        from tests.integration.test_endpoints import break_next

        await loop.bring_servers_to(99)
        await break_next(loop.endpoints, route=GENERATE, kind="status", code=400, count=999)
        with pytest.raises(ExceptionGroup) as caught:
            await loop.scheduler().run(0)
        assert caught.group_contains(EndpointError, match="6 problems in a row could not be sampled, 2 attempts each")
        lines, _ = read_metrics(loop.run.metrics_file)
        assert any(line["event"] == "group_outcome" and line["error_kind"] == "http_400" for line in lines)


async def test_a_learner_that_failed_ends_the_wait_with_its_reason(tmp_path: Path, start_mock: StartMock) -> None:
    async with make_loop(tmp_path, start_mock) as loop:
        write_status(loop.run, 0, state="failed", error="gradient is not finite")
        with pytest.raises(ExceptionGroup) as caught:
            await loop.scheduler().run(0)
        assert caught.group_contains(ProcessEndedError, match="the learner failed: gradient is not finite")


async def test_an_evaluation_answers_every_problem_and_writes_each_answer(
    tmp_path: Path, start_mock: StartMock
) -> None:
    async with make_loop(tmp_path, start_mock) as loop:
        out = tmp_path / "answers.jsonl"
        report = await evaluate("now", loop.problems.heldout, loop.config, loop.endpoints, loop.verifier, out)
        again = await evaluate("again", loop.problems.heldout, loop.config, loop.endpoints, loop.verifier, out)
    answers = read_answers(out)
    assert report.num_problems == len(answers) == 16
    assert report.num_correct == again.num_correct == sum(answer.verdict.correct for answer in answers)
    assert 0 < report.num_correct < 16
    low, high = report.interval
    assert low < report.accuracy < high


async def test_a_slow_machine_is_no_wrong_answer(tmp_path: Path, start_mock: StartMock) -> None:
    """Every answer takes six times as long as an attempt may: the time limit grows until answers come."""
    quick = {"attempt_timeout_s": 0.05, "timeout_s": 0.1, "backoff_s": 0.001, "breaker_failures": 10_000}
    sections: dict[str, Any] = {"requests": quick, "problems": {"num_heldout": 8}, "eval": {"num_problems": 8}}
    async with make_loop(tmp_path, start_mock, **sections) as loop:
        (endpoint,) = loop.endpoints.endpoints
        slow: Any = [{"route": "/v1/chat/completions", "kind": "slow", "delay_s": 0.3, "count": 10_000}]
        await loop.endpoints.post(endpoint, "/_mock/faults", slow, 10.0)
        report = await evaluate(
            "now", loop.problems.heldout, loop.config, loop.endpoints, loop.verifier, tmp_path / "answers.jsonl"
        )
    assert (report.num_answered, report.unanswered) == (8, {})
    assert loop.endpoints.usage.total("failed_timeout", "eval") >= 8, "the configured limit was too short for them all"


OUTCOMES = ("its answer is right", "its answer is wrong", "A right attempt:", "A wrong attempt:")


@pytest.mark.parametrize(
    ("outcomes", "rescue", "num_steps", "num_problems", "num_train", "least"),
    [
        ("hidden", "off", 6, 4, 40, 48),
        ("shown", "off", 6, 4, 40, 48),
        ("contrast", "off", 6, 4, 40, 48),
        ("hidden", "reflect", 6, 4, 40, 48),
        ("hidden", "lesson", 6, 4, 40, 48),
        pytest.param("hidden", "off", 500, 100, 4000, 50_000, marks=pytest.mark.slow),
        pytest.param("contrast", "reflect", 500, 100, 4000, 50_000, marks=pytest.mark.slow),
    ],
    ids=["small", "shown-small", "contrast-small", "reflect-small", "lesson-small", "full", "contrast-full"],
)
async def test_no_label_reaches_a_prompt(
    tmp_path: Path,
    start_mock: StartMock,
    outcomes: str,
    rescue: str,
    num_steps: int,
    num_problems: int,
    num_train: int,
    least: int,
) -> None:
    """Gold answers are replaced by canaries; whatever is sent to be sampled from is searched for them. What of right
    and wrong a summarizer is told is in no prompt of the policy, and that an attempt is wrong in those of rescues
    alone: here no answer is right, so every scratch group has one."""
    sections: dict[str, Any] = {
        "abstraction": {"outcomes": outcomes},
        "problems": {"num_train": num_train},
        "feedback": {"ratio": 0.9, "similarity_threshold": 0.5, "rescue": rescue},
        "rollout": {**SETTINGS["rollout"], "num_problems_per_step": num_problems, "max_staleness": 1},
        "learner": {"num_steps": num_steps},
    }
    async with make_loop(tmp_path, start_mock, **sections) as loop:
        loop.problems = ProblemSet(
            train=[
                task.model_copy(update={"label": task.label.model_copy(update={"answer": f"CANARY{i}", "entry": {}})})
                for i, task in enumerate(loop.problems.train)
            ],
            heldout=loop.problems.heldout,
        )
        num_sent, num_with_outcome, leaking = 0, 0, []
        are_rescues: set[bool] = set()
        request = loop.endpoints.transport.request

        async def searching(method: str, url: Any, headers: Any, body: Any = None) -> Any:
            nonlocal num_sent, num_with_outcome
            sent = json.dumps(body)
            num_sent += 1
            if "CANARY" in sent:
                leaking.append(sent)
            if "An earlier attempt, which" in sent:
                are_rescues.add("which is wrong" in sent)
                assert ("which is wrong" in sent) != ("which may be right or wrong" in sent)
            if any(outcome in sent for outcome in OUTCOMES):
                num_with_outcome += 1
                # Only of a lesson is JSON asked.
                if "flow_of_thought" not in sent:
                    leaking.append(sent)
            return await request(method, url, headers, body)

        loop.endpoints.transport.request = searching  # type: ignore[method-assign]
        await loop.bring_servers_to(999)
        await loop.scheduler().run(0)
        kinds = Counter(group.context.kind for group in loop.groups(min(num_steps, 20)))
    assert num_sent > least
    assert set(kinds) == {"scratch", "inter", "intra"}
    assert not leaking
    assert are_rescues == ({False, True} if rescue == "reflect" else {False})
    assert bool(loop.endpoints.usage.total("requests", "rescue")) == (rescue != "off")
    assert bool(num_with_outcome) == (outcomes != "hidden")
