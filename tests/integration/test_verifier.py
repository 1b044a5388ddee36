"""The verifier against real worker processes: hostile scorers are killed, the event loop never waits for one."""

import asyncio
import contextlib
import json
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.problems import ProblemsSection
from pipeline.config.rollout import RewardSection
from pipeline.errors import ConfigError
from pipeline.problems.dataset import load_problems
from pipeline.rewards.verifier import Verifier
from tests.builders import task_with
from tests.hostile_answers import hostile as hostile_answers

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
SEVEN = task_with("7")


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
            assert (await verifier.verify(text, SEVEN)).kind == kind, text
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


async def test_a_batch_of_a_step_is_fast_and_hostile_mathematics_stalls_nothing() -> None:
    tasks = load_problems(ProblemsSection(num_train=128, num_heldout=2), 0).train
    async with Verifier(RewardSection(timeout_s=2.0)) as verifier:
        before = time.monotonic()
        verdicts = await asyncio.gather(*(verifier.verify(f"\\boxed{{{task.label.answer}}}", task) for task in tasks))
        took_s = time.monotonic() - before
        assert all(verdict.correct for verdict in verdicts)
        assert took_s < 1.0
        assert (await verifier.verify("\\boxed{\\int_0^1 \\int_0^1 xy dx dy}", SEVEN)).kind == "error"
        for answer in ("\\prod_{k=1}^{10^6} (x+k)", "9^{9^{9^{9}}}"):
            verdict = await verifier.verify(f"\\boxed{{{answer}}}", SEVEN)
            assert verdict.kind == "scored" and not verdict.correct
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
    with pytest.raises(ConfigError, match="importing 'dies_at_import' raised RuntimeError: broken module"):
        async with Verifier(RewardSection(scorer="dies_at_import:f")):
            pass


MAX_OF_ENGLISH = 103


def labelled_answers() -> list[dict[str, Any]]:
    """Every pair of a gold answer and the end of a response, with whether it is to be accepted."""
    files = sorted((Path(__file__).parents[1] / "data").glob("answer_pairs*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


async def test_verdicts_agree_with_labelled_answers() -> None:
    pairs = labelled_answers()
    assert len(pairs) >= 300 and len({pair["category"] for pair in pairs}) >= 14
    num_equal = sum(pair["equal"] for pair in pairs)
    assert min(num_equal, len(pairs) - num_equal) >= len(pairs) / 3
    async with Verifier(RewardSection(scorer="math")) as verifier:
        verdicts = await asyncio.gather(*(verifier.verify(pair["text"], task_with(pair["gold"])) for pair in pairs))
    differ, num_of_english = Counter[str](), 0
    for pair, verdict in zip(pairs, verdicts, strict=True):
        if pair.get("english"):
            # Told by a sentence alone ("Wait, that is wrong.", "He makes $18 every day."), which nothing here reads: it
            # is the other verdict, and one that is right by now loses its mark.
            assert verdict.correct != pair["equal"] and verdict.kind in ("scored", "no_answer"), pair
            num_of_english += 1
            continue
        if verdict.correct != pair["equal"] or verdict.kind not in ("scored", "no_answer"):
            wrong = "a miss" if pair["equal"] else "a false equal"
            differ[f"{pair['category']}: {wrong} ({verdict.kind}): {pair['gold']!r} and {pair['text']!r}"] += 1
    assert not differ, "\n".join(differ)
    assert num_of_english <= MAX_OF_ENGLISH


def waited_s() -> float:
    """Seconds that this thread was ready to run but the machine gave it no core."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    return 0.0


def worker_peaks() -> dict[str, int]:
    """Most memory that each process started from this thread has had resident, in bytes, by process number."""
    found = {}
    for name in Path("/proc/thread-self/children").read_text().split():
        with contextlib.suppress(OSError, IndexError):
            status = Path(f"/proc/{name}/status").read_text()
            found[name] = 1024 * int(status.partition("VmHWM:")[2].split()[0])
    return found


class LoopWatch:
    """How late the event loop was at most, and how long it was at work at a stretch; and the memory of its workers.

    Late without what the machine kept its thread waiting for a core. On an overloaded machine that is not the whole of
    it (starting a process suspends the thread until the child has had a core), and only the work is a measure.
    """

    def __init__(self) -> None:
        self.latest_s = self.longest_work_s = 0.0
        self.peaks: dict[str, int] = {}
        self.idle_bytes = max(worker_peaks().values())

    async def run(self) -> None:
        number = 0
        while True:
            before_s, before_waited_s, before_work_s = time.monotonic(), waited_s(), time.thread_time()
            await asyncio.sleep(0.01)
            late_s = time.monotonic() - before_s - 0.01 - (waited_s() - before_waited_s)
            self.latest_s = max(self.latest_s, late_s)
            self.longest_work_s = max(self.longest_work_s, time.thread_time() - before_work_s)
            number += 1
            if number % 20 == 0:
                self.peaks |= worker_peaks()  # the kernel's own maximum: it only grows


@pytest.mark.parametrize("num", [40, pytest.param(None, marks=pytest.mark.slow)], ids=["small", "full"])
async def test_hostile_answers_stall_nothing(num: int | None) -> None:
    """Each has a verdict within 6 s and 1 GiB, none is accepted, and the loop is never late by more than 100 ms."""
    answers = hostile_answers()
    names = sorted(answers)
    if num is not None:
        names = random.Random(0).sample(names, num)
    assert len({answers[name] for name in names}) >= (num or 300)
    took_s: dict[str, float] = {}
    kinds = Counter[str]()
    async with Verifier(RewardSection(scorer="math", timeout_s=5.0)) as verifier:
        watch = LoopWatch()
        watching = asyncio.create_task(watch.run())
        for name in names:
            # The worker is ready again: what is measured is this answer, not the start after the one before.
            assert (await verifier.verify("\\boxed{7}", SEVEN)).correct, f"after {name}"
            before_s = time.monotonic()
            verdict = await verifier.verify(answers[name], SEVEN)
            took_s[name] = time.monotonic() - before_s
            kinds[verdict.kind] += 1
            assert not verdict.correct, name
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
    slowest = max(took_s, key=lambda name: took_s[name])
    peak_bytes = max(watch.peaks.values())
    overloaded = os.getloadavg()[0] > (os.cpu_count() or 1)
    print(
        f"{dict(kinds)}; slowest {took_s[slowest]:.2f} s ({slowest}); loop late by {watch.latest_s * 1000:.0f} ms, at "
        f"work for {watch.longest_work_s * 1000:.0f} ms at most; a worker's memory {watch.idle_bytes >> 20} MiB idle, "
        f"{peak_bytes >> 20} MiB at most{'; the machine was overloaded' if overloaded else ''}"
    )
    assert peak_bytes - watch.idle_bytes < 1 << 30
    assert watch.longest_work_s < 0.1
    assert took_s[slowest] < (12.0 if overloaded else 6.0), slowest
    assert overloaded or watch.latest_s < 0.1
