"""20,000 rollouts and 200 SIGKILLs of the orchestrator, counted: none lost that was acknowledged, each trained exactly
once (docs/promises.md: 1, 2, 12). Learners are killed too, alone or with their orchestrator.

Two runs, with S = 0 and S = 1, each with half of the kills and all of the rollouts. What was acknowledged and what was
trained is told by wrappers around the program (crash_child), not by the program. With S = 0 the run must also equal one
that was left alone."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration import crash_ledger
from tests.integration.crash_driver import LONGEST_SESSION_S, Driver, assert_equal, mock_endpoint

NUM_GROUPS, GROUP_SIZE = 25, 8
OPTIONS = {
    "rollout__num_problems_per_step": NUM_GROUPS,
    "rollout__group_size": GROUP_SIZE,
    "learner__num_groups_per_micro_batch": 5,
    "learner__kl_coef": 0.0,
}
# Steps that are left for the session which nobody kills.
MARGIN = 6
START_S = 8.0
VICTIMS = ("orchestrator", "orchestrator", "both", "both", "learner")


@pytest.fixture
def mock_url(repository: Path) -> Iterator[str]:
    with mock_endpoint(repository) as url:
        yield url


class Killer:
    """Kills sessions of one run at drawn moments, so that the kills are spread over its steps."""

    def __init__(self, driver: Driver, name: str, num_steps: int, rng: random.Random) -> None:
        self._driver, self._name, self._num_steps, self._rng = driver, name, num_steps, rng
        self._start_s = START_S
        """From the start of a session to its first acknowledgement, as it was last."""
        self.killed: Counter[str] = Counter()

    def kill(self, num_left: int) -> None:
        """One session. Of `num_left` more kills this one is the first."""
        rng, process = self._rng, self._driver.start(self._name)
        steps_left = self._num_steps - self._num_trained() - MARGIN
        # Sessions that only their learner's death ends count for nothing, and train as well.
        share = max(0, steps_left) * (1 - VICTIMS.count("learner") / len(VICTIMS)) / num_left
        num_groups = int(rng.uniform(-0.3, 1.7) * share * NUM_GROUPS)
        victim = rng.choice(VICTIMS)
        try:
            if num_groups > 0:
                self._wait_for(process, num_groups)
                time.sleep(rng.uniform(0.0, 0.5) * min(1.0, share))
            else:
                self._wait_for(process, 1, rng.uniform(0.0, self._start_s))
            self._end(process, victim)
        finally:
            process.kill()
            process.wait()

    def _wait_for(self, process: subprocess.Popen[bytes], num_groups: int, most_s: float = math.inf) -> None:
        """Until so many groups more were acknowledged, or `most_s` passed."""
        begin_s, before = time.monotonic(), self._num_acknowledged()
        while process.poll() is None and (now := self._num_acknowledged()) < before + num_groups:
            if time.monotonic() - begin_s > most_s:
                return
            if now == before:
                self._start_s = max(START_S, time.monotonic() - begin_s)
            assert time.monotonic() - begin_s < LONGEST_SESSION_S, self._driver.output(self._name)
            time.sleep(0.02)

    def _end(self, process: subprocess.Popen[bytes], victim: str) -> None:
        assert process.poll() is None, f"it ended before it was killed:\n{self._driver.output(self._name)}"
        learners = learners_of(self._driver.folder(self._name), process.pid) if victim != "orchestrator" else []
        if victim != "learner" or not learners:
            process.kill()
            self.killed["orchestrator"] += 1
        for pid in learners:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.killed["learner"] += 1
        # Of an orchestrator that lost its learner nothing is asked but that it ends; a resume begins at once otherwise.
        assert process.wait(timeout=LONGEST_SESSION_S) != 0

    def _num_acknowledged(self) -> int:
        file = self._driver.ledger(self._name)
        return file.read_bytes().count(b'{"acknowledged"') if file.exists() else 0

    def _num_trained(self) -> int:
        file = self._driver.ledger(self._name)
        return len(crash_ledger.read(file).trained) if file.exists() else 0


def learners_of(folder: Path, parent: int) -> list[int]:
    """Learner processes of the run in `folder` that `parent` started."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and f"trainer.learner\0--run\0{folder}\0".encode() in (
                (process / "cmdline").read_bytes()
            ):
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == parent:
                    found.append(int(process.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_steps", "num_kills"), [pytest.param(10, 8, id="small"), pytest.param(100, 100, id="full")]
)
@pytest.mark.parametrize("staleness", [0, 1])
def test_nothing_acknowledged_is_lost_and_each_rollout_is_trained_once(
    tmp_path: Path, repository: Path, mock_url: str, staleness: int, num_steps: int, num_kills: int
) -> None:
    options = {**OPTIONS, "learner__num_steps": num_steps, "rollout__max_staleness": staleness}
    driver = Driver(tmp_path, repository, mock_url, num_problems=500, hidden_size=64, **options)
    killer = Killer(driver, "broken", num_steps, random.Random(200 + staleness))
    while (num_killed := killer.killed["orchestrator"]) < num_kills:
        killer.kill(num_kills - num_killed)
        print(
            f"{time.strftime('%H:%M:%S')} {dict(killer.killed)} {driver.ledger('broken').stat().st_size} bytes",
            flush=True,
        )
    broken = driver.finish("broken")
    figures = crash_ledger.assert_nothing_lost_nothing_twice(driver.ledger("broken"), broken)
    print(f"S = {staleness}: {dict(killer.killed)} killed; {figures}; {len(broken.lineages())} lineages")
    if staleness == 0:
        assert_equal(broken, driver.finish("unbroken"))
