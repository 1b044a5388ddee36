"""The verifier against real worker processes: hostile scorers are killed, the event loop never waits for one."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from pipeline.config import ProblemsSection, RewardSection
from pipeline.errors import ConfigError, ProcessEndedError
from pipeline.problems import load_problems
from pipeline.records import Label, Verdict
from pipeline.rewards import Verifier

HOSTILE = """
import os, sys

def score(text, answer):
    print("a scorer may print")
    if text == "hang":
        while True: pass
    if text == "exit":
        os._exit(0)
    if text == "sys.exit":
        sys.exit(3)
    if text == "memory":
        return float(len(bytearray(4 << 30)))
    if text == "raise":
        raise RuntimeError("as told")
    if text == "pid":
        return float(os.getpid())
    return 1.0 if text == answer else 0.0
"""
SEVEN = Label(problem_id="p", answer="7")


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RewardSection:
    (tmp_path / "hostile_reward.py").write_text(HOSTILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return RewardSection(scorer="hostile_reward:score", timeout_s=1.0)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_each_failure_is_its_own_outcome_and_the_next_answer_is_scored(hostile: RewardSection) -> None:
    async with Verifier(hostile) as verifier:
        for text, kind in {
            "hang": "timeout",
            "exit": "error",
            "sys.exit": "error",
            "memory": "error",
            "raise": "error",
        }.items():
            assert await verifier.verify(text, SEVEN) == Verdict(kind=kind), text
            assert (await verifier.verify("7", SEVEN)).correct
        pid = int((await verifier.verify("pid", SEVEN)).score)
        assert alive(pid)
    assert not alive(pid)


async def test_the_loop_runs_on_while_a_scorer_hangs(hostile: RewardSection) -> None:
    async with Verifier(hostile) as verifier:
        verdict = asyncio.create_task(verifier.verify("hang", SEVEN))
        latest, before = 0.0, time.monotonic()
        while not verdict.done():
            await asyncio.sleep(0.01)
            latest, before = max(latest, time.monotonic() - before), time.monotonic()
        assert verdict.result().kind == "timeout"
        assert latest < 0.5


async def test_answers_wait_for_the_next_worker_and_cancelled_ones_do_not_matter(hostile: RewardSection) -> None:
    async with Verifier(hostile) as verifier:
        cancelled = asyncio.create_task(verifier.verify("hang", SEVEN))
        waiting = [asyncio.create_task(verifier.verify(text, SEVEN)) for text in ("7", "8", "exit", "7") * 3]
        await asyncio.sleep(0)
        cancelled.cancel()
        verdicts = await asyncio.gather(*waiting)
    assert [(verdict.kind, verdict.correct) for verdict in verdicts] == [
        ("scored", True), ("scored", False), ("error", False), ("scored", True),
    ] * 3  # fmt: skip


async def test_a_worker_killed_while_idle_costs_one_answer_at_most(hostile: RewardSection) -> None:
    async with Verifier(hostile) as verifier:
        os.kill(int((await verifier.verify("pid", SEVEN)).score), 9)
        verdicts = [await verifier.verify("7", SEVEN) for _ in range(2)]
    assert verdicts[0].kind in ("error", "scored")
    assert verdicts[1].correct


async def test_a_batch_of_a_step_is_fast_and_hostile_mathematics_is_a_timeout() -> None:
    tasks = load_problems(ProblemsSection(num_train=128, num_heldout=2), 0).train
    async with Verifier(RewardSection(timeout_s=2.0)) as verifier:
        before = time.monotonic()
        verdicts = await asyncio.gather(
            *(verifier.verify(f"\\boxed{{{task.label.answer}}}", task.label) for task in tasks)
        )
        took_s = time.monotonic() - before
        assert all(verdict.correct for verdict in verdicts)
        assert took_s < 1.0
        assert (await verifier.verify("\\boxed{9^{9^{9^{9}}}}", SEVEN)).kind == "timeout"
        assert (await verifier.verify("\\boxed{" * 50_000, SEVEN)).kind == "no_answer"
        assert (await verifier.verify("\\boxed{14/2}", SEVEN)).correct


async def test_a_scorer_that_cannot_be_had_is_a_clear_error_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"reward\.scorer = 'no_such_module:f'"):
        async with Verifier(RewardSection(scorer="no_such_module:f", num_workers=2)):
            pass
    (tmp_path / "dies_at_import.py").write_text("raise RuntimeError('broken module')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ProcessEndedError, match="broken module"):
        async with Verifier(RewardSection(scorer="dies_at_import:f")):
            pass
