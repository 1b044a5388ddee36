"""`probe` from the command line against an endpoint of scripted skills: what it says, keeps, pays for once, refuses."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path

import pytest

from pipeline.experience.pool import Pool
from pipeline.probe.report import ProbeReport
from pipeline.probe.skills import OWN, OWN_FREE, Answer
from tests.builders import experience, run_with_lessons
from tests.integration.command_line import Command
from tests.integration.conftest import StartMock
from tests.integration.test_eval_command import num_asked
from tests.scripted_endpoint import serving
from tests.skilled_policy import SkilledPolicy, Skills


async def probed(cwd: Path, repository: Path, *words: str) -> tuple[int, str, str]:
    async with asyncio.timeout(60):
        return await Command(cwd, repository, "probe", *words).run()


def report_in(folder: Path) -> ProbeReport:
    return ProbeReport.model_validate_json((folder / "probe.json").read_text())


def answers_in(folder: Path) -> list[Answer]:
    return [Answer.model_validate_json(line) for line in (folder / "answers.jsonl").read_text().splitlines()]


async def test_the_page_names_the_skill_that_is_missing(tmp_path: Path, repository: Path) -> None:
    async with serving(SkilledPolicy(Skills(critique="uphold")).application()) as url:
        status, out, err = await probed(tmp_path, repository, "--endpoint", url, "--n", "110", "--out", "p")
    assert status == 0, err
    assert "It can follow, ignore and summarise. It can inspect in part. SFT is needed for inspect" in out
    assert "| follow | operators | yes | both of two contradicting lessons followed: 100%" in out
    assert "| right | 110 | 0 |\n| wrong | 0 | 110 |\n| cut | 110 | 0 |" in out
    assert (tmp_path / "p" / "probe.md").read_text() in out
    found, answers = report_in(tmp_path / "p"), answers_in(tmp_path / "p")
    assert found.needs_sft == ("inspect",)
    assert {answer.skill for answer in answers} == set(found.verdicts)
    assert all(answer.turn.messages[0].role == "user" for answer in answers), "no system message of ours"
    assert {answer.condition for answer in answers if answer.skill == "follow"} == {
        "no lesson", "lesson", "contradicting lesson", "irrelevant lesson", "content-free"
    }  # fmt: skip


async def test_a_probe_given_again_pays_for_what_is_new_alone(tmp_path: Path, repository: Path) -> None:
    policy, asked = SkilledPolicy(), [0]
    async with serving(policy.application()) as url:
        for more in (("--n", "4"), ("--n", "4"), ("--n", "6"), ("--n", "6", "--problems", "operators")):
            status, _, err = await probed(tmp_path, repository, "--endpoint", url, "--out", "p", *more)
            assert status == 0, err
            asked.append(policy.num_asked)
    assert asked[1] == asked[2] > 0
    assert asked[3] - asked[2] < asked[1]
    assert asked[4] == asked[3]
    assert set(report_in(tmp_path / "p").verdicts) == {"follow", "summarise"}


async def test_a_probe_that_is_stopped_keeps_its_replies(tmp_path: Path, repository: Path) -> None:
    policy = SkilledPolicy()
    async with serving(policy.application()) as url:
        words = ("--endpoint", url, "--n", "300", "--out", "p", "--concurrency", "2")
        process = await Command(tmp_path, repository, "probe", *words).start()
        async with asyncio.timeout(30):
            await policy.asked_of(50)
        process.send_signal(signal.SIGINT)
        out, _ = await process.communicate()
        assert process.returncode == 130
        assert b"the same command goes on there" in out
        before = policy.num_asked
        status, out_text, err = await probed(tmp_path, repository, *words[:2], "--n", "4", "--out", "p")
        assert status == 0, err
    assert report_in(tmp_path / "p").num_known > 0
    assert before > 50 or "requests" in out_text


async def test_problems_of_the_user_are_ignored_and_inspected_on(
    tmp_path: Path, repository: Path, start_mock: StartMock
) -> None:
    rows = [{"question": f"What is {n} + 3?", "answer": str(n + 3)} for n in range(20)]
    (tmp_path / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    url = (await start_mock(accuracy=1.0)).url
    status, _, err = await probed(tmp_path, repository, "--endpoint", url, "--problems", "sums.jsonl", "--out", "p")
    assert status == 0, err
    found = report_in(tmp_path / "p")
    assert {(one.skill, one.ground) for one in found.skills} == {("ignore", "sums"), ("inspect", "sums")}
    right = [rate.value for one in found.skills for rate in one.rates if rate.name == "right: no lesson"]
    assert right == [1.0]


async def test_lessons_of_a_pool_are_measured_beside_none_and_beside_text_without_content(
    tmp_path: Path, repository: Path, start_mock: StartMock
) -> None:
    rows = [{"question": f"What is {n} + 3?", "answer": str(n + 3)} for n in range(10, 22)]
    (tmp_path / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run = run_with_lessons(tmp_path, *(f"What is {n} + 4?" for n in range(10, 22)))
    version, policy, embedder = Pool(run.store).version, await start_mock(accuracy=1.0), await start_mock()
    words = ("--endpoint", policy.url, "--problems", "sums.jsonl", "--pool", str(run.path), "--out", "p")
    status, out, err = await probed(tmp_path, repository, *words)
    assert status == 0, err
    assert "| ignore | sums |" in out and "| lessons of the pool − no lesson | +0.0 points |" in out
    shown = {
        one.condition: one.turn.messages[-1].content for one in answers_in(tmp_path / "p") if one.skill == "ignore"
    }
    assert re.search(r"Lesson 1 \(from: What is \d+ \+ 4\?\)", shown[OWN])
    assert re.search(r"idea \d+", shown[OWN]) and not re.search(r"idea \d+", shown[OWN_FREE])
    assert Pool(run.store).version == version, "it is only read"
    asked = await num_asked(policy)
    status, _, err = await probed(tmp_path, repository, *words)
    assert status == 0, err
    assert await num_asked(policy) == asked
    # Who measures how relevant they are is not the model that is probed.
    named = f'{{"url": "{embedder.url}", "model": "policy"}}'
    measured = ("--feedback.similarity", "embedding", "--feedback.similarity_endpoint", named)
    status, _, err = await probed(tmp_path, repository, *words, *measured)
    assert status == 0, err
    assert [await num_asked(one, "/v1/embeddings") > 0 for one in (policy, embedder)] == [False, True]
    Pool(run.store).add([experience(99, "p99", "What is 3 + 10?")])
    status, _, err = await probed(tmp_path, repository, *words[:-1], "other")
    assert status == 2
    assert "lessons of problems that are to be evaluated: sums-0000 (entry x99, of a near-duplicate)" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--n", "0"), "--n 0: give the number of problems"),
        (("--pool", "runs/r"), "--pool runs/r is for problems of yours"),
        (("--problems", "no_such"), "no_such"),
    ],
)
async def test_what_cannot_be_measured_is_refused_by_name(
    tmp_path: Path, repository: Path, start_mock: StartMock, words: tuple[str, ...], message: str
) -> None:
    url = (await start_mock()).url
    status, out, err = await probed(tmp_path, repository, "--endpoint", url, *words)
    assert status == 2
    assert message in out + err


async def test_the_folder_of_an_evaluation_is_no_probes(
    tmp_path: Path, repository: Path, start_mock: StartMock
) -> None:
    url = (await start_mock()).url
    words = ("--endpoint", url, "--benchmark", "heldout", "--limit", "2", "--out", "e")
    assert (await Command(tmp_path, repository, "eval", *words).run())[0] == 0
    before = (tmp_path / "e" / "answers.jsonl").read_bytes()
    status, out, err = await probed(tmp_path, repository, "--endpoint", url, "--n", "2", "--out", "e")
    assert status == 2 and "e" in out + err
    assert (tmp_path / "e" / "answers.jsonl").read_bytes() == before
