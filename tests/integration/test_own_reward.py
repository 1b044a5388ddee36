"""Reward functions of users in their processes: what `doctor`, the start of `train` and a run say of broken ones, and
that the rewards of sound ones arrive as they are."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands.doctor import check_machine, doctor
from pipeline.config import Config
from pipeline.config.rollout import RewardSection
from pipeline.errors import RewardError
from pipeline.preflight import scorer
from pipeline.preflight.endpoints import Finding
from pipeline.preflight.scorer import scorer_findings
from pipeline.rewards.verifier import Verifier
from pipeline.rewards.version import reward_version
from pipeline.run.folder import RunFolder
from pipeline.run.metrics_log import read_metrics
from pipeline.storage.journal import Journal
from tests.builders import task_with
from tests.integration.command_line import lanpo
from tests.integration.conftest import StartMock
from tests.integration.wired_loop import make_loop
from tests.own_rewards import BROKEN, FATAL
from tests.tiny_model import make_tiny_model

NOISY = """
import os, sys
def f(response, answer):
    print('{"verdict": {"kind": "scored", "score": 99.0}}')
    print("x" * 200_000, flush=True)
    sys.stderr.write("y" * 1000)
    os.write(1, b"garbage\\n")
    return answer in response
"""
GRADED = '''
import json, pathlib

def reward(response, task):
    """Graded, negative, with words, and reported of columns: kept beside, to compare with the journal."""
    score = task["level"] - len(response) / 64 - 0.125
    FAULT
    with (pathlib.Path(__file__).parent / "said.jsonl").open("a") as file:
        file.write(json.dumps([task.id, response, score]) + "\\n")
    return score, f"{len(response)} characters"

def brevity(completions: list[str], level, **columns):
    return [-len(text) for text in completions]
'''


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with 200 problems of one's own, whose modules are found."""
    monkeypatch.syspath_prepend(str(tmp_path))
    lines = [{"question": f"What is {n} + {n % 7}?", "answer": str(n + n % 7), "level": n % 3} for n in range(200)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def config(folder: Path, **reward: Any) -> Config:
    problems = {"source": "jsonl", "train_file": str(folder / "sums.jsonl"), "num_heldout": 16}
    values = {"problems": problems, "reward": {"timeout_s": 1.0, **reward}, "sft": {"enabled": False}}
    return Config.model_validate({**values, "run": {"root": folder / "runs"}, "eval": {"num_problems": 16}})


@pytest.mark.parametrize("name", FATAL)
def test_a_scorer_that_ends_or_stalls_its_process_is_refused(name: str, rows: Path) -> None:
    source, words = FATAL[name]
    module = f"fatal_{list(FATAL).index(name)}"
    (rows / f"{module}.py").write_text(source)
    (finding,) = scorer_findings(config(rows, scorer=f"{module}:f"))
    assert finding.state == "FAILED"
    assert words.replace("FATAL", module) in finding.message


def test_what_a_scorer_prints_reaches_nobody(rows: Path) -> None:
    (rows / "noisy_reward.py").write_text(NOISY)
    (finding,) = scorer_findings(config(rows, scorer="noisy_reward:f"))
    assert finding.state == "ok", finding.message
    assert "gold 1, wrong 0, empty 0, long 0, unformatted 1" in finding.message


def test_doctor_and_the_start_tell_what_it_returned(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (rows / "sound_reward.py").write_text("def f(response, answer): return float(answer in response) - 0.5")
    (line,) = check_machine(config(rows, scorer="sound_reward:f", threshold=0.5))
    assert "scorer sound_reward:f: called on 3 problems" in line
    assert line.count("gold 0.5, wrong -0.5, empty -0.5, long -0.5, unformatted 0.5") == 3
    (rows / "broken_reward.py").write_text(BROKEN["raises, with its line"][0].replace("own_reward", "broken_reward"))
    broken = config(rows, scorer="broken_reward:f")
    assert doctor(broken) == 2
    reported = capsys.readouterr().out
    assert "FAILED  scorer broken_reward:f: no reward for the gold answer to sums-" in reported
    assert "ZeroDivisionError: division by zero (broken_reward.py, line 3, in f)" in reported
    with pytest.raises(RewardError, match=r"reward\.scorer broken_reward:f: no reward .* line 3, in f"):
        check_machine(broken)
    (line,) = check_machine(config(rows, scorer="broken_reward:f", probe=False))
    assert "reward.probe is off" in line


def test_doctor_prints_each_finding_as_it_comes(
    rows: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (rows / "slow_reward.py").write_text(
        "import asyncio, pathlib\nnum = most = 0\n"
        "async def f(response, answer):\n"
        "    global num, most\n    num += 1\n    most = max(num, most)\n    await asyncio.sleep(0.3)\n    num -= 1\n"
        "    (pathlib.Path(__file__).parent / 'most').write_text(str(most))\n"
        "    return float(answer in response)"
    )
    before: list[str] = []
    found = scorer_findings
    monkeypatch.setattr(scorer, "TELL_EVERY_S", 0.1)

    def looked(config: Config) -> list[Finding]:
        before.append(capsys.readouterr().out)
        return found(config)

    monkeypatch.setattr("pipeline.commands.doctor.scorer_findings", looked)
    doctor(config(rows, scorer="slow_reward:f", timeout_s=20.0))
    assert before[0].count("\n") > 5, "what was found before is printed"
    assert "scorer: called on known answers, not done after 0.1 s; an answer may take reward.timeout_s = 20" in (
        capsys.readouterr().out
    )
    assert int((rows / "most").read_text()) == 14, "all answers but the very first at once"


async def test_train_ends_before_it_makes_anything(rows: Path, repository: Path) -> None:
    (rows / "flat_reward.py").write_text("def f(response, answer):\n    print('ready')\n    return 0.0")
    (rows / "own.toml").write_text(
        '[problems]\nsource = "jsonl"\ntrain_file = "sums.jsonl"\nnum_heldout = 16\n'
        '[reward]\nscorer = "flat_reward:f"\n'
        '[sft]\nenabled = false\n[eval]\nnum_problems = 16\n[run]\nname = "r"\nroot = "own-runs"\n'
    )
    status, said = await lanpo(rows, repository, "train", "--config", "own.toml")
    assert status == 2
    assert "it gave 0 to every answer, right, wrong, empty and long alike" in said
    assert "Traceback" not in said and not (rows / "own-runs" / "r").exists()


async def test_answers_of_an_async_scorer_are_judged_together(rows: Path) -> None:
    (rows / "slow_judge.py").write_text(
        "import asyncio\nasync def f(response, task):\n"
        "    await asyncio.sleep(60 if response == 'late' else 0.5)\n    return float(task.answer == response)"
    )
    settings = RewardSection(scorer="slow_judge:f", timeout_s=3.0, concurrency=64)
    tasks = [task_with(str(n), f"p{n}") for n in range(32)]
    async with Verifier(settings) as verifier:
        before_s = time.monotonic()
        verdicts = await asyncio.gather(*(verifier.verify_group([str(n), "no"], task) for n, task in enumerate(tasks)))
        assert time.monotonic() - before_s < 16, "one after the other they take 32 s"
        assert all((right.score, wrong.score) == (1.0, 0.0) for right, wrong in verdicts)
        late, right = await verifier.verify_group(["late", "5"], tasks[5])
    assert (late.kind, right.kind, right.score) == ("timeout", "scored", 1.0)


async def test_a_step_without_any_reward_ends_the_run_and_a_mended_scorer_goes_on(
    rows: Path, start_mock: StartMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    (rows / "dies_later.py").write_text(
        "import pathlib\ndef f(response, answer):\n"
        "    if (pathlib.Path(__file__).parent / 'broken').exists():\n        raise KeyError('the cache is gone')\n"
        "    return len(response) / 100 + (answer in response)"
    )
    (rows / "broken").touch()
    reward = {"scorer": "dies_later:f"}
    async with make_loop(rows, start_mock, reward=reward, feedback={"ratio": 0.0}) as loop:
        await loop.bring_servers_to(99)
        with pytest.raises(ExceptionGroup) as caught:
            await loop.scheduler().run(0)
        assert caught.group_contains(
            RewardError,
            match=r"step 0: no answer of 16 got a reward from dies_later:f: KeyError: .the cache is gone. "
            r"\(dies_later.py, line 4, in f\)",
        )
        (rows / "broken").unlink()
        await loop.scheduler().run(0)
        assert len(loop.groups(6)) == 24, "what was journalled without rewards ends nothing again"
        assert {group.reward_version for group in loop.groups(6)} == {reward_version(loop.config.reward)}


@pytest.mark.parametrize(
    ("source", "reward", "words"),
    [
        ("def f(response, answer): return 1e30 * (1 + len(response))", {}, r"returned [\d.]+e\+31, which is beyond"),
        (
            "def f(response, answer): return 9e5 + len(response)",
            {"scorers": [{"scorer": "MODULE:f", "weight": 2.0}]},
            r"the reward is 1\.8\d*e\+06, which is beyond ±1,000,000: .*; scale it",
        ),
    ],
)
async def test_rewards_that_no_statistics_hold_end_the_run_with_their_bound(
    source: str, reward: dict[str, Any], words: str, rows: Path, start_mock: StartMock
) -> None:
    module = f"large_{len(words)}"
    (rows / f"{module}.py").write_text(source)
    given = json.loads(json.dumps({"scorer": f"{module}:f", **reward}).replace("MODULE", module))
    async with make_loop(rows, start_mock, reward=given, feedback={"ratio": 0.0}) as loop:
        await loop.bring_servers_to(99)
        with pytest.raises(ExceptionGroup) as caught:
            await loop.scheduler().run(0)
    assert caught.group_contains(RewardError, match=rf"step 0: no answer of 16 got a reward from .*{words}")


async def test_steps_that_teach_nothing_are_an_alert_with_causes(rows: Path, start_mock: StartMock) -> None:
    (rows / "of_the_problem.py").write_text("def f(response, task): return float(len(task.prompt))")
    reward = {"scorer": "of_the_problem:f", "flat_steps": 2}
    async with make_loop(rows, start_mock, reward=reward, feedback={"ratio": 0.0}) as loop:
        await loop.bring_servers_to(99)
        await loop.scheduler().run(0)
        (alert,) = loop.alerts
    assert "nothing was learned from rewards for 2 steps, up to step 1: in every group all rewards are equal" in alert
    assert "the scorer looks at the problem alone" in alert


async def test_own_problems_own_graded_reward_own_model(rows: Path, repository: Path, start_mock: StartMock) -> None:
    """The path of a stranger: doctor, train, resume, eval; what the journal holds is what the scorer said."""
    make_tiny_model(rows / "model")
    fault = "if 'The answer is' in response and 'I work' not in response: raise OSError('the quota is spent')"
    (rows / "graded_reward.py").write_text(GRADED.replace("FAULT", fault))
    mock = json.dumps([{"url": (await start_mock(accuracy=0.5)).url}])
    (rows / "own.toml").write_text(
        """
model.path = "model"
run = { name = "own", root = "runs", seed = 3 }
problems = { source = "jsonl", train_file = "sums.jsonl", num_heldout = 16 }
eval = { num_problems = 16, every = 0 }
abstraction.enabled = false
[reward]
threshold = 0.0
scorers = [{ scorer = "graded_reward:reward" }, { scorer = "graded_reward:brevity", weight = 0.25 }]
[rollout]
group_size = 4
num_problems_per_step = 4
sampling = { max_tokens = 48 }
[learner]
num_steps = 6
checkpoint_every = 1
cpu_threads = 1
logprob_gap_tolerance = 1e9
report_to = []
"""
    )
    status, said = await lanpo(rows, repository, "doctor", "--config", "own.toml", "--endpoints", mock)
    assert status == 0, said
    assert "scorer graded_reward:reward, graded_reward:brevity: called on 3 problems" in said
    status, said = await lanpo(rows, repository, "train", "--config", "own.toml", "--endpoints", mock)
    assert status == 2, said[-4000:]
    assert (
        "error: the evaluation (base model): no answer of 16 got a reward from graded_reward:reward, "
        "graded_reward:brevity: reward: OSError: the quota is spent (graded_reward.py, line 7, in reward); mend it"
    ) in said
    assert "Traceback" not in said
    (rows / "said.jsonl").unlink()
    (rows / "graded_reward.py").write_text(GRADED.replace("FAULT", ""))
    status, said = await lanpo(rows, repository, "train", "--resume", "runs/own", "--endpoints", mock)
    assert status == 0, said[-4000:]
    assert "mean reward" in said and "| scores reward" in said
    assert "rewards are of version" in said

    run = RunFolder.open(rows / "runs" / "own")
    groups = [group for step in range(6) for group in Journal(run.store).read_step(step, run.lineages())]
    assert len(groups) == 24
    lines = (json.loads(line) for line in (rows / "said.jsonl").read_text().splitlines())
    reported = {(identity, text): score for identity, text, score in lines}
    for group in groups:
        assert group.reward_version == reward_version(run.config().reward)
        for rollout in group.rollouts:
            own, length = reported[group.problem.id, rollout.text], len(rollout.text)
            assert rollout.verdict.components == {"reward": own, "brevity": -length}
            assert rollout.reward == rollout.verdict.score == own - 0.25 * length
            assert rollout.verdict.text == f"{length} characters"
            assert rollout.verdict.correct == (own >= 0)
    assert "sft" not in json.loads(run.state_file.read_text()), "rows without solutions seed nothing"
    assert any(reward < 0 for group in groups for reward in group.rewards)
    steps = [line for line in read_metrics(run.metrics_file)[0] if line["event"] == "step"]
    assert [line["step"] for line in steps] == [0, 1, 2, 3, 4, 5]
    for line in steps:
        assert line["reward"] == pytest.approx(line["score_reward"] + 0.25 * line["score_brevity"])
    status, said = await lanpo(rows, repository, "eval", "--run-folder", "runs/own", "--endpoints", mock)
    assert status == 0, said[-4000:]
