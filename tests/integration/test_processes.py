"""Children are started without a fork; a learner whose process dies does not wait for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.rewards.code.sandbox import isolation_problem

CODE = """
import sys, threading
from trainer import processes
processes.BROKEN_GRACE_S = 0.0
report = lambda reason: print("reported:", reason, flush=True)
with processes.WorkerProcesses(2, [sys.executable, "-c", "raise SystemExit({status})"], report):
    for thread in threading.enumerate():
        if thread.daemon:
            thread.join()
"""


@pytest.mark.parametrize(("status", "expected"), [(3, 1), (0, 0)])
def test_rank_0_ends_after_a_child_that_failed(repository: Path, status: int, expected: int) -> None:
    """As where NCCL notices nothing until its time-out."""
    command = [sys.executable, "-c", CODE.format(status=status)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=50)
    assert done.returncode == expected, done.stderr
    assert ("process 1 of the learner ended with status 3" in done.stderr) == (status == 3)
    assert ("reported: process 1 of the learner ended with status 3" in done.stdout) == (status == 3)


# A hook of Python's and one of the C library: both run at a fork, neither at what `subprocess` does.
WITHOUT_A_FORK = """
import asyncio, ctypes, os, sys, threading
from pathlib import Path

from pipeline.config.rollout import RewardSection
from pipeline.rewards.code.sandbox import isolation_problem, started
from pipeline.rewards.verifier import Verifier
from pipeline.run.provenance import code_state
from pipeline.runtime.child_process import Child
from pipeline.runtime.event_loop import run
from pipeline.runtime.hardware import hardware
from tests.builders import task_with
from servers.supervisor import Outcome, Supervisor
from trainer.processes import WorkerProcesses

forks = []
os.register_at_fork(before=lambda: forks.append("python"))
hook = ctypes.CFUNCTYPE(None)(lambda: forks.append("libc"))
ctypes.CDLL(None).__register_atfork(hook, None, None, None)
threading.Thread(target=threading.Event().wait, daemon=True).start()
here, contained = Path(sys.argv[1]), sys.argv[2] == "contained"


def check(what):
    assert not forks, f"{what}: {forks}"
    print(what)


async def main():
    assert "uvloop" in type(asyncio.get_running_loop()).__module__
    child = await Child.start("helper", ["cat"], here / "log", stdin=True)
    await child.stop(5.0)
    check("Child")
    async with Verifier(RewardSection(scorer="math", num_workers=1)) as verifier:
        assert (await verifier.verify("the answer is 7", task_with("7"))).correct
    check("Verifier")
    if contained:
        sandbox = await started("candidate", 5.0)
        await sandbox.ready()
        await sandbox.end()
    check("sandbox")


run(main())
assert (isolation_problem() is None) == contained
hardware()
code_state(Path.cwd())
check("probes")
with WorkerProcesses(2, [sys.executable, "-c", ""]):
    pass
check("learner")
del os.environ["WORLD_SIZE"], os.environ["RANK"]
server = Supervisor(["true"], os.environ, here / "server", lambda: False, max_restarts=0, startup_timeout_s=60.0)


async def live():
    stop = asyncio.create_task(asyncio.Event().wait())
    assert await server._live(stop) == (Outcome.DIED_IN_START, 0)


asyncio.run(live())
check("server")
assert os.fork() or os._exit(0)
assert forks == ["python", "libc"], "they would have been seen"
"""


def test_no_child_is_started_by_a_fork_of_this_process(repository: Path, tmp_path: Path) -> None:
    contained = "not contained" if isolation_problem() else "contained"
    command = [sys.executable, "-c", WITHOUT_A_FORK, str(tmp_path), contained]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["Child", "Verifier", "sandbox", "probes", "learner", "server"]
