# ruff: noqa: E501
"""The kernel's memory, which no limit of a process counts: what takes it is refused, or counted and ended."""

from __future__ import annotations

import os
import signal
import time

import pytest

from pipeline.config.rollout import RewardSection
from pipeline.rewards.code import sandbox
from pipeline.rewards.code.sandbox import MAX_FILES_MADE, Sandbox, started
from pipeline.rewards.code.test_runner import run_tests
from pipeline.rewards.verifier import Verifier
from tests.builders import task_with

PROBLEM = sandbox.isolation_problem()
pytestmark = pytest.mark.skipif(PROBLEM is not None, reason=f"programs not run: {PROBLEM}")

REFUSED = {
    "mknod": "os.mknod('/tmp/n', 0o100600)",
    "fifo": "os.mkfifo('/tmp/n')",
    "symlink": "os.symlink('x' * 4000, '/tmp/l')",
    "link": "open('/tmp/a', 'w').close(); os.link('/tmp/a', '/tmp/b')",
    "attributes": "open('/tmp/a', 'w').close(); os.setxattr('/tmp/a', 'user.a', bytes(60000))",
    "locks": "import fcntl; fcntl.lockf(open('/tmp/a', 'w'), fcntl.LOCK_EX, 1, 7)",
    "large pipe": "import fcntl; fcntl.fcntl(os.pipe()[0], fcntl.F_SETPIPE_SZ, 1 << 20)",
    "socket": "import socket; socket.socket()",
    "descriptors under way": "import socket; a, b = socket.socketpair(); socket.send_fds(a, [b'x'], [0])",
    "memory without a file": "os.memfd_create('m')",
    "watches": "check(libc.inotify_init())",
    "timers": "check(libc.timer_create(0, 0, ctypes.byref(ctypes.c_int())))",
    "rules": "check(libc.syscall(444, 0, 0, 1))",
    "shared memory": "check(libc.shmget(0, 1 << 20, 0o1600))",
    "queues": "check(libc.msgget(0, 0o1600))",
    "children": "os.fork()",
}
HEAD = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\ndef check(result):\n    if result < 0: raise OSError(ctypes.get_errno(), 'refused')\n"
ENDLESS = {
    "empty files": "os.close(os.open(f'/tmp/{n}', os.O_CREAT))",
    "folders": "os.mkdir(f'/tmp/{n}')",
    "folders in folders": "os.mkdir('d'); os.chdir('d')",
    "files without a name": "os.close(os.open('/tmp', os.O_TMPFILE | os.O_RDWR))",
    "long names": "os.close(os.open(f'/tmp/{n:0250d}', os.O_CREAT))",
    "renamed files": "os.close(os.open('/tmp/a', os.O_CREAT)); os.rename('/tmp/a', f'/tmp/{n}')",
    "nodes": "os.mknod(f'/tmp/{n}')",
    "symlinks": "os.symlink('x' * 4000, f'/tmp/{n}')",
    "locks": "fcntl.lockf(file, fcntl.LOCK_EX, 1, 2 * n)",
    "socket pairs": "kept.append(socket.socketpair())",
    "pipes": "kept.append(os.pipe())",
    "maps": "kept.append(mmap.mmap(-1, 4096, prot=1 + n % 2))",
    "names that are not there": "os.path.exists(f'/usr/lib/{n}')",
}
"""Bodies of a loop that goes on after an error."""


@pytest.mark.parametrize("name", REFUSED)
async def test_what_takes_the_kernels_memory_is_refused(name: str) -> None:
    program = f"{HEAD}def f():\n    try:\n        {REFUSED[name]}\n    except (PermissionError, BlockingIOError) as error:\n        return type(error).__name__\n"
    outcome = await run_tests(program, "assert f() == 'PermissionError'", "f", timeout_s=20.0)
    assert outcome.kind == "passed", outcome


@pytest.mark.parametrize("name", ENDLESS)
async def test_a_loop_of_it_has_its_verdict_in_time(name: str) -> None:
    body = "import fcntl, mmap, os, socket\ndef f(x):\n    kept, n, file = [], 0, open('/tmp/file', 'w')\n    while True:\n        n += 1\n"
    program = f"```python\n{body}        try: {ENDLESS[name]}\n        except OSError: pass\n```"
    async with Verifier(RewardSection(scorer="code")) as verifier:
        begin_s = time.monotonic()
        verdict = await verifier.verify(program, task_with("", tests="assert f(1) == 2", entry_point="f"))
        assert time.monotonic() - begin_s < 6
    assert not verdict.correct


@pytest.mark.parametrize("name", ["empty files", "folders", "long names"])
async def test_files_are_counted_and_end_their_program(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    num_files = Sandbox.num_files

    def counted(self: Sandbox) -> int:
        counts.append(num_files(self))
        return counts[-1]

    monkeypatch.setattr(Sandbox, "num_files", counted)
    program = f"import os\ndef f(x):\n    for n in range(10**9): {ENDLESS[name]}\n"
    outcome = await run_tests(program, "f(1)", "f", timeout_s=20.0)
    assert outcome.kind == "failed", outcome
    assert MAX_FILES_MADE < max(counts) < 20 * MAX_FILES_MADE


async def test_counting_the_files_of_a_sandbox_that_ends_is_no_fault() -> None:
    for _ in range(20):
        one = await started("candidate", 5.0)
        await one.ready()
        for pid in one._inside():
            os.kill(pid, signal.SIGKILL)
        while one.process.returncode is None:
            assert one.num_files() in (0, 1)
        assert one.num_files() == 0
        await one.end()
